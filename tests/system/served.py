"""A server for tests: the real program on a free port of the loopback, ended by SIGTERM."""
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request


class Served:
    def __init__(self, *options, binary=None, model=None, wait=True):
        binary, model = binary or os.environ["ROCMFORGE_BIN"], model or os.environ["ROCMFORGE_MODEL"]
        self.process = subprocess.Popen(
            [binary, "serve", "-m", model, "--port", "0", *map(str, options)], stderr=subprocess.PIPE, text=True
        )
        self.lines = []
        first = self.process.stderr.readline()
        self.lines.append(first)
        found = re.search(r"listening on (https?)://(\S+):(\d+)", first)
        assert found, first + self.process.stderr.read()
        self.scheme, self.port = found[1], int(found[3])
        self.context = ssl._create_unverified_context() if self.scheme == "https" else None
        self.url = f"{self.scheme}://127.0.0.1:{self.port}"
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        if wait:
            self.wait_ready()

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line)

    def wait_ready(self, seconds=30):
        end = time.monotonic() + seconds
        while self.get("/ready")[0] != 200:
            assert time.monotonic() < end and self.process.poll() is None, self.lines
            time.sleep(0.02)

    def ask(self, method, path, body=None, headers=None):
        """(status, text, headers)"""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json", **(headers or {})}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60, context=self.context) as reply:
                return reply.status, reply.read().decode(), reply.headers
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode(), e.headers

    def get(self, path, **more):
        return self.ask("GET", path, **more)

    def post(self, path, body, **more):
        return self.ask("POST", path, body, **more)

    def metrics(self):
        """{name with labels: value}"""
        rows = (line.rsplit(" ", 1) for line in self.get("/metrics")[1].splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in rows}

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def stop(self, seconds=20):
        """The exit code, after SIGTERM."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@contextlib.contextmanager
def served(*options, **more):
    s = Served(*options, **more)
    try:
        yield s
    finally:
        code = s.stop()
    assert code == 0, s.lines[-20:]
