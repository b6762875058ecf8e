# Shared by tests/cli/*_test: starts the real agent without Kubernetes on a socket of its own and stops it at the
# end, whatever happened. Usage: build=$1; source lib.sh; start_agent [OPTION…]; v status …
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=$(realpath "${1:-build/release}")
dir=$(mktemp -d /tmp/vedette-test.XXXXXX)
agent=

fail() { echo "${0##*/}: $*" >&2; [[ -f $dir/log ]] && tail -20 "$dir/log" >&2; exit 1; }
v() { "$build/tools/cli/vedette" --socket "$dir/agent.sock" "$@"; }

stop_agent() {
  [[ -n $agent ]] || return 0
  kill "$agent" 2>/dev/null || true
  wait "$agent" || fail "the agent ended with $?"
  agent=
}
clean() { stop_agent || true; [[ $(type -t undo) == function ]] && undo; rm -rf "$dir"; }
trap clean EXIT

start_agent() {
  "$build/agent/vedette-agent" --standalone --listen "${listen:-}" --socket "$dir/agent.sock" \
    --journal "${journal:-}" --flight "${flight:-}" --baselines "${baselines:-}" "$@" >"$dir/log" 2>&1 &
  agent=$!
  for ((i = 0; i < 200; i++)); do
    kill -0 "$agent" 2>/dev/null || fail "the agent did not start"
    v status --json >"$dir/status.json" 2>/dev/null || (($? <= 2)) && return 0
    sleep 0.05
  done
  fail "no verdict within 10 s"
}

# wait_for SECONDS COMMAND…: until COMMAND succeeds.
wait_for() {
  local limit=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < limit)) || return 1
    sleep 0.1
  done
}
