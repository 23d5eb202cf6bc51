"""What operators rely on: keys, limits, logs, signals, systemd, traces. tests/system/test_server.py has the API itself."""
import contextlib
import json
import math
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from served import served
from tiny import Tiny

DOCS = Path(__file__).parents[2] / "docs"
PROMPT = "The capital of France is"
SECRET_PROMPT = "what nobody else may read"


def key(who):
    return {"Authorization": f"Bearer secret-of-{who}"}


def request(method, path, body=None, **headers):
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(data)}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + data


@contextlib.contextmanager
def streaming(s, headers={}, **more):
    """A stream that has begun, and what it has said so far."""
    body = {"prompt": PROMPT, "max_tokens": 1900, "ignore_eos": True, **more}
    with s.connect() as c:
        c.sendall(request("POST", "/generate/stream", body, **headers))
        text = b""
        while b"event: token" not in text:
            text += c.recv(4096)
        yield c, text


def rest(c, text=b""):
    while piece := c.recv(65536):
        text += piece
    return text


def stream_id(text):
    return re.search(rb'"id":"([^"]+)"', text)[1].decode()


def eventually(condition, seconds=10):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """For what does not depend on the model: it is there at once, and answers at once."""
    t = Tiny()
    t.chat_template = "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}{% endfor %}"
    return {"model": t.write(tmp_path_factory.mktemp("tiny") / "tiny.gguf")}


@pytest.fixture
def keys(tmp_path):
    path = tmp_path / "keys"
    path.write_text("# who\nann:secret-of-ann\n\nbob:secret-of-bob\n")
    return path


# ---- who may call ---------------------------------------------------------------------------------------------------


def test_keys_do_not_see_each_other(keys):
    with served("--api-key-file", keys, "--max-per-key", 1, "--log-format", "json") as s:
        for headers in ({}, key("eve"), {"Authorization": "secret-of-ann"}, {"Authorization": "Basic secret-of-ann"}):
            status, text, got = s.get("/models", headers=headers)
            assert status == 401 and got["WWW-Authenticate"] == "Bearer" and "model" not in json.loads(text)
        assert s.get("/models", headers={"X-Api-Key": "secret-of-bob"})[0] == 200
        assert [s.get(path)[0] for path in ("/health", "/ready", "/openapi.json", "/", "/metrics")] == [200] * 4 + [401]

        with streaming(s, key("ann")) as (c, text):
            name = stream_id(text)
            for method, path in (("GET", "/status/"), ("POST", "/cancel/")):
                theirs, nobodys = (s.ask(method, path + i, headers=key("bob"), body=b"{}" if method == "POST" else None)
                                   for i in (name, "req-" + "0" * 32))  # fmt: skip
                assert theirs[0] == nobodys[0] == 404
                assert theirs[1].replace(name, "") == nobodys[1].replace("req-" + "0" * 32, "")
            assert json.loads(s.get("/status/" + name, headers=key("ann"))[1])["state"] == "decode"
            # ann has as many as she may have; bob has not
            status, text, got = s.post("/generate", {"prompt": "a", "max_tokens": 1}, headers=key("ann"))
            assert status == 429 and "limit" in text and got["Retry-After"] == "1"
            assert s.post("/generate", {"prompt": "a", "max_tokens": 1}, headers=key("bob"))[0] == 200
            assert s.post("/cancel/" + name, {}, headers=key("ann"))[0] == 200
        eventually(lambda: json.loads(s.get("/status/" + name, headers=key("ann"))[1])["state"] == "done")
        spans = {who: s.get("/traces", headers=key(who))[1].count('"traceId"') for who in ("ann", "bob")}
        assert spans == {"ann": 1, "bob": 1}
    lines = [json.loads(line) for line in s.lines if line.startswith("{")]
    by = {(line["path"], line["status"]): line.get("key") for line in lines if line["level"] == "access"}
    assert by["/generate", 200] == "bob" and by["/models", 401] is None and by["/cancel/" + name, 200] == "ann"
    assert "secret" not in "".join(s.lines)


