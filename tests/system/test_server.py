"""The server from outside: OpenAI's own client, raw sockets, and what operators look at."""
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from served import served

PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def server():
    with served() as s:
        yield s


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def model(client):  # its id
    return client.models.list().data[0].id


def settled(server, seconds=5):
    """The metrics, once nothing lives any more."""
    end = time.monotonic() + seconds
    while True:
        m = server.metrics()
        if m["rocmforge_requests_running"] + m["rocmforge_requests_queued"] == 0:
            return m
        assert time.monotonic() < end
        time.sleep(0.01)


# ---- OpenAI's client ------------------------------------------------------------------------------------------------


def test_models(client, model):
    assert client.models.retrieve(model).id == model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("another")


def test_completion_equals_the_command_line(client, model, binary):
    run = subprocess.run([binary, "generate", "-m", os.environ["ROCMFORGE_MODEL"], "-p", PROMPT, "--temperature", "0", "-n", "20"], capture_output=True, text=True)
    whole = client.completions.create(model=model, prompt=PROMPT, max_tokens=20, temperature=0)
    assert whole.choices[0].text == run.stdout.removesuffix("\n")
    assert whole.choices[0].finish_reason == "length" and whole.usage.completion_tokens == 20
    stream = list(client.completions.create(model=model, prompt=PROMPT, max_tokens=20, temperature=0, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].text for c in stream if c.choices) == whole.choices[0].text
    assert stream[-1].usage == whole.usage or stream[-1].usage.total_tokens == whole.usage.total_tokens
    assert [c.choices[0].finish_reason for c in stream if c.choices and c.choices[0].finish_reason] == ["length"]


def test_completion_prompts_choices_and_seeds(client, model, server):
    ids = json.loads(server.post("/tokenize", {"content": PROMPT})[1])["tokens"]
    ask = dict(model=model, max_tokens=8, seed=7)
    many = client.completions.create(prompt=[PROMPT, "Once upon a time"], n=3, **ask)
    assert [c.index for c in many.choices] == list(range(6))
    again = client.completions.create(prompt=ids, n=3, **ask)
    assert [c.text for c in again.choices] == [c.text for c in many.choices[:3]]
    third = client.completions.create(prompt=PROMPT, **{**ask, "seed": 9})
    assert third.choices[0].text == many.choices[2].text


def test_completion_echo_stop_logprobs(client, model):
    echo = client.completions.create(model=model, prompt=PROMPT, max_tokens=5, temperature=0, echo=True)
    assert echo.choices[0].text.startswith(PROMPT)
    answer = echo.choices[0].text.removeprefix(PROMPT)
    stop = client.completions.create(model=model, prompt=PROMPT, max_tokens=5, temperature=0, stop=[answer[3:6]])
    assert stop.choices[0].finish_reason == "stop" and stop.choices[0].text == answer[: answer.index(answer[3:6])]
    lp = client.completions.create(model=model, prompt=PROMPT, max_tokens=5, temperature=0, logprobs=3).choices[0].logprobs
    assert "".join(lp.tokens) == answer and len(lp.token_logprobs) == len(lp.top_logprobs) == len(lp.text_offset) == 5
    for token, p, top in zip(lp.tokens, lp.token_logprobs, lp.top_logprobs):
        assert top[token] == p == max(top.values()) and p <= 0


