"""Clients that people use, as they use them: OpenAI's, curl, LangChain, a benchmark, and one that reads /openapi.json and
tries what it allows and what it does not. (More of OpenAI's: test_server.py.)"""
import asyncio
import contextlib
import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import openai
import pytest
import tokenizers

from served import served

HERE = Path(__file__).resolve().parent
TOOLS = Path(sys.executable).parent
CHAT = dict(messages=[{"role": "user", "content": "Say hello."}], max_tokens=16, temperature=0)
LONG = {**CHAT, "max_tokens": 1500, "extra_body": {"ignore_eos": True}}
CANCELLED = 'rocmforge_requests_total{finish="cancelled"}'


@pytest.fixture(scope="module")
def server():
    with served("--no-access-log", "--max-running", 2, "--max-queue", 2) as s:
        yield s


def client_of(server, kind=openai.OpenAI, **options):
    return kind(base_url=server.url + "/v1", api_key="none", **{"max_retries": 0, **options})


@pytest.fixture(scope="module")
def client(server):
    with client_of(server) as client:
        yield client


@pytest.fixture(scope="module")
def model(client):
    return client.models.list().data[0].id


@pytest.fixture(scope="module")
def hello(client, model):  # the answer to CHAT
    return client.chat.completions.create(model=model, **CHAT).choices[0].message.content


@contextlib.contextmanager
def cancels(server, n):
    """What happens within cancels n requests, and nothing of them stays."""
    before = server.settled(alone=False)[CANCELLED]
    yield
    assert server.settled(alone=False)[CANCELLED] == before + n


# ---- openai ---------------------------------------------------------------------------------------------------------


def test_openai_streams(client, model, hello):
    plain = "".join(c.choices[0].delta.content or "" for c in client.chat.completions.create(model=model, stream=True, **CHAT))
    assert plain == hello
    stop = hello.split()[2]
    with client.chat.completions.stream(model=model, stop=[stop], **CHAT) as stream:  # an end by length is an exception
        events = list(stream)
        final = stream.get_final_completion()
    text = "".join(e.delta for e in events if e.type == "content.delta")
    assert text == final.choices[0].message.content == hello.split(stop)[0] and final.choices[0].finish_reason == "stop"
    with client.chat.completions.with_streaming_response.create(model=model, **CHAT) as raw:
        assert raw.status_code == 200 and raw.headers["x-request-id"] and hello in json.loads(b"".join(raw.iter_bytes()))["choices"][0]["message"]["content"]


def test_openai_cancels_by_closing(server, client, model):
    with cancels(server, 4):
        stream = client.chat.completions.create(model=model, stream=True, **LONG)
        next(iter(stream))
        stream.close()
        with client.chat.completions.create(model=model, stream=True, **LONG) as stream:
            for _, _ in zip(range(5), stream):
                pass
        with client.chat.completions.stream(model=model, **LONG) as stream:
            next(iter(stream))
        with pytest.raises(openai.APITimeoutError):
            client.with_options(timeout=0.3).chat.completions.create(model=model, **LONG)


def test_openai_async(server, model, hello):
    async def run():
        async with client_of(server, openai.AsyncOpenAI) as client:
            create = functools.partial(client.chat.completions.create, model=model)
            both = await asyncio.gather(*(create(**CHAT) for _ in range(2)))
            assert [a.choices[0].message.content for a in both] == [hello] * 2
            assert "".join([c.choices[0].delta.content or "" async for c in await create(stream=True, **CHAT)]) == hello
            with cancels(server, 2):
                whole = asyncio.create_task(create(**LONG))  # not streamed
                stream = await create(stream=True, **LONG)
                async for _ in stream:
                    break
                whole.cancel()
                await stream.close()
                with pytest.raises(asyncio.CancelledError):
                    await whole

    asyncio.run(run())


def test_openai_errors(server, client, model):
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=model, **{**CHAT, "temperature": -1})
    assert (wrong.value.param, wrong.value.code, wrong.value.type) == ("temperature", "invalid_value", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model=model, prompt="word " * 9000)
    assert (long.value.param, long.value.code) == ("prompt", "context_length_exceeded")
    with pytest.raises(openai.APIStatusError) as large:
        client.completions.create(model=model, prompt="a" * (9 << 20))
    assert large.value.status_code == 413 and large.value.body["message"]
    with pytest.raises(openai.NotFoundError) as other:
        client.completions.create(model="other", prompt="a")
    assert other.value.param == "model"


def test_openai_tries_again_when_told_so(server, client, model, hello):
    with contextlib.ExitStack() as streams:
        for _ in range(2):  # two run, two wait
            for _ in range(2):
                streams.enter_context(client.chat.completions.create(model=model, stream=True, **LONG))
            while server.metrics()["rocmforge_requests_running"] < 2:
                pass
        with pytest.raises(openai.RateLimitError) as busy:
            client.chat.completions.create(model=model, **CHAT)
        assert int(busy.value.response.headers["retry-after"]) >= 1
        leave = threading.Timer(0.2, streams.pop_all().close)
    leave.start()
    patient = client_of(server, max_retries=4)
    assert patient.chat.completions.create(model=model, **CHAT).choices[0].message.content == hello
    leave.join()
    server.settled(alone=False)


