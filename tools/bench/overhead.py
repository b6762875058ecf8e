"""What Vedette adds to a path through the kernel: the one driver of the *-overhead benchmarks.

The ways are: nothing attached; the floor, an empty program on each of Vedette's hooks (empty_probes.cpp); the
whole agent as it is started everywhere; where a peer is named, bpftrace doing the same job. Every round goes
through all ways one after the other, so that a slow minute of the machine slows them all, and measures all
paths in each; a figure is made of the best value of each way: whatever disturbs, makes it worse. The note has
the median of the rounds' own ratios too: far from the figure, the machine was not quiet. Programs of others on
the same hooks make "nothing" more than nothing: then the note says DISTURBED.
"""

import contextlib
import os
import pathlib
import statistics
import subprocess
import sys
import time

from agent_run import BUILD, Agent, figure, held

ROUNDS = int(os.environ.get("ROUNDS", "9"))

# What Vedette tells of every path, in bpftrace's language: a peer that leaves it out does another job.
SYSCALLS = """
tracepoint:raw_syscalls:sys_enter { @start[tid] = nsecs; }
tracepoint:raw_syscalls:sys_exit /@start[tid]/ { @latency[cgroup] = hist(nsecs - @start[tid]); delete(@start[tid]); }
"""
SWITCHES = """
tracepoint:sched:sched_wakeup, tracepoint:sched:sched_wakeup_new { @queued[args->pid] = nsecs; }
tracepoint:sched:sched_switch {
  if (args->prev_state == 0) { @queued[args->prev_pid] = nsecs; }
  $since = @queued[args->next_pid];
  if ($since) { @wait[cgroup] = hist(nsecs - $since); delete(@queued[args->next_pid]); }
}
"""


def empty():
    return held(BUILD / "tools/bench/empty_probes")


@contextlib.contextmanager
def vedette(config="budget: {step: 0}\n"):  # all of it, whatever it costs
    with Agent(config=config) as agent:
        agent.wait_for_verdict()
        time.sleep(1.5)  # it begins with the one second in sixty in which the kernel measures its programs
        yield agent


def bpftrace(script):
    if not pathlib.Path("/sys/kernel/tracing/events").exists():  # it asks for them
        subprocess.run(["mount", "-t", "tracefs", "tracefs", "/sys/kernel/tracing"], check=False)
    return held("bpftrace", "-e", 'BEGIN { printf("ready\\n"); }' + script, by_signal=True)


def path_cost(*path):
    """ns per trip on a path of path_cost.cpp."""
    return lambda: float(subprocess.run([BUILD / "tools/bench/path_cost", *path], stdout=subprocess.PIPE, text=True,
                                        check=True).stdout)


def others_attached():
    return int(subprocess.run([BUILD / "tools/bench/empty_probes", "--others"], stdout=subprocess.PIPE, text=True,
                              check=True).stdout)


class Rounds:
    """`values[path][way]`: what each round measured of the paths {name: function}, in the ways {name: context}. No
    round begins after `limit_s`."""

    def __init__(self, ways, paths, rounds=ROUNDS, limit_s=float("inf")):
        self.values = {path: {way: [] for way in ways} for path in paths}
        self.others = others_attached()
        began = time.monotonic()
        for i in range(rounds):
            if time.monotonic() - began > limit_s:
                print(f"only {i} of {rounds} rounds: this machine is slow now", file=sys.stderr)
                break
            for way, attached in ways.items():
                with attached():
                    for path, measure in paths.items():
                        self.values[path][way].append(measure())
            for path, of in self.values.items():
                told = "  ".join(f"{way} {values[-1]:.0f}" for way, values in of.items())
                print(f"round {i}: {path}: {told}", file=sys.stderr)
        self.others = max(self.others, others_attached())

    def note(self, path, best):
        told = ", ".join(f"{way} {best(values):.0f}" for way, values in self.values[path].items())
        return told + (f"; DISTURBED by {self.others} other programs on the same hooks" if self.others else "")


def ratio(part, whole):
    """NaN, which no bar accepts, where the noise was larger than the floor itself."""
    return part / whole if whole > 0 else float("nan")


def compare(paths, bar, peer=None, peer_bar=1, best=min):
    """Measures paths {figure's name: function} and prints their figures: Vedette's part beside the floor's, `bar` at
    most, and beside that of a bpftrace script, the peer, on the path it is made for: (name of the path, script). `best`
    picks a way's value out of its rounds'."""
    ways = {"nothing": contextlib.nullcontext, "empty": empty, "vedette": vedette}
    if peer:
        ways["bpftrace"] = lambda: bpftrace(peer[1])
    rounds = Rounds(ways, paths)
    for path, of in rounds.values.items():
        def added(way):
            return best(of[way]) - best(of["nothing"])
        each = [ratio(v - n, e - n) for n, e, v in zip(of["nothing"], of["empty"], of["vedette"]) if e > n]
        figure(f"{path}-empty", ratio(added("vedette"), added("empty")), "ratio", bar,
               note=f"ns: {rounds.note(path, best)}; median of {len(each)} rounds {statistics.median(each or [0]):.2f}")
        if peer and peer[0] == path:
            figure(f"{path}-bpftrace", ratio(added("vedette"), added("bpftrace")), "ratio", peer_bar)
