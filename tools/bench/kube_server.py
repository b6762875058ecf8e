"""A real etcd and kube-apiserver for a benchmark (tests/kube/apiserver), gone when the benchmark ends."""

import http.client
import json
import os
import pathlib
import shutil
import ssl
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "tests/kube/apiserver"


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

    def make_node(self, name):
        status, answer = self.request("POST", "/api/v1/nodes",
                                      {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        assert status == 201, answer

    def our_taints(self, name, key="vedette.dev/unhealthy"):
        status, node = self.request("GET", f"/api/v1/nodes/{name}")
        assert status == 200, node
        return [taint for taint in node["spec"].get("taints", []) if taint["key"] == key]
