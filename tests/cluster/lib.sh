# For the tests of this tier: a cluster of two nodes with the agent's image, gone when the test ends, and an ext4 on node-a
# that reports errors when asked to. Sourced; $1 is the build folder.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$(realpath "${1:-build/release}")
kube_dir=${VEDETTE_KUBE_DIR:-/var/cache/vedette/kubernetes-v1.36.3}

name=$(basename "$0")
skip() { echo "SKIPPED $name: $1"; exit 77; }
((EUID == 0)) || skip "namespaces, mounts and probes need root"
command -v go >/dev/null || [[ -x $kube_dir/bin/kubelet ]] || skip "no 'go' on PATH to build kubelet"
for program in containerd runc /usr/lib/cni/bridge; do
  command -v "$program" >/dev/null || skip "no '$program' here; tools/packages install cluster"
done

dir=$(mktemp -d /tmp/vedette-cluster.XXXXXX)
cluster() { tools/cluster "$1" "$dir/cluster" "${@:2}"; }
kubectl() { cluster kubectl "$@"; }
host_agent=
clean() {
  [[ -z $host_agent ]] || kill "$host_agent" 2>/dev/null || true
  cluster down
  rm -rf "$dir"
}
trap clean EXIT
trap 'exit 130' INT TERM

fail() {
  kubectl get pods -A -o wide >&2 || true
  kubectl -n vedette-system logs --tail 10 --prefix -l app.kubernetes.io/name=vedette-agent >&2 || true
  echo "$name: $*" >&2
  exit 1
}
# wait_for SECONDS WHAT COMMAND…: until COMMAND succeeds.
wait_for() {
  local limit=$((SECONDS + $1))
  until "${@:3}"; do
    ((SECONDS < limit)) || fail "not within $1 s: $2"
    sleep .2
  done
}
agent_on() { # NODE: the pod of its agent
  kubectl -n vedette-system get pods -l app.kubernetes.io/name=vedette-agent --field-selector "spec.nodeName=$1" \
    -o json | jq -r '[.items[] | select(.metadata.deletionTimestamp == null) | .metadata.name][0] // empty'
}
v() { # NODE ARGUMENT…: `vedette` in the pod there
  kubectl -n vedette-system exec "$(agent_on "$1")" -- vedette "${@:2}"
}
answers() { v "$1" status --json >"$dir/status" 2>/dev/null || (($? <= 2)); }

start() {
  tools/image "$dir/agent.tar"
  cluster up $$
  cluster load "$dir/agent.tar"
}

mount_ext4() {
  truncate -s 16M "$dir/ext4"
  mkfs.ext4 -q "$dir/ext4"
  mkdir "$dir/mount"
  cluster on node-a mount -o loop,errors=continue "$dir/ext4" "$dir/mount"
}
# shellcheck disable=SC2016  # for the shell on the node
trigger() { cluster on node-a sh -c 'echo 1 >"/sys/fs/ext4/$(basename "$(findmnt -no SOURCE "$1")")/trigger_fs_error"' sh "$dir/mount"; }

taint() { kubectl get node node-a -o 'jsonpath={range .spec.taints[*]}{.key}={.value}:{.effect}{"\n"}{end}' | grep '^vedette'; }
tainted() { taint >/dev/null; }
