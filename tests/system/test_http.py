"""http.h from outside: the echo server (tests/server) and clients that are slow, broken, hostile, or just leave.

The server is the one beside ROCMFORGE_BIN, so that a sanitized build can be tested the same way.
"""

import contextlib
import os
import random
import re
import resource
import select
import signal
import socket
import ssl
import stat
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest

ECHO = Path(os.environ["ROCMFORGE_BIN"]).parent / "echo_server"
SANITIZED = 300000 * ("asan" in str(ECHO))  # kB that a sanitizer keeps back from what is freed
TICK_S = 0.05  # within which a client that left must have been noticed


class Server:
    """The echo server as a child; its standard output as a list of lines that can be waited for."""

    def __init__(self, *args, files=None, **options):
        limit = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))) if files else None
        self.args = [str(ECHO), *map(str, args), *(f"{k}={v}" for k, v in options.items())]
        self.child = subprocess.Popen(
            self.args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=limit
        )
        self.lines, self.times, self.news = [], [], threading.Condition()
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()
        self.port = int(self.wait("port ").split()[1])

    def listen(self):
        for line in self.child.stdout:
            with self.news:
                self.lines.append(line.rstrip("\n"))
                self.times.append(time.monotonic())
                self.news.notify_all()

    def wait(self, start, n=1, timeout=5):
        """The n-th line that starts so; it may have come already."""
        with self.news:
            assert self.news.wait_for(lambda: len(self.all(start)) >= n, timeout), (start, self.lines)
            return self.all(start)[n - 1]

    def all(self, start):
        return [line for line in self.lines if line.startswith(start)]

    def time_of(self, start, n=1):
        line = self.wait(start, n)
        return [t for t, other in zip(self.times, self.lines) if other.startswith(start)][n - 1] if line else None

    def connect(self, family=socket.AF_INET, address=None):
        s = socket.socket(family, socket.SOCK_STREAM)
        s.settimeout(5)
        s.connect(address or ("127.0.0.1", self.port))
        return s

    def n_connections(self):
        n = len(self.all("connections ")) + 1
        self.child.send_signal(signal.SIGUSR2)
        return int(self.wait("connections ", n).split()[1])

    def status(self, name):
        text = Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(rf"^{name}:\s+(\d+)", text, re.M)[1])

    def cpu_s(self):
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, code=0):
        if self.child.stderr.closed:
            return
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        got = self.child.wait(10)
        self.listener.join()
        with self.child.stderr as errors:
            assert (got, errors.read()) == (code, "")


