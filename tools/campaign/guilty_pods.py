"""Twenty pods of real software (nginx, redis, memcached, PostgreSQL, gcc, sort, gzip) and their clients in cgroups
of their own, what they need outside of them, and an agent that watches: for the campaigns `guilty` and `calm`."""

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from cgroups import Cgroup, cgroup_mounts, must_be_empty

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "tools/campaign"
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build/release"))
SLICE = "vedette-guilty.slice"
MIB = 1 << 20
POSTGRES = pathlib.Path(shutil.which("initdb") or next(iter(sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))),
                                                         "/missing") / "initdb").parent
UPSTREAM, NAME_SERVER = 18090, "127.0.0.77"
ME = pathlib.Path(sys.argv[0]).name
PROGRAMS = ("nginx", "redis-server", "memcached", "dnsmasq", "iperf3", "iptables", "pgbench", "gcc")


def needs():
    """Ends here, with a sentence, where something is missing."""
    if os.geteuid() != 0:
        sys.exit(f"{ME}: needs root, for cgroups and probes")
    for program in PROGRAMS:
        if shutil.which(program) is None:
            sys.exit(f"{ME}: {program} is missing: tools/packages install campaign")


def pods(scratch):
    """{name: command}: what each pod runs, for ever."""
    def client(kind, target, rate):
        return [sys.executable, str(HERE / "guilty_client.py"), kind, str(target), str(rate)]

    def loop(script):
        return ["sh", "-c", f"while :; do {script}; done"]

    def nginx(name, port, what):
        folder = scratch / name
        folder.mkdir()
        (folder / "index.html").write_text("hello " * 200)
        (folder / "nginx.conf").write_text(f"""
            daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 2;
            events {{}}
            http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
              fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
              server {{ listen 127.0.0.1:{port}; location / {{ {what.format(folder=folder)} }} }} }}""")
        return ["nginx", "-c", str(folder / "nginx.conf")]

    def redis(port):
        return ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]

    def memcached(port):
        return ["memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", str(port), "-t", "2", "-m", "32"]

    database = scratch / "postgres"
    subprocess.run(["install", "-d", "-o", "postgres", str(database)], check=True)
    subprocess.run(["runuser", "-u", "postgres", "--", str(POSTGRES / "initdb"), "-D", str(database), "-A", "trust"],
                   check=True, stdout=subprocess.DEVNULL)
    (scratch / "big").write_bytes(os.urandom(MIB) * 64)
    (scratch / "lines").write_text("\n".join(str(random.randrange(10**9)) for _ in range(100_000)))
    (scratch / "program.c").write_text("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
                                       "int main(void) { return printf(\"%d\", atoi(\"1\")); }\n")
    lock = scratch / "spool.lock"
    worker = f'flock {lock} true; sleep 0.05'
    return {
        "web": nginx("web", 18080, "root {folder};"),
        "proxy": nginx("proxy", 18081, f"proxy_pass http://127.0.0.1:{UPSTREAM}; proxy_connect_timeout 5s;"),
        "cache-a": redis(18001),
        "cache-b": redis(18002),
        "store-a": memcached(18003),
        "store-b": memcached(18004),
        "database": ["runuser", "-u", "postgres", "--", str(POSTGRES / "postgres"), "-D", str(database), "-p", "18005",
                     "-k", str(database), "-c", "listen_addresses=127.0.0.1"],
        "web-client": client("http", "127.0.0.1:18080", 50),
        "proxy-client": client("http", "127.0.0.1:18081", 30),
        "cache-client": client("redis", "127.0.0.1:18001", 50),
        "cache-client-b": client("redis", "127.0.0.1:18002", 20),
        "store-client": client("memcached", "127.0.0.1:18003", 50),
        "store-client-b": client("memcached", "127.0.0.1:18004", 20),
        "resolver": client("dns", NAME_SERVER, 20),
        "ledger": client("fsync", scratch / "ledger", 10),
        "reader": client("read", scratch / "big", 30),
        "spool": client("lock", lock, 20),
        "batch": client("cpu", "-", 20),
        "builder": loop(f"gcc -O1 -o {scratch}/program {scratch}/program.c; sleep 1"),
        "sorter": loop(f"sort {scratch}/lines >/dev/null; sleep 0.9"),
        "packer": loop(f"head -c 2M {scratch}/big | gzip >/dev/null; sleep 0.7"),
        "queue": ["sh", "-c", " ".join(f"(while :; do {worker}; done) &" for _ in range(8)) + " wait"],
        "bench": ["runuser", "-u", "postgres", "--", "sh", "-c",
                  f"cd {database}; until pgbench -i -q -s 2 -h 127.0.0.1 -p 18005 postgres >/dev/null 2>&1; do sleep 1; "
                  "done; exec pgbench -n -R 20 -c 2 -T 1000000 -h 127.0.0.1 -p 18005 postgres"],
    }