def test_retry_after_is_what_it_takes(keys):
    """The key's limit is one, so a place is free when its request ends: after as long as they took of late."""
    with served("--api-key-file", keys, "--max-per-key", 1, "--isa", "scalar") as s:
        ask = {"prompt": PROMPT, "max_tokens": 8, "ignore_eos": True}
        assert s.post("/generate", ask, headers=key("ann"))[0] == 200
        metrics = s.get("/metrics", headers=key("ann"))[1]
        took = float(re.search(r"^rocmforge_request_seconds_sum (\S+)", metrics, re.M)[1])
        assert took > 1, "else this test says nothing"
        with streaming(s, key("ann")):
            assert s.post("/generate", ask, headers=key("ann"))[2]["Retry-After"] == str(math.ceil(took))


@pytest.mark.parametrize("options, shared", [([], True), (["--salt-by-key"], False)])
def test_the_prefix_cache_of_keys(keys, options, shared):
    with served("--api-key-file", keys, *options) as s:
        def cached(who):
            reply = s.post("/generate", {"prompt": PROMPT * 30, "max_tokens": 1}, headers=key(who))
            return json.loads(reply[1])["usage"]["cached_tokens"]

        assert cached("ann") == 0
        assert (cached("bob") > 0) is shared
        assert cached("bob") > 0 and cached("ann") > 0


def test_bad_key_files(rf, model, tmp_path):
    for text, words in (("short\n", "8 bytes"), ("# nobody\n", "no key"), ("a:same-secret\nb:same-secret\n", "line 2")):
        path = tmp_path / "keys"
        path.write_text(text)
        result = rf("serve", "-m", model, "--port", 0, "--api-key-file", path)
        assert result.returncode == 1 and words in result.stderr and "secret" not in result.stderr


def test_cross_origin(tiny):
    origin = {"Origin": "https://there.example"}
    ask = {"Access-Control-Request-Method": "POST", **origin}

    def allowed(s, headers=origin):
        return s.get("/health", headers=headers)[2]["Access-Control-Allow-Origin"]

    with served(**tiny) as s:
        assert allowed(s) is None and s.ask("OPTIONS", "/generate", headers=ask)[0] == 405
    with served("--cors", "https://there.example", **tiny) as s:
        assert allowed(s) == "https://there.example" and s.get("/health", headers=origin)[2]["Vary"] == "Origin"
        assert allowed(s, {"Origin": "https://there.example.evil"}) is None
        status, _, headers = s.ask("OPTIONS", "/generate", headers=ask)
        assert status == 204 and "POST" in headers["Access-Control-Allow-Methods"]
        assert "Authorization" in headers["Access-Control-Allow-Headers"]
        assert "X-Request-Id" in s.get("/health", headers=origin)[2]["Access-Control-Expose-Headers"]