@pytest.fixture
def serve():
    servers = []

    def start(*args, **options):
        servers.append(Server(*(args or ("127.0.0.1:0",)), **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def plain():
    server = Server("127.0.0.1:0")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A self-signed certificate and its key, and a second pair."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("one", "two"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
             "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout",
             folder / f"{name}.key", "-out", folder / f"{name}.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
    return folder


# ---- a client ------------------------------------------------------------------------------------------------------


def request(path="/echo", method="GET", headers=(), body=None, version="1.1"):
    lines = [f"{method} {path} HTTP/{version}", "Host: test", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


class Reader:
    """Replies off a socket, one by one, as strict as it can be."""

    def __init__(self, s):
        self.s, self.pending = s, b""

    def more(self):
        piece = self.s.recv(65536)
        self.pending += piece
        return piece != b""

    def until(self, end):
        while end not in self.pending:
            assert self.more(), self.pending
        found, self.pending = self.pending.split(end, 1)
        return found

    def take(self, n):
        while len(self.pending) < n:
            assert self.more(), self.pending
        found, self.pending = self.pending[:n], self.pending[n:]
        return found

    def rest(self):
        while self.more():
            pass
        found, self.pending = self.pending, b""
        return found

    def reply(self, head=False):
        lines = self.until(b"\r\n\r\n").decode().split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d{3}) [A-Za-z ]*", lines[0])
        assert match, lines
        names = [line.split(": ", 1)[0].lower() for line in lines[1:]]
        assert len(set(names)) == len(names), lines
        headers = dict(zip(names, (line.split(": ", 1)[1] for line in lines[1:])))
        status = int(match[1])
        if head or status in (100, 204, 304):
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body, n = b"", 1
            while n:
                n = int(self.until(b"\r\n"), 16)
                body += self.take(n)
                assert self.take(2) == b"\r\n"
        elif "content-length" in headers:
            body = self.take(int(headers["content-length"]))
        else:
            body = self.rest()
        return status, headers, body

    def is_over(self):
        return self.rest() == b""


def ask(s, *args, head=False, **options):
    s.sendall(request(*args, **options))
    return Reader(s).reply(head)


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


# ---- requests and replies ------------------------------------------------------------------------------------------


def test_keep_alive(plain):
    with plain.connect() as s:
        for i in range(3):
            status, headers, body = ask(s, f"/ec%68o?n={i}", "POST", ["X-Test: \t a b "], b"body %d" % i)
            assert (status, headers.get("connection")) == (200, None)
            assert body.startswith(b"POST /echo\nquery n=%d\npeer 127.0.0.1:%d\n" % (i, s.getsockname()[1]))
            assert body.endswith(b"host: test\nx-test: a b\nbody 6\nbody %d" % i)
        for byte in request("/echo", headers=["Connection: close"]):
            s.sendall(bytes([byte]))
        reader = Reader(s)
        assert reader.reply()[1]["connection"] == "close" and reader.is_over()


def test_http_1_0(plain):
    with plain.connect() as s:
        assert ask(s, version="1.0", headers=["Connection: keep-alive"])[1]["connection"] == "keep-alive"
        s.sendall(request("/stream?3,4,5", version="1.0", headers=["Connection: keep-alive"]))
        reader = Reader(s)
        status, headers, body = reader.reply()
        assert (status, headers["connection"], body) == (200, "close", b"x" * 12) and "transfer-encoding" not in headers
    with plain.connect() as s:
        s.sendall(request(version="1.0"))
        reader = Reader(s)
        assert reader.reply()[1]["connection"] == "close" and reader.is_over()


def test_pipelining(plain):
    with plain.connect() as s:
        paths = ["/later?80", "/echo?1", "/stream?3,2,10", "/echo?2", "/status?204", "/echo?3", "/later?1"]
        s.sendall(b"".join(request(p, "POST", body=b"b" * 100) for p in paths))
        reader = Reader(s)
        replies = [reader.reply() for _ in paths]
        assert [r[0] for r in replies] == [200, 200, 200, 200, 204, 200, 200]
        bodies = [r[2] for r in replies]
        assert bodies[0] == bodies[6] == b"later" and bodies[2] == b"xxxxxx"
        assert [b.split(b"\n")[1] for b in bodies[1:6:2]] == [b"query 1", b"query 2", b"query 3"]


@pytest.mark.parametrize("first, n", [("/echo", 6000), ("/later?50", 1500)])
def test_many_pipelined(plain, first, n):
    """Far more than is read ahead behind replies that are sent at once; within what is, behind one that is not."""
    with plain.connect() as s:
        data = request(first) + b"".join(request(f"/echo?{i}") for i in range(n))
        sender = threading.Thread(target=s.sendall, args=(data,))
        sender.start()
        reader = Reader(s)
        reader.reply()
        for i in range(n):
            assert b"\nquery %d\n" % i in reader.reply()[2]
        sender.join()


def test_too_many_pipelined(plain):
    """More than is read ahead while a handler is at work: the reply comes, and nothing after it."""
    with plain.connect() as s:
        s.sendall(request("/later?200") + request() * 5000)
        reader = Reader(s)
        status, headers, body = reader.reply()
        assert (status, headers["connection"], body) == (200, "close", b"later") and reader.is_over()


def test_chunked_request(plain):
    with plain.connect() as s:
        head = request("/echo", "POST", ["Transfer-Encoding: chunked"])
        for byte in head + b"3\r\nabc\r\n0a;x=y\r\n0123456789\r\n0\r\nX-Test: trailer\r\n\r\n":
            s.sendall(bytes([byte]))
        body = Reader(s).reply()[2]
        assert body.endswith(b"body 13\nabc0123456789") and b"trailer" not in body
        assert ask(s)[0] == 200


def test_large_body(plain):
    data = random.Random(1).randbytes(8 << 20)
    with plain.connect() as s:
        assert ask(s, "/echo", "POST", body=data)[2].endswith(b"body %d\n" % len(data) + data)


def test_head_and_no_content(plain):
    with plain.connect() as s:
        status, headers, body = ask(s, method="HEAD", head=True)
        assert status == 200 and int(headers["content-length"]) > 0
        assert ask(s, "/stream?2,2,1", "HEAD", head=True)[1]["transfer-encoding"] == "chunked"
        assert "content-length" not in ask(s, "/status?204")[1]
        assert "content-length" not in ask(s, "/status?304")[1]
        assert ask(s, "/stream?2,2,1")[2] == b"xxxx"
    plain.wait("done HEAD /stream 200 0")


def test_a_header_cannot_be_injected(plain):
    with plain.connect() as s:
        headers = ask(s, "/header")[1]
        assert headers["x-evil"] == "a  X-Injected: yes " and "x-injected" not in headers


def test_pieces_are_sent_at_once(plain):
    with plain.connect() as s:
        s.sendall(request("/stream?5,3,60"))
        reader, times = Reader(s), []
        reader.until(b"\r\n\r\n")
        for _ in range(5):
            assert reader.until(b"\r\nxxx\r\n") == b"3"
            times.append(time.monotonic())
        gaps = [b - a for a, b in zip(times, times[1:])]
        assert min(gaps) > 0.02, gaps  # not in lumps


def test_expect_continue(serve):
    server = serve(max_body_bytes=1000)
    with server.connect() as s:
        reader = Reader(s)
        for _ in range(2):
            s.sendall(request("/echo", "POST", ["Expect: 100-continue", "Content-Length: 5"]))
            assert reader.reply() == (100, {}, b"")
            s.sendall(b"hello")
            assert reader.reply()[2].endswith(b"body 5\nhello")
        s.sendall(request("/echo", "POST", ["Expect: 100-continue"], b"hello"))  # it did not wait
        assert reader.reply()[2].endswith(b"body 5\nhello")
        s.sendall(request("/echo", "POST", ["Expect: 100-continue", "Content-Length: 1001"]))
        assert reader.reply()[0] == 413 and reader.is_over()


REFUSED = {  # by which status is what refused
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 400,
    b"\x16\x03\x01\x02\x00\x01\x00": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n": 413,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n": 413,
    b"GET /" + b"a" * 9000: 414,
    b"GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n": 417,
    b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 40000: 431,
    b"GET / HTTP/2.0\r\n\r\n": 505,
}


@pytest.mark.parametrize("refuse", [0, 1])
def test_refused(serve, refuse):
    server = serve(max_body_bytes=1 << 20, **({"refuse": 1} if refuse else {}))
    for n, (data, status) in enumerate(REFUSED.items(), 1):
        with server.connect() as s:
            s.sendall(request() + data + request() * 3)
            reader = Reader(s)
            assert reader.reply()[0] == 200
            got, headers, body = reader.reply()
            assert (got, headers["connection"]) == (status, "close"), data
            assert (headers["content-type"], body.startswith(b"refused: ")) == (
                ("text/x-why", True) if refuse else ("text/plain", False)
            )
            assert reader.is_over()
            done = server.wait("done ", 2 * n)
            assert done.split()[-2:] == [str(status), str(len(body))]


def test_the_reason_arrives_while_the_body_is_still_coming(serve):
    """A close with unread bytes would reset the connection, and the client would never read why."""
    server = serve(max_body_bytes=1000)
    for _ in range(5):
        with server.connect() as s:
            s.sendall(request("/echo", "POST", ["Content-Length: 4000000"]))
            time.sleep(0.02)  # the reply is there before the client looks
            s.sendall(b"x" * 4000000)
            time.sleep(0.02)
            reader = Reader(s)
            assert reader.reply()[0] == 413 and reader.is_over()


def test_bodies_have_a_budget(serve):
    server = serve(max_bodies_bytes=1 << 20)
    body = b"x" * 700000
    with server.connect() as one, server.connect() as two:
        one.sendall(request("/later?300", "POST", body=body))
        server.wait("port")
        while server.n_connections() < 2:
            pass
        time.sleep(0.1)
        two.sendall(request("/echo", "POST", body=body))
        reader = Reader(two)
        assert reader.reply()[0] == 503 and reader.is_over()
        assert Reader(one).reply()[2] == b"later"
    with server.connect() as s:
        assert ask(s, "/echo", "POST", body=body)[0] == 200


# ---- time ----------------------------------------------------------------------------------------------------------


def test_slow_requests(serve):
    """The deadline counts from the first byte, however often a further one comes."""
    server = serve(header_timeout_ms=300, body_timeout_ms=500, idle_timeout_ms=5000)
    cases = [(b"", request(), 0.3), (request() + b"POST", b" /x HTTP/1.1\r\nA: b" * 20, 0.3),
             (request("/", "POST", ["Content-Length: 1000"]), b"x" * 1000, 0.5),
             (request("/", "POST", ["Transfer-Encoding: chunked"]), b"1\r\nx\r\n" * 200, 0.5)]  # fmt: skip
    clients = []
    for start, drops, limit_s in cases:
        s = server.connect()
        s.sendall(start)
        clients.append([s, drops, limit_s, time.monotonic(), None])
    while any(client[4] is None for client in clients):
        for client in clients:
            s, drops, _, _, ended = client
            if ended is None and b"HTTP/1.1 408" in (s.recv(65536, socket.MSG_PEEK) if select.select([s], [], [], 0)[0] else b""):
                client[4] = time.monotonic()
            elif ended is None:
                s.sendall(drops[:1])
                client[1] = drops[1:]
        time.sleep(0.02)
    for s, _, limit_s, began, ended in clients:
        assert limit_s - 0.05 < ended - began < limit_s + 0.5
        reader = Reader(s)
        replies = [reader.reply()]
        if replies[0][0] == 200:
            replies.append(reader.reply())
        assert replies[-1][0] == 408 and reader.is_over()
        s.close()


def test_idle_connections_close_in_silence(serve):
    server = serve(idle_timeout_ms=200, header_timeout_ms=5000)
    with server.connect() as fresh, server.connect() as used:
        began = time.monotonic()
        assert ask(used)[0] == 200
        assert Reader(fresh).is_over() and Reader(used).is_over()
        assert 0.15 < time.monotonic() - began < 1
        assert [line for line in server.lines if line.startswith("done")] == [server.wait("done GET /echo 200")]


def test_a_handler_may_take_its_time(serve):
    server = serve(idle_timeout_ms=100, header_timeout_ms=100, body_timeout_ms=100, write_timeout_ms=100)
    with server.connect() as s:
        assert ask(s, "/later?400", "POST", body=b"x")[2] == b"later"
        assert ask(s, "/stream?2,1,250")[2] == b"xx"


@pytest.mark.parametrize("secure", [False, True])
def test_a_client_that_never_reads(serve, certificate, secure):
    options = {"tls_cert": certificate / "one.pem", "tls_key": certificate / "one.key"} if secure else {}
    server = serve(write_timeout_ms=500, max_pending_bytes=65536, **options)
    with wrap_tls(server.connect(), certificate) if secure else server.connect() as s:
        before_kb = server.status("VmRSS")
        s.sendall(request("/flood?400000000"))
        began = time.monotonic()
        server.wait("paused")
        server.wait("gone /flood", timeout=3)
        assert time.monotonic() - began > 0.45
        assert server.status("VmHWM") - before_kb < (SANITIZED or 3000)
        sent = int(server.wait("done GET /flood 499").split()[-1])
        assert sent < 12 << 20  # the kernel's buffers at both ends
    assert server.n_connections() == 0


def test_a_client_that_reads_slowly(serve):
    """It takes longer than the write timeout, and that is its right as long as something moves."""
    server = serve(write_timeout_ms=300, max_pending_bytes=65536)
    n = 6000000
    with server.connect() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100000)
        s.sendall(request(f"/flood?{n}"))
        server.wait("paused")
        got, began = 0, time.monotonic()
        while time.monotonic() - began < 1:
            got += len(s.recv(65536))
            time.sleep(0.02)
        assert server.all("gone") == [] and got > 0
        reader = Reader(s)
        while not reader.pending.endswith(b"\r\n0\r\n\r\n"):
            reader.pending = reader.pending[-100:]
            assert reader.more()
    assert len(server.all("resumed")) > 3
    server.wait(f"done GET /flood 200 {n}")


# ---- clients that leave --------------------------------------------------------------------------------------------

LEAVE = {"close": socket.socket.close, "half": lambda s: s.shutdown(socket.SHUT_WR), "reset": reset}
STATES = {
    "pending": ("/hang", b""),
    "streaming": ("/stream?100000,10,5", b""),
    "pipelined": ("/hang", request() * 10),
    "garbage": ("/hang", b"\n" * 100000),  # more than is read ahead
    "flood": ("/hang", request() * 4000),
    "stream-flood": ("/stream?100000,10,5", request() * 4000),
}


def wrap_tls(s, certificate, name="one"):
    context = ssl.create_default_context(cafile=certificate / f"{name}.pem")
    return context.wrap_socket(s, server_hostname="localhost", suppress_ragged_eofs=False)


@pytest.fixture(scope="module", params=["tcp", "unix", "tls"])
def any_server(request, certificate, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("unix") / "socket")
    options = {"tls_cert": certificate / "one.pem", "tls_key": certificate / "one.key"}
    server = Server(f"unix:{path}" if request.param == "unix" else "127.0.0.1:0", **(options if request.param == "tls" else {}))

    def connect():
        if request.param == "unix":
            return server.connect(socket.AF_UNIX, path)
        return wrap_tls(server.connect(), certificate) if request.param == "tls" else server.connect()

    server.open = connect
    yield server
    server.stop()


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("way", LEAVE)
def test_a_client_that_leaves_is_noticed(any_server, state, way):
    path, more = STATES[state]
    for attempt in range(3):  # a busy machine may delay one; a server that does not notice, or polls, delays all
        n = len(any_server.all("gone")) + 1
        s = any_server.open()
        s.sendall(request(path) + more)
        time.sleep(0.05)
        assert len(any_server.all("gone")) == n - 1
        left = time.monotonic()
        LEAVE[way](s)
        took = any_server.time_of("gone", n) - left
        s.close()
        if took < TICK_S:
            break
    assert took < TICK_S
    assert any_server.n_connections() == 0 and len(any_server.all("gone")) == n


def test_a_stream_is_whole(any_server):
    """Not read at first, so that pieces go out in parts, and wait behind others."""
    with any_server.open() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100000)
        for path, n in (("/flood?6000000", 6000000), ("/stream?6,1000000,20", 6000000)):
            s.sendall(request(path))
            time.sleep(0.2)
            assert Reader(s).reply()[2] == b"x" * n


