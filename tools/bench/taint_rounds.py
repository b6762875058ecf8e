"""Real ext4 errors, one at a time: the kernel's timestamp of the error to the HTTP 200 of the taint's patch.

Everything is real: ext4 on a loop device, the agent in enforce mode, etcd and kube-apiserver with TLS. The agent
takes the time (evidence_to_ack). A round in which it exceeds the time since the trigger was another's error (some
other trouble of this machine): it is counted in the note, not in the figure. Between two rounds the agent lifts its taint.
"""
import random
import statistics
import sys
import time

from agent_run import Agent
from kube_server import BrokenFilesystem, agent_config

ROUND_LIMIT_S = 60


def wait_for(agent, wanted):
    """The status for which `wanted` holds, or None after ROUND_LIMIT_S."""
    deadline = time.monotonic() + ROUND_LIMIT_S
    while time.monotonic() < deadline:
        status = agent.ask("status")
        if status and wanted(status["act"]):
            return status
        time.sleep(0.02)
    return None


# `value` of rank share * n, as a bar wants it: no interpolation.
def quantile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measure(server, rounds):
    """(latencies in ms, what else there is to say) of `rounds` errors; `server` is a KubeServer with a node `bench`."""
    latencies, others = [], 0
    with BrokenFilesystem() as filesystem:
        # Longer than a tick, so that at least one status shows the taint and its reason; short for 220 rounds.
        config = agent_config(server, "bench", 0.7)
        with Agent("--config", config, kubernetes=True) as agent:
            agent.wait_for_verdict()
            status = wait_for(agent, lambda act: act["known"] and act["acked"])
            assert status, "the agent never got hold of its node"
            last = status["act"]["last_evidence_to_ack_s"]
            while len(latencies) < rounds:
                assert others < rounds, "this machine has errors of its own all the time"
                assert wait_for(agent, lambda act: act["acked"] and not act["tainted"]), "the taint was not lifted"
                time.sleep(random.uniform(0.0, 0.5))  # any phase of the agent's timer
                before = filesystem.trigger()
                status = wait_for(agent, lambda act: act["tainted"] and act["last_evidence_to_ack_s"] != last)
                assert status, f"round {len(latencies)}: error without a taint within {ROUND_LIMIT_S} s"
                elapsed = time.monotonic() - before
                last = status["act"]["last_evidence_to_ack_s"]
                if last > elapsed or status["act"]["taint_reason"] != "FilesystemError":
                    others += 1  # somebody else's error on this machine, before ours
                    print(f"not ours: {elapsed:.3f} s since the error: {status['act']}", file=sys.stderr)
                    continue
                latencies.append(1000 * last)
                if len(latencies) % 20 == 0:
                    print(f"{len(latencies)} rounds, median {statistics.median(latencies):.1f} ms", file=sys.stderr)
            conflicts, failures = status["act"]["conflicts"], status["act"]["failures"]
    return latencies, (f"{len(latencies)} errors; min {min(latencies):.1f}, max {max(latencies):.1f} ms; "
                       f"{conflicts} conflicts, {failures} failures, {others} rounds lost to other errors")