class Outside:
    """What the pods need and no pod is: runs where this script runs."""

    def __init__(self, scratch):
        folder = scratch / "upstream"
        folder.mkdir()
        (folder / "index.html").write_text("upstream " * 100)
        (folder / "nginx.conf").write_text(f"""
            daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1; master_process off;
            events {{}}
            http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
              fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
              server {{ listen 127.0.0.1:{UPSTREAM}; root {folder}; }} }}""")
        self.commands = {
            "upstream": ["nginx", "-c", str(folder / "nginx.conf")],
            "names": ["dnsmasq", "-k", "-u", "root", "--no-resolv", "--no-hosts", "--bind-interfaces",
                      f"--listen-address={NAME_SERVER}", "--except-interface=lo", "--address=/test/192.0.2.7",
                      f"--pid-file={folder}/names.pid"],
        }
        self.running = {}
        self.undo = []
        for name in self.commands:
            self.start(name)
        for i in range(2):
            self.commands[f"sink{i}"] = ["iperf3", "-s", "-p", str(18095 + i)]
            self.start(f"sink{i}")

    def start(self, name):
        self.running[name] = subprocess.Popen(self.commands[name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def fail(self, fault, way):
        name = "upstream" if fault == "dead_upstream" else "names"
        if way == "refuse":
            self.running[name].kill()
            self.running[name].wait()
            self.undo.append(lambda: self.start(name))
        elif way == "hang":
            self.running[name].send_signal(signal.SIGSTOP)
            self.undo.append(lambda: self.running[name].send_signal(signal.SIGCONT))
        else:
            rule = ["INPUT", "-p", "tcp", "--dport", str(UPSTREAM), "-j", "DROP"] if name == "upstream" else [
                "INPUT", "-p", "udp", "-d", NAME_SERVER, "--dport", "53", "-j", "DROP"]
            subprocess.run(["iptables", "-I"] + rule, check=True)
            self.undo.append(lambda: subprocess.run(["iptables", "-D"] + rule, check=False))

    def heal(self):
        while self.undo:
            self.undo.pop()()

    def stop(self):
        self.heal()
        for process in self.running.values():
            process.kill()
            process.wait()


class Agent:
    def __init__(self, out, name, learnt=None):
        """Knows what is in `learnt`; leaves what it knows at its end in out/NAME.baselines, its recording beside it."""
        self.out, self.socket, self.log = out, out / "agent.sock", out / f"{name}.log"
        self.baselines = out / f"{name}.baselines"
        self.baselines.unlink(missing_ok=True)
        if learnt:
            shutil.copyfile(learnt, self.baselines)
        config = out / "agent.yaml"
        # Step 0: what the budget gives up on a small and busy machine is not what is asked here.
        config.write_text("budget: {step: 0}\n")
        self.process = subprocess.Popen(
            [str(BUILD / "agent/vedette-agent"), "--standalone", "--config", str(config), "--listen", "", "--socket",
             str(self.socket), "--journal", str(out / "journal.db"), "--record", str(out / f"{name}.rec"),
             "--baselines", str(self.baselines)],
            stdout=self.log.open("w"), stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 60
        while not self.socket.exists() and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)

    def incidents(self):
        if self.process.poll() is not None:
            sys.exit(f"{ME}: the agent ended with {self.process.returncode}; see {self.log}")
        answer = subprocess.run([str(BUILD / "tools/cli/vedette"), "--socket", str(self.socket), "incidents", "--all",
                                 "--json"], capture_output=True, text=True, check=False)
        try:
            return json.loads(answer.stdout)["incidents"]
        except (ValueError, KeyError):
            return []

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        self.process.kill()
        self.process.wait()


def remove_slice(mounts):
    for mount in mounts.values():
        with contextlib.suppress(OSError):
            (mount / SLICE).rmdir()


def is_measured(command):
    """Whether it writes down how long each answer took."""
    return str(HERE / "guilty_client.py") in command


class Pods:
    """All of them running, until it is left."""

    def __init__(self, out):
        self.out, self.cgroups, self.running = out, {}, {}

    def __enter__(self):
        self.mounts = cgroup_mounts()
        must_be_empty(self.mounts, SLICE)
        self.out.mkdir(parents=True, exist_ok=True)
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="vedette-guilty-", dir="/var/tmp"))
        self.scratch.chmod(0o755)
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self.scratch, ignore_errors=True)
            stack.callback(remove_slice, self.mounts)
            self.outside = Outside(self.scratch)
            stack.callback(self.outside.stop)
            stack.callback(self.leave)
            self.commands = pods(self.scratch)
            for name in self.commands:
                (self.out / f"{name}.latency").unlink(missing_ok=True)
                (self.out / f"{name}.log").unlink(missing_ok=True)
                self.start(name)
            time.sleep(5)
            # As kubepods has it: one limit above all pods, 200 MiB more than they use.
            if "memory" in self.mounts:
                memory = self.mounts["memory"] / SLICE
                used = int((memory / "memory.usage_in_bytes").read_text())
                (memory / "memory.limit_in_bytes").write_text(str(used + 200 * MIB))
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self.stack.close()

    def leave(self):
        for name in list(self.cgroups):
            self.stop(name)

    def measured(self):
        return [name for name, command in self.commands.items() if is_measured(command)]

    def start(self, name, command=None):
        """In a cgroup of its own; where it has one, anew in it."""
        if name not in self.cgroups:
            self.cgroups[name] = Cgroup(self.mounts, SLICE, f"{name}.service").__enter__()
        command = command or self.commands[name]
        measured = is_measured(command)
        with (self.out / (f"{name}.latency" if measured else f"{name}.log")).open("a") as log:
            self.running.setdefault(name, []).append(
                subprocess.Popen(command, stdout=log, stderr=subprocess.DEVNULL if measured else log,
                                 preexec_fn=self.cgroups[name].join, start_new_session=True))

    def stop(self, name):
        """Ends its tasks and removes its cgroup."""
        self.cgroups.pop(name).__exit__()
        for process in self.running.pop(name, []):
            process.wait()