def test_a_reply_on_its_way_reaches_who_half_closed(any_server):
    s = any_server.open()
    s.sendall(request("/stream?1,400000,100"))
    time.sleep(0.3)  # the whole reply is written, more than the kernel may hold
    if not isinstance(s, ssl.SSLSocket):
        s.shutdown(socket.SHUT_WR)
    assert len(Reader(s).reply()[2]) == 400000
    s.close()


def test_a_client_that_half_closes_and_leaves_before_it_has_the_reply(any_server):
    s = any_server.open()
    s.sendall(request("/stream?1,20000000,1"))  # more than kernels hold
    any_server.wait("done GET /stream 200 20000000", len(any_server.all("done GET /stream 200 20000000")) + 1)
    s.shutdown(socket.SHUT_WR)
    time.sleep(0.05)
    assert any_server.n_connections() == 1
    s.close()
    time.sleep(0.05)
    before = any_server.cpu_s()
    assert any_server.n_connections() == 0
    time.sleep(0.1)
    assert any_server.cpu_s() - before < 0.05


def test_a_flood_costs_no_memory(serve):
    server = serve()
    with server.connect() as s:
        s.sendall(request("/hang"))
        server.wait("hanging")
        before_kb = server.status("VmRSS")
        s.setblocking(False)
        sent = 0
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            with contextlib.suppress(BlockingIOError):
                sent += s.send(request() * 1000)
        assert sent > 10 << 20 and server.status("VmHWM") - before_kb < (SANITIZED or 600)
    server.wait("gone /hang")


