"""A real etcd and kube-apiserver for a benchmark (tests/kube/apiserver), gone when the benchmark ends."""

import contextlib
import datetime
import http.client
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "tests/kube/apiserver"
# Every `with` cleans up on the way out, also when the benchmark is stopped.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


class KubeServer:
    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="vedette-kube.")
        self.run("up", str(os.getpid()))
        lines = pathlib.Path(self.dir, "env").read_text().splitlines()
        env = dict(line.split("=", 1) for line in lines)
        self.url, self.ca, self.token_file = env["KUBE_URL"], env["KUBE_CA"], env["KUBE_TOKEN_FILE"]
        self.token = pathlib.Path(self.token_file).read_text().strip()
        self.connection = http.client.HTTPSConnection(
            self.url.removeprefix("https://"), context=ssl.create_default_context(cafile=self.ca), timeout=10)
        return self

    def __exit__(self, *_):
        self.connection.close()
        self.run("down")
        shutil.rmtree(self.dir, ignore_errors=True)

    def run(self, command, *arguments):
        subprocess.run([SCRIPT, command, self.dir, *arguments], check=True, stdout=sys.stderr)

    def request(self, method, path, body=None):
        """(status, answer) of one call as cluster-admin."""
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        self.connection.request(method, path, None if body is None else json.dumps(body),
                                {"Authorization": f"Bearer {self.token}", "Content-Type": kind})
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())

    def log(self):
        """Vedette's requests in the server's audit log."""
        lines = map(json.loads, pathlib.Path(self.dir, "audit.log").read_text().splitlines())
        return [line for line in lines if line.get("userAgent") == "vedette"]

    def requests(self):
        """How many they are: {"watch nodes": 7, ...}."""
        counts = {}
        for request in self.log():
            of = request["objectRef"]
            what = f"{request['verb']} {of['resource']}{'/' if 'subresource' in of else ''}{of.get('subresource', '')}"
            counts[what] = counts.get(what, 0) + 1
        return counts

    def moments(self):
        """When they came in, in seconds since 1970."""
        return sorted(datetime.datetime.fromisoformat(request["requestReceivedTimestamp"].replace("Z", "+00:00")).timestamp()
                      for request in self.log())

    def make_node(self, name):
        status, answer = self.request("POST", "/api/v1/nodes",
                                      {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        assert status == 201, answer

    def our_taints(self, name, key="vedette.dev/unhealthy"):
        status, node = self.request("GET", f"/api/v1/nodes/{name}")
        assert status == 200, node
        return [taint for taint in node["spec"].get("taints", []) if taint["key"] == key]


class BrokenFilesystem:
    """An ext4 on a loop device that reports an error whenever asked to (errors=continue: it goes on)."""

    def __enter__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="vedette-ext4."))
        image, self.mount = self.dir / "image", self.dir / "mount"
        self.mount.mkdir()
        with open(image, "wb") as file:
            file.truncate(16 << 20)
        subprocess.run(["mkfs.ext4", "-q", image], check=True, stdout=sys.stderr)
        subprocess.run(["mount", "-o", "loop,errors=continue", image, self.mount], check=True)
        device = subprocess.run(["findmnt", "-no", "SOURCE", self.mount], check=True, capture_output=True, text=True)
        self.trigger_file = pathlib.Path("/sys/fs/ext4", pathlib.Path(device.stdout.strip()).name, "trigger_fs_error")
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", self.mount], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)

    def trigger(self):
        """Returns the monotonic time just before the error."""
        before = time.monotonic()
        self.trigger_file.write_text("1")
        return before


class Front:
    """Stands before a KubeServer, with the rights of whoever asks. After refuse() a status is all that it answers."""

    def __init__(self, server):
        self.refused_with = None
        self.upstreams = set()
        front = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if front.refused_with:
                    self.send_error(front.refused_with)
                    return
                upstream = http.client.HTTPSConnection(
                    server.url.removeprefix("https://"), context=ssl.create_default_context(cafile=server.ca))
                front.upstreams.add(upstream)
                try:
                    upstream.request(self.command, self.path, body or None,
                                     {name: self.headers[name] for name in ("Authorization", "Content-Type", "Accept")
                                      if name in self.headers})
                    answer = upstream.getresponse()
                    self.send_response(answer.status)
                    self.end_headers()
                    while part := answer.read1(65536):  # a watch has a line now and then
                        self.wfile.write(part)
                except (OSError, http.client.HTTPException):
                    pass  # one end is gone: so is the other's connection
                finally:
                    front.upstreams.discard(upstream)
                    upstream.close()

            do_GET = do_PATCH = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_):
                pass

        self.listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.listener.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.listener.server_port}"

    def refuse(self, status):
        """From now on; None: no longer. Watches end."""
        self.refused_with = status
        for upstream in list(self.upstreams) if status else []:
            if upstream.sock:
                with contextlib.suppress(OSError):
                    upstream.sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown()
        self.listener.server_close()


def agent_config(server, node, recovery_s, url=None, token_file=None):
    """A file for --config: enforce, without the rate limit that a node under test would run into."""
    path = pathlib.Path(server.dir, "agent.yaml")
    path.write_text(f"""\
act: {{mode: enforce, max_taints_per_hour: 1000000}}
policy: {{relapse_doublings: 0}}
assess: {{recovery_s: {recovery_s}}}
kube: {{url: "{url or server.url}", ca: "{server.ca}", token_file: "{token_file or server.token_file}", node_name: {node}, namespace: default,
  start_spread_ms: 0}}
""")
    return path
