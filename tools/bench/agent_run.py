"""The agent as the benchmarks start it (on its own socket, stopped at the end; without Kubernetes unless asked) and
what it uses; the programs that load the machine meanwhile; and how a figure is told."""

import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
import time

BUILD = pathlib.Path(os.environ.get("BUILD", "build/release"))


class Agent:
    def __init__(self, *arguments, kubernetes=False, config=""):
        """`config`: the text of its configuration file."""
        self.dir = tempfile.TemporaryDirectory(prefix="vedette-bench.")
        if config:
            pathlib.Path(self.dir.name, "agent.yaml").write_text(config)
            arguments = (*arguments, "--config", f"{self.dir.name}/agent.yaml")
        self.socket = f"{self.dir.name}/agent.sock"
        self.log = open(f"{self.dir.name}/log", "w+")
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [BUILD / "agent/vedette-agent", *([] if kubernetes else ["--standalone"]), "--listen", "",
             "--socket", self.socket, *arguments],
            stdout=self.log, stderr=subprocess.STDOUT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=10)
        self.log.close()
        self.dir.cleanup()

    def ask(self, *command):
        """The JSON that `vedette COMMAND --json` prints, or None while the agent does not answer."""
        run = subprocess.run([BUILD / "tools/cli/vedette", "--socket", self.socket, *command, "--json"],
                             capture_output=True, text=True, check=False)
        return json.loads(run.stdout) if run.returncode <= 2 and run.stdout else None

    def wait_for_verdict(self, limit=10):
        """Seconds from start to the first answered verdict."""
        while time.monotonic() - self.started < limit:
            if self.ask("status"):
                return time.monotonic() - self.started
            if self.process.poll() is not None:
                break
            time.sleep(0.005)
        self.log.seek(0)
        raise SystemExit(f"the agent gave no verdict within {limit} s:\n{self.log.read()}")

    def cpu_seconds(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self):
        """Resident memory without the pages of BPF maps it has mapped: map_bytes() counts those."""
        total = of_maps = 0
        in_map = False
        for line in open(f"/proc/{self.process.pid}/smaps"):
            if "-" in line.split(" ", 1)[0]:
                in_map = "bpf" in line
            elif line.startswith("Rss:"):
                total += int(line.split()[1])
                of_maps += int(line.split()[1]) if in_map else 0
        return (total - of_maps) * 1024

    def _bpf(self, kind):
        """What /proc says of the agent's BPF objects of a kind ("map", "prog"), by id: some have two descriptors."""
        objects = {}
        for info in pathlib.Path(f"/proc/{self.process.pid}/fdinfo").iterdir():
            try:
                fields = dict(line.split(":\t", 1) for line in info.read_text().splitlines() if ":\t" in line)
            except FileNotFoundError:
                continue
            if f"{kind}_id" in fields:
                objects[fields[f"{kind}_id"].strip()] = fields
        return objects

    def map_bytes(self):
        """Memory of the agent's BPF maps as the kernel accounts it."""
        return sum(int(info["memlock"]) for info in self._bpf("map").values() if "memlock" in info)  # not of a link to one

    def memory_mib(self):
        return (self.rss_bytes() + self.map_bytes()) / 2**20

    def slots(self):
        """{"used", "free"}: cgroups that have a slot, and slots that wait for one."""
        return bpf_objects("slots", *self._bpf("map"))

    def program_cost(self, seconds=5):
        """(Share of one CPU that the agent's BPF programs take, their runs per second), as the kernel measures them
        when it is asked to: reading the clock around each run is part of it."""
        cost = bpf_objects("cost", str(seconds), *self._bpf("prog"))
        return cost["ns"] / 1e9 / seconds, cost["runs"] / seconds


def bpf_objects(*words):
    return json.loads(subprocess.run([BUILD / "tools/bench/bpf_objects", *words], stdout=subprocess.PIPE,
                                     check=True).stdout)


@contextlib.contextmanager
def held(*command, by_signal=False):
    """As long as `command` runs: it has begun when it prints "ready", and ends when its input does, or by a signal."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            for line in holder.stdout:
                if line == "ready\n":
                    break
            else:
                raise SystemExit(f"{command[0]} did not start")
            yield holder
        finally:
            if by_signal:
                holder.terminate()
            try:
                holder.communicate(timeout=60)  # bpftrace prints its maps: read, or it never ends
            except subprocess.TimeoutExpired:
                holder.kill()


def figure(name, value, unit, bar, better="lower", note=""):
    print(json.dumps({"name": name, "value": value, "unit": unit, "bar": bar, "better": better, "note": note}),
          flush=True)