# ---- many clients --------------------------------------------------------------------------------------------------


def test_out_of_descriptors(serve):
    server = serve(files=40)
    clients = [server.connect() for _ in range(60)]
    time.sleep(0.15)
    served = server.n_connections()
    assert 20 < served < 40
    before = server.cpu_s()
    time.sleep(0.5)
    assert server.cpu_s() - before < 0.05  # it rests
    assert ask(clients[0])[0] == 200
    for s in clients[:30]:
        s.close()
    for s in clients[30:]:  # those that waited get their turn
        assert ask(s)[0] == 200
        s.close()
    with server.connect() as s:
        assert ask(s)[0] == 200


def test_max_connections(serve):
    server = serve(max_connections=3)
    clients = [server.connect() for _ in range(3)]
    assert [ask(s)[0] for s in clients] == [200] * 3
    for _ in range(3):
        with server.connect() as s:
            s.sendall(request())
            reader = Reader(s)
            assert reader.reply()[0] == 503 and reader.is_over()
    clients.pop().close()
    while server.n_connections() > 2:
        time.sleep(0.01)
    with server.connect() as s:
        assert ask(s)[0] == 200
    for s in clients:
        s.close()


def test_idle_connections_cost_nothing(serve):
    server = serve()
    clients = [server.connect() for _ in range(500)]
    for s in clients[:250]:
        assert ask(s)[0] == 200
    assert server.n_connections() == 500
    time.sleep(0.1)
    before = server.status("voluntary_ctxt_switches"), server.cpu_s()
    time.sleep(1)
    assert (server.status("voluntary_ctxt_switches"), server.cpu_s()) == before
    for s in clients:
        s.close()