# ---- curl -----------------------------------------------------------------------------------------------------------


def curl(*args, **options):
    return subprocess.run(["curl", "-sS", "--max-time", "20", *args], capture_output=True, text=True, **options)


def test_curl(server, hello):
    url, body = server.url + "/v1/chat/completions", json.dumps(CHAT)
    assert json.loads(curl(url, "-d", body).stdout)["choices"][0]["message"]["content"] == hello  # as a form, it says
    assert json.loads(curl(url, "--json", "@-", input=body).stdout)["choices"][0]["message"]["content"] == hello
    chunked = curl(url, "-H", "Transfer-Encoding: chunked", "-d", "@-", input=body)
    assert json.loads(chunked.stdout)["choices"][0]["message"]["content"] == hello
    lines = curl("-N", url, "-d", json.dumps({**CHAT, "stream": True})).stdout.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    assert "".join(json.loads(s[6:])["choices"][0]["delta"].get("content", "") for s in lines[:-2]) == hello
    wrong = curl("--fail-with-body", url, "-d", "{")
    assert wrong.returncode == 22 and json.loads(wrong.stdout)["error"]["code"] == "invalid_json"
    with cancels(server, 1):
        assert curl("--max-time", "0.3", url, "-d", json.dumps({**CHAT, "max_tokens": 1500, "ignore_eos": True})).returncode == 28


# ---- schemathesis ---------------------------------------------------------------------------------------------------


def test_schemathesis(long, tmp_path):
    """No server error, and every reply as /openapi.json describes it: status, type, headers, schema; keys are asked for;
    what is right is taken, what is wrong is not."""
    keys = tmp_path / "keys"
    keys.write_text("secret-of-all\n")
    with served("--no-access-log", "--api-key-file", keys) as s:
        command = [TOOLS / "schemathesis", "run", s.url + "/openapi.json", "-H", "Authorization: Bearer secret-of-all", "--checks", "all"]
        run = subprocess.run(
            [*command, "--max-examples", "100" if long else "4", "--seed", "1", "--request-timeout", "20", "--no-color"],
            capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "SCHEMATHESIS_HOOKS": "schema_hooks", "PYTHONPATH": str(HERE)},
        )  # fmt: skip
        assert run.returncode == 0, run.stdout[-6000:] + run.stderr
        assert re.search(r"Selected: (\d+)/\1\n +Tested: \1\n", run.stdout) and s.get("/health")[0] == 200


# ---- --long only: what is heavy to install (requirements-long.txt) --------------------------------------------------


def test_langchain(server, model, hello, long):
    if not long:
        pytest.skip("--long")
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(base_url=server.url + "/v1", api_key="none", model=model, temperature=0, max_tokens=16, max_retries=0)
    say = "Say hello."
    answer = chat.invoke(say)
    assert answer.content == hello and answer.usage_metadata["output_tokens"] <= 16
    chunks = list(chat.stream(say))
    assert len(chunks) > 3 and "".join(c.content for c in chunks) == hello
    assert [a.content for a in chat.batch([say, say])] == [hello] * 2
    assert asyncio.run(chat.ainvoke(say)).content == hello
    talk = [("system", "You are brief."), ("human", "My name is Ann."), ("ai", "Hello Ann."), ("human", "Who am I?")]
    assert chat.invoke(talk).content
    with cancels(server, 1):
        stream = chat.bind(max_tokens=1500, extra_body={"ignore_eos": True}).stream(say)
        next(stream)
        stream.close()


@contextlib.contextmanager
def files(folder):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()


def test_llama_benchy(server, model, long, tmp_path):
    """It wants a tokenizer and a book: the tokenizer is made of the model's own tables, the book is our corpus."""
    if not long:
        pytest.skip("--long")
    from test_tokenizer import Tables

    tokenizer = Tables(os.environ["ROCMFORGE_MODEL"]).reference("smollm", False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "book.txt").write_text("It was a bright cold day, and the clocks were striking thirteen. " * 2000)
    with files(tmp_path) as web:
        run = subprocess.run(
            [TOOLS / "llama-benchy", "--base-url", server.url + "/v1", "--model", model, "--tokenizer", tmp_path, "--book-url", web + "/book.txt",
             "--pp", "128", "--tg", "16", "--depth", "0", "256", "--concurrency", "1", "2", "--runs", "2", "--exact-tg", "--exit-on-first-fail",
             "--format", "json", "--save-result", tmp_path / "result.json"],
            capture_output=True, text=True, timeout=170, env={**os.environ, "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    print(run.stdout[-2500:])
    result = json.loads((tmp_path / "result.json").read_text())
    assert len(result["benchmarks"]) == 4
    server.settled(alone=False)
