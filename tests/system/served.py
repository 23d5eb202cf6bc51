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
from pathlib import Path


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

    def settled(self, seconds=5, alone=True):
        """The metrics, once nothing lives any more: no request, no page, and (alone) no connection but the one that asks."""
        end = time.monotonic() + seconds
        while True:
            m = self.metrics()
            busy = [m[f"rocmforge_{name}"] for name in ("requests_running", "requests_queued", "kv_pages_used", "http_connections")]
            if sum(busy[:3]) == 0 and not (alone and busy[3] > 1):
                return m
            assert time.monotonic() < end, busy
            time.sleep(0.005)

    def memory_kb(self, name="VmRSS"):  # or VmHWM, the most there was
        return int(re.search(rf"^{name}:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text(), re.M)[1])

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


def http(path, body, *headers, method="POST"):
    """A request, as bytes."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: test", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def read_all(s):
    """What comes until the server closes."""
    text = b""
    while piece := s.recv(65536):
        text += piece
    return text


@contextlib.contextmanager
def served(*options, **more):
    s = Served(*options, **more)
    try:
        yield s
    finally:
        code = s.stop()
    assert code == 0, s.lines[-20:]
