# Sourced by the scenarios in faults/, in the guest: what they ask the agent that `checks` has started. A scenario
# ends with 0 when the agent counted the fault it made, 77 with "SKIPPED: why" where it cannot be made or counted.
set -euo pipefail
fail() { echo "$*"; exit 1; }
skip() { echo "SKIPPED: $*"; exit 77; }
v() { vedette --socket /run/agent.sock "$@" || (($? <= 2)); }

export DM_DISABLE_UDEV=1 # dmsetup makes the nodes: there is no udev

# metric NAME: the node's value; 0 while there is none.
metric() {
  wget -qO- http://127.0.0.1:9111/metrics |
    awk -v name="$1{" 'index($1, name) == 1 && (!/entity=/ || /entity="node"/) { sum += $2 } END { printf "%.6f\n", sum }'
}
# gauge NAME: the node's value, or that there is none.
gauge() {
  wget -qO- http://127.0.0.1:9111/metrics |
    awk -v name="$1{" 'index($1, name) == 1 && /entity="node"/ { value = $2 } END { print value == "" ? "missing" : value }'
}
# labelled NAME LABEL: the sum of a metric's series with this label, such as 'device="8:0"'; "missing" where there is none.
labelled() {
  wget -qO- http://127.0.0.1:9111/metrics |
    awk -v name="$1{" -v label="$2" 'index($1, name) == 1 && index($0, label) { sum += $NF; found = 1 } END { if (found) printf "%.12g\n", sum; else print "missing" }'
}
# records TYPE: how many of these records the probes sent.
records() {
  wget -qO- http://127.0.0.1:9111/metrics |
    awk -v series="vedette_events_produced_total{type=\"$1\"}" '$1 == series { print $2 }'
}
# probe_counts PROBE: all its counters of the node, summed.
probe_counts() {
  local signal sum=0
  for signal in $(v probes --json | jq -r --arg p "$1" '.probes[] | select(.name == $p) | .signals[]'); do
    sum=$(awk -v a="$sum" -v b="$(metric "vedette_${signal}_total")" 'BEGIN { print a + b }')
  done
  echo "$sum"
}
need_probe() {
  local state
  state=$(v probes --json | jq -r --arg p "$1" '.probes[] | select(.name == $p) | .state')
  [[ -n $state ]] || skip "the agent has no probe $1"
  [[ $state == attached ]] || skip "probe $1 is $state here"
}
need_module() { modprobe "$@" 2>/dev/null || skip "this kernel has no module $1"; }
# scsi_disk OPTION…: a SCSI disk of 8 MB (scsi_debug) until the scenario ends; its name is in `disk`.
scsi_disk() {
  need_module sd_mod
  need_module scsi_debug dev_size_mb=8 "$@"
  trap 'sleep 1; rmmod scsi_debug' EXIT
  sleep 1
  disk=$(basename /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block/*)
}

# at_least BEFORE MORE COMMAND…: what COMMAND prints is MORE above BEFORE, at the latest in 15 s: a tick is half
# a second, and the guest's CPUs share one of the host's.
at_least() {
  local before=$1 more=$2 limit=$((SECONDS + 15)) now
  shift 2
  while now=$("$@"); ! awk -v a="$before" -v b="$more" -v c="$now" 'BEGIN { exit !(c - a >= b) }'; do
    ((SECONDS < limit)) || fail "$*: $before before, $now after, expected $more more"
    sleep .3
  done
}
# traced EVENT FILTER (0: all): from here on the kernel writes these down itself; `traces` says how many they are.
traced() {
  tracing=/sys/kernel/tracing
  [[ -d $tracing/events ]] || mount -t tracefs tracefs $tracing
  echo 0 >$tracing/events/enable # of an earlier scenario
  echo >$tracing/trace
  echo 1 >$tracing/tracing_on # an oops turns it off
  echo "$2" >"$tracing/events/$1/filter"
  echo 1 >"$tracing/events/$1/enable"
}
traces() { grep -vc "^#" $tracing/trace || true; }
exactly() {
  local now
  at_least "$@"
  sleep 1 # whatever would be too many has its tick, too
  now=$("${@:3}")
  awk -v a="$1" -v b="$2" -v c="$now" 'BEGIN { exit !(c - a == b) }' || fail "${*:3}: $1 before, $now after, expected exactly $2 more"
}
becomes() { # becomes VALUE COMMAND…: that is what COMMAND prints, at the latest in 20 s
  local limit=$((SECONDS + 20)) now
  until now=$("${@:2}") && [[ $now == "$1" ]]; do
    ((SECONDS < limit)) || fail "${*:2}: $now, expected $1"
    sleep .3
  done
}
condition() { # condition REASON: the agent says so, about the node
  local limit=$((SECONDS + 10))
  until v status --json | jq -e --arg r "$1" '.conditions[] | select(.reason == $r)' >/dev/null; do
    ((SECONDS < limit)) || fail "no condition $1: $(v status --json | jq -c '[.conditions[].reason]')"
    sleep .3
  done
}
# near_and_far: a link of two devices, `near` here and `far` in a network namespace of that name, until the end.
near_and_far() {
  ip netns add far
  trap 'ip netns del far' EXIT
  ip link add near type veth peer name far netns far
  ip addr add 192.0.2.1/24 dev near
  ip netns exec far ip addr add 192.0.2.2/24 dev far
  ip link set near up
  ip netns exec far ip link set far up
}
# softnet COLUMN: of all CPUs, as the kernel counts: 2 dropped packets, 3 turns spent.
softnet() {
  local figures sum=0
  while read -ra figures; do sum=$((sum + 16#${figures[$1 - 1]})); done </proc/net/softnet_stat
  echo $sum
}
# QEMU's monitor, at the third serial port.
hardware() { echo "$*" >/dev/ttyS2; }
read_sector() { dd if="$1" of=/dev/null bs=512 skip="$2" count=1 iflag=direct 2>/dev/null; }