def listening(s):
    """Local addresses of the sockets on which the server listens, as /proc has them."""
    inodes = set()
    for f in Path(f"/proc/{s.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the server closes files of its own while we look
            inodes.add(os.readlink(f))
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{s.process.pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                yield fields[1].split(":")[0]


@pytest.mark.parametrize(
    "options, addresses, warns",
    [
        ([], ["0100007F"], False),
        (["--host", "0.0.0.0"], ["00000000"], True),
        (["--listen", "0.0.0.0:0"], ["00000000", "0100007F"], True),
        (["--listen", "localhost:0", "--listen", "127.0.0.2:0"], None, False),
        (["--host", "0.0.0.0", "--api-key-file"], ["00000000"], False),
    ],
)
def test_loopback_unless_asked(keys, options, addresses, warns, tiny):
    with served(*options, *([keys] if "--api-key-file" in options else []), **tiny) as s:
        assert addresses is None or sorted(listening(s)) == addresses
    assert any("warning: everybody" in line for line in s.lines) is warns


# ---- ids and logs ---------------------------------------------------------------------------------------------------


def test_request_ids(tmp_path, tiny):
    with served("--log-format", "json", **tiny) as s:
        def reply_id(path="/health", own=None, body=None):
            headers = {} if own is None else {"X-Request-Id": own}
            return s.ask("POST" if body else "GET", path, body, headers)[2]["X-Request-Id"]

        ids = [reply_id(), reply_id(), reply_id("/nowhere"), reply_id("/generate", body={"prompt": 7})]
        assert len(set(ids)) == 4 and all(re.fullmatch("x-[0-9a-f]{32}", i) for i in ids)
        assert reply_id(own="mine/1-~") == "mine/1-~"
        for bad in ("two words", "x" * 65, "caf\xe9", '"' + "\t" + '"'):
            assert re.fullmatch("x-[0-9a-f]{32}", reply_id(own=bad))
        generate = {"prompt": PROMPT, "max_tokens": 1}
        name = reply_id("/generate", body=generate)
        assert "client_id" not in json.loads(s.get("/status/" + name)[1])
        status, text, headers = s.post("/generate", generate, headers={"X-Request-Id": 'a"b'})
        assert headers["X-Request-Id"] == 'a"b'
        assert json.loads(s.get("/status/" + json.loads(text)["id"])[1])["client_id"] == 'a"b'
        spans = json.loads(s.get("/traces")[1])["resourceSpans"][0]["scopeSpans"][0]["spans"]
        assert {"key": "client.request.id", "value": {"stringValue": 'a"b'}} in spans[0]["attributes"]
        with s.connect() as c:
            c.sendall(b"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n")
            assert re.search(rb"X-Request-Id: x-[0-9a-f]{32}\r\n", rest(c))
    logged = [json.loads(line)["id"] for line in s.lines if '"access"' in line]
    assert set(ids) | {"mine/1-~", 'a"b', name} <= set(logged)


def test_logs(tmp_path, tiny):
    """A line a reply, without a word of what was asked or answered, unless that is wanted."""
    body = {"prompt": SECRET_PROMPT, "max_tokens": 3}
    chat = {"messages": [{"role": "user", "content": SECRET_PROMPT}], "max_tokens": 3}

    def run(*options):
        log = tmp_path / f"log{len(list(tmp_path.iterdir()))}"
        with served("--log-file", log, *options, **tiny) as s:
            answer = json.loads(s.post("/generate", body)[1])
            assert s.post("/v1/chat/completions", chat)[0] == 200 and s.get("/status/x?secret=1")[0] == 404
        return log.read_text(), answer

    text, answer = run("--log-format", "json")
    lines = [json.loads(line) for line in text.splitlines()]
    access = [line for line in lines if line["level"] == "access" and line["path"] == "/generate"]
    assert access[0].keys() == {"time", "level", "peer", "method", "path", "id", "status", "bytes", "ms"}
    assert access[0]["id"] == answer["id"] and access[0]["status"] == 200 and access[0]["bytes"] > 50
    assert SECRET_PROMPT not in text and answer["text"] not in text and "secret=1" not in text
    text, answer = run()
    found = re.search(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z access peer=\"127.*path=\"/generate\" .*status=200 ", text, re.M)
    assert found and SECRET_PROMPT not in text and answer["text"] not in text
    text, answer = run("--no-access-log", "--log-prompts", "--log-format", "json")
    lines = [json.loads(line) for line in text.splitlines()]
    prompts = [line for line in lines if line["level"] == "prompt"]
    assert prompts[0]["prompt"] == SECRET_PROMPT and prompts[0]["id"] == answer["id"]
    assert "<|im_start|>" in prompts[1]["prompt"] and SECRET_PROMPT in prompts[1]["prompt"]
    assert answer["text"] not in text and not [line for line in lines if line["level"] == "access"]


# ---- signals --------------------------------------------------------------------------------------------------------


def make_certificate(folder, name):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return (folder / "cert.pem").read_text()


def test_sighup_opens_everything_anew(keys, tmp_path):
    log, cert = tmp_path / "log", make_certificate(tmp_path, "one")
    options = ["--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem"]
    with served("--api-key-file", keys, "--log-file", log, *options) as s:
        def shown():
            return ssl.get_server_certificate(("127.0.0.1", s.port))

        with streaming_tls(s, key("ann")) as c:
            assert shown() == cert
            log.rename(tmp_path / "log.1")
            keys.write_text("bob:secret-of-bob\ncat:secret-of-cat\n")
            new = make_certificate(tmp_path, "two")
            s.process.send_signal(signal.SIGHUP)
            eventually(lambda: s.get("/models", headers=key("ann"))[0] == 401)
            assert s.get("/models", headers=key("cat"))[0] == s.get("/models", headers=key("bob"))[0] == 200
            assert shown() == new != cert
            assert "opened anew" in log.read_text() and "GET" in log.read_text()
            assert b"event: end" in rest(c), "what a key has running ends by itself"
        # what is broken changes nothing
        for path, text in ((keys, "short\n"), (tmp_path / "cert.pem", "no certificate")):
            good = path.read_text()
            path.write_text(text)
            n = len(s.lines)
            s.process.send_signal(signal.SIGHUP)
            eventually(lambda: len(s.lines) > n)
            assert "rocmforge:" in s.lines[-1]
            assert s.get("/models", headers=key("cat"))[0] == 200 and shown() == new
            path.write_text(good)


@contextlib.contextmanager
def streaming_tls(s, headers):
    with s.connect() as plain, s.context.wrap_socket(plain) as c:
        c.sendall(request("POST", "/generate/stream", {"prompt": PROMPT, "max_tokens": 60, "ignore_eos": True}, Connection="close", **headers))
        yield c


def test_draining():
    """Nobody new; a request that was on its way is told; a stream ends when its time is over, and says so."""
    with served("--drain-seconds", 1) as s:
        with streaming(s) as (c, text), s.connect() as half:
            half.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\n")
            time.sleep(0.1)
            start = time.monotonic()
            s.process.terminate()

            def refused():
                with contextlib.suppress(ConnectionResetError):
                    try:
                        s.connect().close()
                    except ConnectionRefusedError:
                        return True

            eventually(refused, 0.9)
            half.sendall(b"\r\n")
            reply = rest(half)
            assert b" 503 " in reply and b'"draining"' in reply and b"Connection: close" in reply
            text = rest(c, text)
            assert 0.9 < time.monotonic() - start < 5
            assert text.count(b"event: end") == 1 and b'"finish_reason":"cancelled"' in text.split(b"event: end")[1]
            assert text.endswith(b"0\r\n\r\n"), "the reply is whole"
        assert s.process.wait(10) == 0


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(tmp_path, monkeypatch, abstract, tiny):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        name = f"rocmforge-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
        told.bind("\0" + name if abstract else name)
        told.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
        with served(wait=False, **tiny) as s:
            assert told.recv(200) == b"READY=1"
            assert s.get("/ready")[0] == 200
            s.process.send_signal(signal.SIGHUP)
            assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", told.recv(200)) and told.recv(200) == b"READY=1"
            s.process.terminate()
            assert told.recv(200) == b"STOPPING=1"


# ---- health, traces, what is kept -----------------------------------------------------------------------------------


def test_not_ready_while_loading():
    with served(wait=False) as s:
        with s.connect() as c:  # both in one segment: nothing loads in between
            c.sendall(request("GET", "/ready") + request("POST", "/generate", {"prompt": "x"}, Connection="close"))
            ready, generate = rest(c).split(b"HTTP/1.1 ")[1:]
        assert ready.startswith(b"503") and b'"loading"' in ready
        assert generate.startswith(b"503") and b"Retry-After: 1\r\n" in generate
        assert s.get("/health")[0] == 200
        s.wait_ready()


def test_the_watchdog_sees_a_step_that_hangs(tmp_path):
    """The very first step takes seconds, in slow arithmetic, and /health says so until it is over."""
    with served("--isa", "scalar", "-t", 1, "--watchdog-seconds", 1) as s:
        assert s.get("/health")[:2] == (200, '{"status":"ok"}\n')
        with s.connect() as c:
            c.sendall(request("POST", "/generate", {"prompt": "word " * 20, "max_tokens": 1}, Connection="close"))
            eventually(lambda: s.get("/health")[:2] == (503, '{"status":"stuck"}\n'))
            assert b"HTTP/1.1 200" in rest(c)
        assert s.get("/health")[0] == 200


def test_a_slow_reader_is_no_hanging_engine(tiny):
    """Its requests have ended long ago; that their events wait for the client is not the engine's fault."""
    with served("--watchdog-seconds", 1, "--max-running", 128, **tiny) as s, socket.socket() as c:
        c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.settimeout(20)
        c.connect(("127.0.0.1", s.port))
        c.sendall(request("POST", "/generate/stream", {"prompt": "x", "max_tokens": 100, "n": 128, "ignore_eos": True}))
        text = c.recv(4096)
        while b"event: start" not in text:
            text += c.recv(4096)
        eventually(lambda: s.metrics()['rocmforge_requests_total{finish="length"}'] == 128, 30)
        for _ in range(8):
            assert s.get("/health")[0] == 200
            time.sleep(0.2)
        status = json.loads(s.get("/status/" + stream_id(text))[1])
        assert status["state"] == "done" and status["finish_reason"] is None, "it lives on for the client"


def test_traces(tiny):
    def spans(s, query=""):
        return json.loads(s.get("/traces" + query)[1])["resourceSpans"][0]["scopeSpans"][0]["spans"]

    with served(**tiny) as s:
        ids = [json.loads(s.post("/generate", {"prompt": f"{i}", "max_tokens": 2, "ignore_eos": True})[1])["id"] for i in range(3)]
        newest_first = [i.removeprefix("req-") for i in reversed(ids)]
        assert [span["traceId"] for span in spans(s)] == newest_first
        assert [span["traceId"] for span in spans(s, "?x=y&limit=2")] == newest_first[:2]
        for bad in ("0", "-1", "x", "", "99999999999"):
            assert s.get("/traces?limit=" + bad)[0] == 400
        span = spans(s)[0]
        values = {a["key"]: next(iter(a["value"].values())) for a in span["attributes"]}
        assert len(span["spanId"]) == 16 and span["status"]["code"] == 1 and values["gen_ai.usage.output_tokens"] == "2"
        assert 0 <= int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"]) < 20e9
        assert abs(int(span["endTimeUnixNano"]) / 1e9 - time.time()) < 60
    with served("--trace-rate", 0.5, **tiny) as s:
        for _ in range(64):
            s.post("/generate", {"prompt": "x", "max_tokens": 1})
        assert 10 < len(spans(s)) < 54  # less likely to fail than one in 10 million
    with served("--trace-rate", 0, **tiny) as s:
        s.post("/generate", {"prompt": "x", "max_tokens": 1})
        assert spans(s) == []


def test_what_is_finished_is_forgotten():
    with served("--retain", 2, "--retain-seconds", 2) as s:
        def known(name):
            return s.get("/status/" + name)[0] == 200

        def ask():
            return json.loads(s.post("/generate", {"prompt": "x", "max_tokens": 1})[1])["id"]

        with streaming(s) as (_, text):
            live, ids = stream_id(text), [ask() for _ in range(3)]
            assert [known(i) for i in ids] == [False, True, True] and known(live), "a live one never goes"
            eventually(lambda: not known(ids[1]) and not known(ids[2]), 5)
            assert known(live)
    with served("--max-queue", 1, "--max-running", 1) as s:
        with streaming(s), streaming_later(s) as (c, _):
            refused = eventually(lambda: (r := s.post("/generate", {"prompt": "x"}))[0] == 429 and r)
            assert int(refused[2]["Retry-After"]) >= 1
            assert s.get("/status/" + refused[2]["X-Request-Id"])[0] == 404, "it was never there"


@contextlib.contextmanager
def streaming_later(s):
    """A stream that waits in the queue."""
    with s.connect() as c:
        c.sendall(request("POST", "/generate/stream", {"prompt": PROMPT, "max_tokens": 9}))
        yield c, c.recv(4096)


def test_a_chat_template_from_a_file(tmp_path, tiny):
    file = tmp_path / "template"
    file.write_text("{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}")
    with served("--chat-template", file, **tiny) as s:
        reply = s.post("/apply-template", {"messages": [{"role": "user", "content": "hi"}]})
        assert json.loads(reply[1])["prompt"] == "[user] hi"


# ---- what is delivered ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_the_unit_is_one(binary, tmp_path):
    text = (DOCS / "rocmforge.service").read_text()
    unit = tmp_path / "rocmforge.service"
    unit.write_text(text.replace("/usr/local/bin/rocmforge", binary))
    result = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert result.returncode == 0 and result.stderr == "", result.stderr


def test_options_that_the_documents_name(rf):
    """Every option in the deployment guide and the unit is one."""
    known = set(re.findall(r"--[a-z][a-z-]+", rf("serve", "--help").stdout + rf("generate", "--help").stdout))
    named = re.findall(r"--[a-z][a-z-]+", (DOCS / "deployment.md").read_text())
    unit = re.findall(r"--[a-z][a-z-]+", (DOCS / "rocmforge.service").read_text())
    others = {"--system", "--no-create-home", "--now"}  # useradd's and systemctl's
    assert set(named + unit) - others <= known
    started = subprocess.run([os.environ["ROCMFORGE_BIN"], *re.search(r"ExecStart=\S+ (.*)", (DOCS / "rocmforge.service").read_text())[1].replace("${ROCMFORGE_MODEL}", "/nowhere").split()], capture_output=True, text=True)
    assert started.returncode == 1 and "/etc/rocmforge/keys" in started.stderr