def test_a_vanished_client_is_asked(plain):
    """TCP keepalive: the timer of our end of the connection is armed (its kind 2, in /proc/net/tcp)."""
    with plain.connect() as s:
        assert ask(s)[0] == 200
        time.sleep(0.1)
        ends = f":{plain.port:04X}", f":{s.getsockname()[1]:04X}"
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        timers = [x[5] for x in lines if x[1].endswith(ends[0]) and x[2].endswith(ends[1])]
        assert [t[:2] for t in timers] == ["02"]


def test_chaos(serve, certificate):
    """Clients that do anything at any time. Nothing may be left, and nothing may break (least of all under asan)."""
    rng = random.Random(os.environ.get("CHAOS_SEED", "7"))
    options = {"tls_cert": certificate / "one.pem", "tls_key": certificate / "one.key"}
    servers = [serve(max_pending_bytes=4096, header_timeout_ms=100, body_timeout_ms=100, idle_timeout_ms=200,
                     write_timeout_ms=150, max_body_bytes=100000, max_connections=25, max_bodies_bytes=300000, **tls)
               for tls in ({}, options)]  # fmt: skip
    paths = ["/echo", "/hang", "/later?20", "/stream?20,100,1", "/flood?3000000", "/status?204", "/%zz"]
    messages = [*REFUSED, *(request(p, "POST", body=b"x" * n) for p in paths for n in (0, 10, 90000))]
    clients = []
    until = time.monotonic() + float(os.environ.get("CHAOS_S", 1.5))
    while time.monotonic() < until:
        if len(clients) < 30:
            server = rng.choice(servers)
            try:
                s = server.connect()
                clients.append(wrap_tls(s, certificate) if server is servers[1] and rng.random() < 0.9 else s)
                clients[-1].setblocking(False)
            except OSError:
                s.close()
        s = rng.choice(clients)
        try:
            match rng.randrange(8):
                case 0 | 1 | 2 | 3:
                    data = b"".join(rng.choices(messages, k=rng.choice([1, 1, 2, 5, 300])))
                    s.send(data[: rng.choice([len(data), rng.randrange(len(data)), rng.randrange(200)])])
                case 4 | 5:
                    while rng.random() < 0.9:
                        s.recv(100000)
                case 6:
                    s.shutdown(socket.SHUT_WR)
                case 7:
                    clients.remove(s)
                    reset(s) if rng.random() < 0.5 else s.close()
        except OSError:
            pass
    for s in clients:
        s.close()
    for server in servers:
        until = time.monotonic() + 7  # lingering ends after 5 s, if a client is slow to close
        while server.n_connections() > 0:
            assert time.monotonic() < until, server.n_connections()
            time.sleep(0.02)
        assert server.child.poll() is None
        assert len(server.all("hanging")) == len(server.all("gone /hang"))