def test_chat(client, model):
    ask = dict(model=model, messages=[{"role": "user", "content": "Say hello."}], max_tokens=24, temperature=0)
    whole = client.chat.completions.create(**ask)
    assert whole.choices[0].message.role == "assistant" and whole.choices[0].message.content
    stream = list(client.chat.completions.create(**ask, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in stream) == whole.choices[0].message.content
    assert stream[0].choices[0].delta.role == "assistant"
    parts = [{"role": "user", "content": [{"type": "text", "text": "Say "}, {"type": "text", "text": "hello."}]}]
    assert client.chat.completions.create(**{**ask, "messages": parts}).choices[0].message.content
    lp = client.chat.completions.create(**ask, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert len(lp) >= 1 and all(len(t.top_logprobs) == 2 and bytes(t.bytes).decode(errors="replace") == t.token for t in lp)


def test_async_and_cancellation_by_closing(server, model):
    before = settled(server)

    async def run():
        client = openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
        ask = dict(model=model, prompt=PROMPT, max_tokens=2000, stream=True, extra_body={"ignore_eos": True})
        streams = await asyncio.gather(*(client.completions.create(**ask) for _ in range(6)))
        for s in streams:
            async for _ in s:
                break
        await asyncio.gather(*(s.close() for s in streams))
        await client.close()

    asyncio.run(run())
    after = settled(server)
    name = 'rocmforge_requests_total{finish="cancelled"}'
    assert after[name] == before[name] + 6 and after["rocmforge_kv_pages_used"] == 0


@pytest.mark.parametrize(
    "path, body, status, param",
    [
        ("/v1/completions", {"prompt": ""}, 400, "prompt"),
        ("/v1/completions", {}, 400, "prompt"),
        ("/v1/completions", {"prompt": "a", "temperature": -1}, 400, "temperature"),
        ("/v1/completions", {"prompt": "a", "temperature": "1"}, 400, "temperature"),
        ("/v1/completions", {"prompt": "a", "max_tokens": 0}, 400, "max_tokens"),
        ("/v1/completions", {"prompt": "a", "n": 1000}, 400, "n"),
        ("/v1/completions", {"prompt": "a", "suffix": "b"}, 400, "suffix"),
        ("/v1/completions", {"prompt": "a", "best_of": 2}, 400, "best_of"),
        ("/v1/chat/completions", {"messages": []}, 400, "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "tools": [{}]}, 400, "tools"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "tool_choice": "required"}, 400, "tool_choice"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "response_format": {"type": "json_object"}}, 400, "response_format"),
        ("/v1/completions", {"prompt": "a", "model": "other"}, 404, "model"),
        ("/v1/completions", {"prompt": [-1]}, 400, "prompt"),
        ("/v1/completions", {"prompt": [10**6]}, 400, "prompt"),
        ("/v1/completions", {"prompt": ["a"] * 3, "n": 100}, 400, "n"),
        ("/v1/completions", {"prompt": "word " * 9000}, 400, "prompt"),
        ("/v1/completions", {"prompt": "a", "stream_options": {"include_usage": True}}, 400, "stream_options"),
        ("/generate", {"prompt": 7}, 400, "prompt"),
        ("/generate", b"{", 400, None),
        ("/generate", b"[]", 400, None),
        ("/generate", b'{"prompt": "a", "prompt": "b"}', 400, None),
        ("/generate", b'{"prompt": "\xff"}', 400, None),
        ("/nowhere", {}, 404, None),
        ("/health", {}, 405, None),
    ],
)
def test_what_is_wrong_is_said(server, path, body, status, param):
    got, text, headers = server.post(path, body)
    error = json.loads(text)["error"]
    assert got == status and error["param"] == param and error["message"] and error["type"]
    assert headers["Content-Type"] == "application/json"


def test_refusals_of_the_transport_look_the_same(server):
    for request in (b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", b"nonsense\r\n\r\n"):
        with server.connect() as s:
            s.sendall(request)
            head, _, body = s.makefile("rb").read().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ") and b"\r\nContent-Type: application/json" in head
        assert json.loads(body)["error"]["type"] == "invalid_request_error"


# ---- the native API -------------------------------------------------------------------------------------------------


def events(text):
    for block in text.strip().split("\n\n"):
        kind, data = block.split("\n")
        yield kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_generate_stream_and_status(server):
    whole = json.loads(server.post("/generate", {"prompt": PROMPT, "max_tokens": 12, "temperature": 0})[1])
    got = list(events(server.post("/generate/stream", {"prompt": PROMPT, "max_tokens": 12, "temperature": 0})[1]))
    assert got[0][0] == "start" and [k for k, _ in got].count("end") == 1 and got[-1][0] == "end"
    assert "".join(d["text"] for k, d in got if k == "token") == whole["text"]
    status = json.loads(server.get(f"/status/{got[0][1]['id']}")[1])
    assert status["state"] == "done" and status["finish_reason"] == "length"
    assert server.get("/status/req-0")[0] == 404 and server.post("/cancel/req-0", {})[0] == 404


def test_cancel_is_idempotent(server):
    with server.connect() as s:
        body = json.dumps({"prompt": PROMPT, "max_tokens": 1500, "ignore_eos": True}).encode()
        s.sendall(b"POST /generate/stream HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        text = b""
        while b"event: token" not in text:
            text += s.recv(4096)
        name = json.loads(text.split(b"data: ")[1].split(b"\n")[0])["id"]
        assert server.post(f"/cancel/{name}", {})[0] == 200
        while b"event: end" not in text:
            text += s.recv(4096)
    assert text.count(b"event: end") == 1 and b'"finish_reason":"cancelled"' in text
    for _ in range(2):
        status, text, _ = server.post(f"/cancel/{name}", {})
        assert status == 200 and json.loads(text)["finish_reason"] == "cancelled"
    spans = json.loads(server.get("/traces?limit=5")[1])["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert 1 <= len(spans) <= 5 and spans[0]["traceId"] in name


def test_a_client_that_leaves_frees_its_pages(server):
    for path, early in (("/generate", False), ("/generate/stream", False), ("/generate", True)):
        before = settled(server)
        body = json.dumps({"prompt": PROMPT * 50, "max_tokens": 1500, "ignore_eos": True}).encode()
        with server.connect() as s:
            s.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)) + body)
            if not early:
                time.sleep(0.3)
        after = settled(server)
        assert after["rocmforge_kv_pages_used"] == 0
        if not early:
            assert after["rocmforge_http_clients_gone_total"] == before["rocmforge_http_clients_gone_total"] + 1


def test_metrics_are_prometheus(server):
    names = {f.name for f in text_string_to_metric_families(server.get("/metrics")[1])}
    for name in "requests requests_queued requests_running kv_pages time_to_first_token_seconds step_seconds step_sequences request_seconds http_replies".split():
        assert "rocmforge_" + name in names


def test_tokens_there_and_back(server):
    text = "Grüße, 世界! \U0001f600\n"
    ids = json.loads(server.post("/tokenize", {"content": text})[1])["tokens"]
    assert json.loads(server.post("/detokenize", {"tokens": ids})[1])["content"] == text
    pieces = json.loads(server.post("/tokenize", {"content": "hi there", "with_pieces": True})[1])["tokens"]
    assert "".join(p["piece"] for p in pieces) == "hi there"
    assert json.loads(server.post("/detokenize", {"tokens": [float(i) for i in ids]})[1])["content"] == text
    for wrong in ([10**9], [-1], [0.5], ["1"], 1, None):
        assert server.post("/detokenize", {"tokens": wrong})[0] == 400


# ---- operators ------------------------------------------------------------------------------------------------------


def test_keys_separate_callers(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("# who\nann:secret-of-ann\nsecret-of-bob\n")
    with served("--api-key-file", keys, "--max-per-key", 1) as s:
        assert s.post("/generate", {"prompt": "a", "max_tokens": 1})[0] == 401
        assert s.get("/health")[0] == 200
        ann, bob = ({"Authorization": f"Bearer secret-of-{w}"} for w in ("ann", "bob"))
        reply = json.loads(s.post("/generate", {"prompt": "a", "max_tokens": 1}, headers=ann)[1])
        assert s.get(f"/status/{reply['id']}", headers=ann)[0] == 200
        assert s.get(f"/status/{reply['id']}", headers=bob)[0] == 404
        keys.write_text("bob:secret-of-bob\n")
        s.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 5
        while s.get("/models", headers=ann)[0] != 401:
            assert time.monotonic() < end
        assert s.get("/models", headers=bob)[0] == 200


def test_drain_lets_streams_finish():
    with served("--drain-seconds", 20) as s:
        body = json.dumps({"prompt": PROMPT, "max_tokens": 60, "ignore_eos": True}).encode()
        with s.connect() as c:
            c.sendall(b"POST /generate/stream HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            text = c.recv(4096)
            s.process.terminate()
            while piece := c.recv(65536):
                text += piece
        assert text.count(b"event: end") == 1 and b'"finish_reason":"length"' in text
        assert s.process.wait(20) == 0


def test_the_end_waits_for_no_idle_client():
    """Clients that keep their connections and do nothing see an end, not a reset, and lose no reply they have yet to read."""
    with served("--drain-seconds", 20) as s, contextlib.ExitStack() as clients:
        idle = [clients.enter_context(s.connect()) for _ in range(20)]
        for c in idle:
            c.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        for c in idle[10:]:
            assert c.recv(65536).startswith(b"HTTP/1.1 200")
        s.settled(alone=False)
        s.process.terminate()
        assert s.process.wait(4) == 0, "to linger takes 5 s"
        for c in idle[:10]:
            assert c.recv(65536).startswith(b"HTTP/1.1 200")
        assert [c.recv(1) for c in idle] == [b""] * 20


def test_a_second_signal_cancels():
    with served("--drain-seconds", 60) as s:
        body = json.dumps({"prompt": PROMPT, "max_tokens": 1900, "ignore_eos": True}).encode()
        with s.connect() as c:
            c.sendall(b"POST /generate/stream HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            text = c.recv(4096)
            s.process.terminate()
            time.sleep(0.2)
            s.process.terminate()
            while piece := c.recv(65536):
                text += piece
        assert text.count(b"event: end") == 1 and b'"finish_reason":"cancelled"' in text
        assert s.process.wait(20) == 0
