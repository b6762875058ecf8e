"""The agent as the benchmarks start it: on its own socket, stopped at the end; without Kubernetes unless asked."""

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
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def map_bytes(self):
        """Memory of the agent's BPF maps as the kernel accounts it; a map that several descriptors share, once."""
        maps = {}
        for info in pathlib.Path(f"/proc/{self.process.pid}/fdinfo").iterdir():
            try:
                text = info.read_text()
            except FileNotFoundError:
                continue
            if "map_id:" in text:
                maps[text.split("map_id:")[1].split()[0]] = int(text.split("memlock:")[1].split()[0])
        return sum(maps.values())


def figure(name, value, unit, bar, better="lower", note=""):
    print(json.dumps({"name": name, "value": value, "unit": unit, "bar": bar, "better": better, "note": note}),
          flush=True)