# ---- addresses -----------------------------------------------------------------------------------------------------


def test_unix_socket(serve, tmp_path):
    path, open_path = tmp_path / "s", tmp_path / "open"
    server = serve(f"unix:{path}", "127.0.0.1:0")
    serve(f"unix:{open_path}", unix_any_user=1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(open_path.stat().st_mode) == 0o666
    with server.connect(socket.AF_UNIX, str(path)) as s:
        assert b"\npeer unix\n" in ask(s)[2]
    with server.connect() as s:
        assert b"\npeer 127.0.0.1:" in ask(s)[2]
    second = subprocess.run([ECHO, f"unix:{path}"], capture_output=True, text=True)
    assert second.returncode == 1 and "another process listens" in second.stderr
    server.child.kill()
    server.stop(-signal.SIGKILL)
    assert path.exists()
    third = serve(f"unix:{path}")  # nobody listens on it any more
    with third.connect(socket.AF_UNIX, str(path)) as s:
        assert ask(s)[0] == 200
    third.stop()
    assert not path.exists()


def test_a_file_that_is_not_ours_stays(serve, tmp_path):
    path = tmp_path / "s"
    path.write_text("precious")
    result = subprocess.run([ECHO, f"unix:{path}"], capture_output=True, text=True)
    assert result.returncode == 1 and "no socket" in result.stderr and path.read_text() == "precious"
    server = serve(f"unix:{tmp_path}/t")
    (tmp_path / "t").rename(tmp_path / "moved")
    (tmp_path / "t").write_text("precious")
    server.stop()
    assert (tmp_path / "t").read_text() == "precious"


def test_ipv6(serve):
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    server = serve("[::1]:0")
    with server.connect(socket.AF_INET6, ("::1", server.port)) as s:
        assert b"\npeer [::1]:%d\n" % s.getsockname()[1] in ask(s)[2]
    port = serve("0.0.0.0:0").port
    with serve(f"[::]:{port}").connect(socket.AF_INET6, ("::1", port)) as s:  # :: is not 0.0.0.0 as well
        assert ask(s)[0] == 200


def test_a_name(serve):
    server = serve("localhost:0")
    with server.connect() as s:
        assert ask(s)[0] == 200


@pytest.mark.parametrize(
    "address, words",
    [
        ("nonsense", "not like"),
        ("127.0.0.1", "not like"),
        ("127.0.0.1:", "not like"),
        (":80", "not like"),
        ("127.0.0.1:65536", "not like"),
        ("127.0.0.1:-1", "not like"),
        ("127.0.0.1:8o", "not like"),
        ("::1:80", "not like"),
        ("unix:", "1 to 107"),
        ("unix:/" + "x" * 107, "1 to 107"),
        ("unix:/no/such/folder/s", "No such file"),
        ("203.0.113.7:0", "annot assign"),
        ("no..name:80", "not known"),
    ],
)
def test_bad_addresses(address, words):
    result = subprocess.run([ECHO, address], capture_output=True, text=True)
    assert result.returncode == 1 and words in result.stderr and result.stderr.count("\n") == 1


def test_an_address_in_use(plain):
    result = subprocess.run([ECHO, "127.0.0.1:0", f"127.0.0.1:{plain.port}"], capture_output=True, text=True)
    assert result.returncode == 1 and "in use" in result.stderr


# ---- TLS -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tls(serve, certificate):
    return serve(tls_cert=certificate / "one.pem", tls_key=certificate / "one.key", header_timeout_ms=400)


def test_tls(tls, certificate):
    data = random.Random(2).randbytes(3 << 20)
    with wrap_tls(tls.connect(), certificate) as s:
        assert s.version() == "TLSv1.3"
        for body in (b"hello", data, b""):
            assert ask(s, "/echo", "POST", body=body)[2].endswith(b"body %d\n" % len(body) + body)
        s.sendall(request("/echo", "POST", body=data[:500000]) * 3 + request("/later?50") + request("/flood?3000000"))
        reader = Reader(s)
        for _ in range(3):
            assert reader.reply()[2].endswith(data[:500000])
        assert reader.reply()[2] == b"later"
        assert reader.reply()[2] == b"x" * 3000000
        s.sendall(b"nonsense\r\n\r\n")
        assert reader.reply()[0] == 400
        assert reader.is_over()  # with a close_notify, or Python's ssl complains


def test_tls_half_a_record(tls, certificate):
    """What is not a whole record is not yet a byte of a request, and must not be taken for one."""
    context, incoming, outgoing = ssl.create_default_context(cafile=certificate / "one.pem"), ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with tls.connect() as s:

        def until_done(what, *args):
            while True:
                try:
                    return what(*args)
                except ssl.SSLWantReadError:
                    s.sendall(outgoing.read())
                    incoming.write(s.recv(65536))

        until_done(client.do_handshake)
        client.write(request("/later?100"))
        s.sendall(outgoing.read())
        client.write(request("/echo"))
        record = outgoing.read()
        s.sendall(record[:10])
        assert until_done(client.read, 65536).endswith(b"later")
        time.sleep(0.05)
        assert tls.n_connections() == 1
        s.sendall(record[10:])
        assert b"GET /echo" in until_done(client.read, 65536)


def test_tls_versions(tls, certificate):
    context = ssl.create_default_context(cafile=certificate / "one.pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with context.wrap_socket(tls.connect(), server_hostname="localhost") as s:
        assert s.version() == "TLSv1.2" and ask(s)[0] == 200
    old = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{tls.port}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert "Cipher is (NONE)" in old.stdout


def test_tls_strangers(tls):
    with tls.connect() as s:  # plain HTTP
        s.sendall(request())
        with contextlib.suppress(ConnectionResetError):
            assert not Reader(s).rest().startswith(b"HTTP")
    with tls.connect() as s:  # silence
        began = time.monotonic()
        assert Reader(s).is_over() and 0.3 < time.monotonic() - began < 1.5
    assert tls.n_connections() == 0


def test_tls_max_connections(serve, certificate):
    server = serve(tls_cert=certificate / "one.pem", tls_key=certificate / "one.key", max_connections=1)
    with wrap_tls(server.connect(), certificate) as one, wrap_tls(server.connect(), certificate) as two:
        assert ask(one)[0] == 200 and ask(two)[0] == 503


def test_tls_reload(serve, certificate, tmp_path):
    cert, key = tmp_path / "cert", tmp_path / "key"

    def use(name, key_name=None):
        cert.write_bytes((certificate / f"{name}.pem").read_bytes())
        key.write_bytes((certificate / f"{key_name or name}.key").read_bytes())

    use("one")
    server = serve(tls_cert=cert, tls_key=key)
    old = wrap_tls(server.connect(), certificate, "one")
    use("two", "one")
    server.child.send_signal(signal.SIGHUP)
    assert "key" in server.wait("reload ")
    wrap_tls(server.connect(), certificate, "one").close()
    use("two")
    server.child.send_signal(signal.SIGHUP)
    assert server.wait("reload ", 2) == "reload done"
    with wrap_tls(server.connect(), certificate, "two") as s:
        assert ask(s)[0] == ask(old)[0] == 200
    old.close()


def test_tls_files(certificate, tmp_path):
    secret = tmp_path / "secret.key"
    subprocess.run(
        ["openssl", "pkey", "-in", certificate / "one.key", "-aes256", "-passout", "pass:x", "-out", secret], check=True
    )
    one, two = certificate / "one.pem", certificate / "two.key"
    for cert, key, word in ((one, two, "key"), (one, one, "key"), (two, two, "certificate"), ("/none", two, "/none"), (one, secret, "key")):
        result = subprocess.run(
            [ECHO, "127.0.0.1:0", f"tls_cert={cert}", f"tls_key={key}"], capture_output=True, text=True, timeout=5,
            start_new_session=True,
        )  # fmt: skip
        assert result.returncode == 1 and word in result.stderr and result.stderr.count("\n") == 1
    result = subprocess.run([ECHO, "127.0.0.1:0", f"tls_cert={one}"], capture_output=True, text=True, timeout=5)
    assert result.returncode == 1 and "needs its key" in result.stderr


# ---- curl ----------------------------------------------------------------------------------------------------------


def curl(*args, **options):
    return subprocess.run(["curl", "-sS", "--max-time", "10", *args], capture_output=True, check=True, **options).stdout


@pytest.mark.parametrize("secure", [False, True])
def test_curl(plain, tls, certificate, secure):
    trust = ["--cacert", certificate / "one.pem"] if secure else []
    base = f"https://localhost:{tls.port}" if secure else f"http://127.0.0.1:{plain.port}"
    big = random.Random(3).randbytes(2 << 20)
    assert curl(*trust, f"{base}/a%20b?q").startswith(b"GET /a b\nquery q\n")
    assert curl(*trust, "--data-binary", "@-", f"{base}/echo", input=big).endswith(big)  # with Expect
    assert curl(*trust, "-H", "Transfer-Encoding: chunked", "--data-binary", "@-", f"{base}/echo", input=big).endswith(big)
    assert curl(*trust, "-0", f"{base}/stream?3,3,2") == b"x" * 9
    assert curl(*trust, f"{base}/stream?3,3,2") == b"x" * 9
    assert b"200 OK" in curl(*trust, "-I", f"{base}/echo")
    reused = curl(*trust, "-w", "%{num_connects}", *([f"{base}/status?200"] * 3))
    assert reused == b"status1status0status0"


# ---- the end -------------------------------------------------------------------------------------------------------


def test_stop_accepting(serve):
    server = serve("127.0.0.1:0")
    idle, busy, half = server.connect(), server.connect(), server.connect()
    assert ask(idle)[0] == 200
    busy.sendall(request("/later?300") + request("/echo"))
    half.sendall(request("/stream?2,30,1", "POST", ["Content-Length: 3"]))
    while server.n_connections() < 3:
        pass
    time.sleep(0.05)
    server.child.send_signal(signal.SIGUSR1)
    assert Reader(idle).is_over()
    idle.close()
    with pytest.raises(ConnectionRefusedError):
        server.connect()
    half.sendall(b"abc")
    for s, body in ((busy, b"later"), (half, b"x" * 60)):
        reader = Reader(s)
        status, headers, got = reader.reply()
        assert (status, headers["connection"], got) == (200, "close", body) and reader.is_over()
        assert server.all("drained") == []
        s.close()
    server.wait("drained")
    assert server.child.wait(5) == 0


def test_stop_accepting_when_nobody_is_there(serve, tmp_path):
    server = serve(f"unix:{tmp_path}/s")
    server.child.send_signal(signal.SIGUSR1)
    server.wait("drained")
    assert server.child.wait(5) == 0 and list(tmp_path.iterdir()) == []


def test_close_tells_every_exchange(serve):
    server = serve()
    clients = [server.connect() for _ in range(5)]
    for s, path in zip(clients, ("/hang", "/stream?100000,10,5", "/flood?100000000", "/later?100000")):
        s.sendall(request(path))
    server.wait("paused")
    while server.n_connections() < 5:
        pass
    time.sleep(0.05)
    server.stop()
    gone = [line for line in server.lines if line.startswith("gone")]
    assert sorted(gone) == ["gone /flood", "gone /hang", "gone /later", "gone /stream"]
    for s in clients:
        Reader(s).rest()
        s.close()
