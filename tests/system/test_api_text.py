"""What requests may ask of OpenAI's API beyond an answer: biased tokens, the log-probabilities of what they wrote, and
embeddings; by OpenAI's own client, compared with the numpy reference and with the same question asked another way."""
import base64
import json
import struct
import sys
import time
from pathlib import Path

import numpy as np
import openai
import pytest

from served import served
from tiny import Tiny

sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))
from llama_numpy import Llama, log_softmax  # noqa: E402

PROMPT = "The capital of France is"
GREEK = "Grüße, 世界! \U0001f600 naïve"
TEXTS = ["x", "The thing in the inn", "the thing in the inn is thin; " * 3, GREEK, PROMPT]


@pytest.fixture(scope="module")
def server():
    with served() as s:
        yield s


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as c:
        yield c


@pytest.fixture(scope="module")
def name(client):
    return client.models.list().data[0].id


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small model's server, with the exactest cache, and what numpy says of the same file."""
    path = Tiny(quant="Q4_0").write(tmp_path_factory.mktemp("small") / "tiny.gguf")
    with (served("--kv-type", "f16", model=path) as s,
          openai.OpenAI(base_url=s.url + "/v1", api_key="none", max_retries=0) as c):
        yield s, c, Llama(path)


def tokens_of(server, text):
    return json.loads(server.post("/tokenize", {"content": text})[1])["tokens"]


def metrics_when(server, holds):
    """They follow what is told of within a step."""
    end = time.monotonic() + 10
    while not holds(m := server.metrics()):
        assert time.monotonic() < end, m
        time.sleep(0.01)
    return m


def n_ended(m):
    return sum(v for k, v in m.items() if k.startswith("rocmforge_requests_total"))


# ---- logit_bias -----------------------------------------------------------------------------------------------------


def test_bias_bans_and_forces(server, client, name):
    ask = dict(model=name, prompt=PROMPT, max_tokens=6, temperature=0)
    plain = client.completions.create(**ask).choices[0].text
    first = tokens_of(server, plain)[0]
    banned = client.completions.create(**ask, logit_bias={str(first): -100}).choices[0].text
    assert tokens_of(server, banned)[0] != first
    (wanted,) = tokens_of(server, " cat")
    for temperature in (0, 2):
        forced = client.completions.create(**{**ask, "temperature": temperature}, logit_bias={str(wanted): 100})
        assert forced.choices[0].text == " cat" * 6
    stream = client.completions.create(**ask, logit_bias={str(first): -100}, stream=True)
    assert "".join(c.choices[0].text for c in stream) == banned


def test_bias_in_every_api_and_shape(server, client, name):
    (wanted,) = tokens_of(server, " cat")
    chat = dict(model=name, messages=[{"role": "user", "content": "Say hello."}], max_tokens=4, logit_bias={str(wanted): 100})
    assert client.chat.completions.create(**chat).choices[0].message.content == " cat" * 4
    assert "".join(c.choices[0].delta.content or "" for c in client.chat.completions.create(**chat, stream=True)) == " cat" * 4
    ask = {"prompt": PROMPT, "max_tokens": 4, "temperature": 0}
    plain = json.loads(server.post("/generate", ask)[1])["text"]
    first = tokens_of(server, plain)[0]
    answers = [
        json.loads(server.post("/generate", {**ask, "logit_bias": bias})[1])["text"]
        for bias in ({str(first): -100}, [[first, -100]], [[first, False]], [[first, -60.0], [first, -40]], {}, [], None)
    ]
    assert len(set(answers[:4])) == 1 and answers[0] != plain and set(answers[4:]) == {plain}


@pytest.mark.parametrize(
    "bias",
    [{"x": 1}, {"": 1}, {"-1": 1}, {"1.0": 1}, {"999999": 1}, {"99999999999": 1}, {"1": "1"}, {"1": True}, {"1": None}, {"1": 100.5},
     {"1": -101}, 1, "a", [1, 2], [[1]], [[1, 2, 3]], [["1", 2]], [[-1, 1]], [[10**6, 1]], {str(i): 1 for i in range(1025)}],
)  # fmt: skip
def test_bias_that_is_wrong(server, bias):
    for path, body in (("/generate", {"prompt": "a"}), ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]})):
        status, text, _ = server.post(path, {**body, "logit_bias": bias})
        assert (status, json.loads(text)["error"]["param"]) == (400, "logit_bias")


# ---- echo and logprobs ----------------------------------------------------------------------------------------------


def test_prompt_is_scored_as_the_answer_was(server, client, name):
    """What was chosen when a text was generated is what that text is told to be worth."""
    ids = tokens_of(server, PROMPT)
    ask = dict(model=name, logprobs=5, max_tokens=12)
    made = client.completions.create(**ask, prompt=ids, seed=3, temperature=1.2).choices[0].logprobs
    answer = tokens_of(server, "".join(made.tokens))
    assert len(answer) == 12
    told = client.completions.create(**{**ask, "max_tokens": 0}, prompt=ids + answer, echo=True)
    lp = told.choices[0].logprobs
    assert lp.token_logprobs[0] is None and lp.top_logprobs[0] is None and None not in lp.token_logprobs[1:]
    n = len(ids)
    assert lp.tokens[n:] == made.tokens
    assert lp.token_logprobs[n:] == made.token_logprobs and lp.top_logprobs[n:] == made.top_logprobs
    assert any(len(top) == 6 for top in lp.top_logprobs[1:])  # the chosen one is told even if it is not likely
    for token, p, top in zip(lp.tokens[1:], lp.token_logprobs[1:], lp.top_logprobs[1:]):
        assert top[token] == p
    assert told.choices[0].finish_reason == "length"
    assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (n + 12, 0)


def test_scores_are_the_reference(small):
    server, client, reference = small
    text = "the thing in the other inn is thin; then the thing is in the inn"
    ids = tokens_of(server, text)
    told = client.completions.create(model="tiny", prompt=text, echo=True, logprobs=1, max_tokens=0).choices[0].logprobs
    expected = log_softmax(reference.forward(ids))
    for t in range(1, len(ids)):
        assert abs(told.token_logprobs[t] - expected[t - 1, ids[t]]) < 0.15
        assert abs(max(told.top_logprobs[t].values()) - expected[t - 1].max()) < 0.15


@pytest.mark.parametrize("prompt", [PROMPT, GREEK])
def test_echo_is_one_text_with_its_answer(server, client, name, prompt):
    ask = dict(model=name, prompt=prompt, temperature=0, echo=True, logprobs=2)
    both = client.completions.create(**ask, max_tokens=5).choices[0]
    alone = client.completions.create(**ask, max_tokens=0).choices[0]
    answer = client.completions.create(**{**ask, "echo": False}, max_tokens=5).choices[0]
    assert alone.text == prompt and both.text == prompt + answer.text
    for part in ("tokens", "token_logprobs", "top_logprobs"):
        assert getattr(both.logprobs, part) == getattr(alone.logprobs, part) + getattr(answer.logprobs, part)
    assert both.logprobs.text_offset[: len(alone.logprobs.tokens)] == alone.logprobs.text_offset
    shown = 0
    for token, offset in zip(both.logprobs.tokens, both.logprobs.text_offset):
        if "\ufffd" not in token:
            assert both.text[offset:].startswith(token)
            shown += 1
    assert shown >= 5 and both.logprobs.text_offset[0] == 0

    stream = [c.choices[0] for c in client.completions.create(**ask, max_tokens=5, stream=True)]
    assert "".join(c.text for c in stream) == both.text
    for part in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        assert sum((getattr(c.logprobs, part) for c in stream if c.logprobs), []) == getattr(both.logprobs, part)
    assert [c.finish_reason for c in stream if c.finish_reason] == [both.finish_reason]


def test_echo_of_several_as_evaluations_ask(server, client, name):
    """lm-eval-harness: token ids, echo, one token more than it wants, greedy or not by the likeliest alternative."""
    contexts = [tokens_of(server, t) for t in (PROMPT, "One, two, three,")]
    asked = [c + tokens_of(server, t) for c, t in zip(contexts, (" Paris", " four"))]
    reply = client.completions.create(model=name, prompt=asked, echo=True, max_tokens=1, logprobs=1, temperature=0, n=2)
    assert [c.index for c in reply.choices] == [0, 1, 2, 3]
    for i, c in enumerate(reply.choices):
        n, lp = len(contexts[i // 2]), c.logprobs
        assert len(lp.token_logprobs) == len(asked[i // 2]) + 1
        assert -3 < sum(lp.token_logprobs[n:-1]) < 0
        assert all(p == max(top.values()) for p, top in zip(lp.token_logprobs[n:-1], lp.top_logprobs[n:-1]))
    plain = client.completions.create(model=name, prompt=PROMPT, echo=True, max_tokens=0)
    assert plain.choices[0].text == PROMPT and plain.choices[0].logprobs is None and plain.usage.completion_tokens == 0


def test_what_stands_before_a_text_has_no_place_in_it(tmp_path):
    model = Tiny()
    model.bos = "<|endoftext|>"
    with served(model=model.write(tmp_path / "tiny.gguf")) as s:
        reply = json.loads(s.post("/v1/completions", {"prompt": "the inn", "echo": True, "max_tokens": 0, "logprobs": 1})[1])
    (c,) = reply["choices"]
    assert c["text"] == "the inn" and c["logprobs"]["tokens"] == ["<|endoftext|>", "t", "he", " ", "in", "n"]
    assert c["logprobs"]["text_offset"] == [0, 0, 1, 3, 4, 6] and reply["usage"]["prompt_tokens"] == 6
    assert [p is None for p in c["logprobs"]["token_logprobs"]] == [True] + [False] * 5


def test_tokens_that_look_alike_have_one_key(server):
    """Parts of characters are all U+FFFD; an object has each key once."""

    def once(pairs):
        assert len({k for k, _ in pairs}) == len(pairs), pairs
        return dict(pairs)

    text = server.post("/v1/completions", {"prompt": "\U0001f600\U0001f601\U0001f602", "echo": True, "max_tokens": 0, "logprobs": 20})[1]
    tops = json.loads(text, object_pairs_hook=once)["choices"][0]["logprobs"]["top_logprobs"]
    assert any(len(top) < 20 for top in tops[1:])
    assert all(list(top.values()) == sorted(top.values(), reverse=True) for top in tops[1:])


# ---- embeddings -----------------------------------------------------------------------------------------------------


def embed(client, name, **more):
    return [np.array(d.embedding, np.float32) for d in client.embeddings.create(model=name, **more).data]


def test_embeddings_are_the_reference(small):
    server, client, reference = small
    texts = ["x", "the thing in the inn", "then the other thing in the other inn; " * 4]
    of = {p: embed(client, "tiny", input=texts, extra_body={"pooling": p}) for p in ("mean", "last")}
    for i, text in enumerate(texts):
        hidden = reference.hidden(tokens_of(server, text))
        for pooling, expected in (("mean", hidden.mean(axis=0)), ("last", hidden[-1])):
            ours = of[pooling][i]
            assert abs(np.linalg.norm(ours) - 1) < 1e-6
            assert ours @ expected / np.linalg.norm(expected) > 0.999
    assert all((a == b).all() for a, b in zip(embed(client, "tiny", input=texts), of["mean"]))


def test_embeddings_one_by_one_and_in_every_shape(server, client, name):
    many = TEXTS * 9
    reply = client.embeddings.create(model=name, input=many)
    assert [d.index for d in reply.data] == list(range(len(many))) and reply.model == name
    ids = [tokens_of(server, t) for t in TEXTS]
    assert reply.usage.prompt_tokens == reply.usage.total_tokens == 9 * sum(map(len, ids))
    alone = [embed(client, name, input=t)[0] for t in TEXTS]
    shapes = [embed(client, name, input=many), embed(client, name, input=ids), embed(client, name, input=TEXTS, encoding_format="float")]
    shapes += [embed(client, name, input=ids[1])]
    for got, expected in zip(shapes, [alone * 9, alone, alone, alone[1:2]]):
        assert len(got) == len(expected) and all((a == b).all() for a, b in zip(got, expected))
    text = server.post("/v1/embeddings", {"input": TEXTS[1], "encoding_format": "base64"})[1]
    raw = base64.b64decode(json.loads(text)["data"][0]["embedding"], validate=True)
    assert struct.unpack(f"<{len(raw) // 4}f", raw) == tuple(alone[1].tolist())


@pytest.mark.parametrize(
    "body, param",
    [
        ({}, "input"), ({"input": None}, "input"), ({"input": ""}, "input"), ({"input": []}, "input"), ({"input": ["a", ""]}, "input"),
        ({"input": ["a", 1]}, "input"), ({"input": [1, "a"]}, "input"), ({"input": [[1], []]}, "input"), ({"input": [[1], [-1]]}, "input"),
        ({"input": [[1], [10**6]]}, "input"), ({"input": {"a": 1}}, "input"), ({"input": ["a"] * 257}, "input"),
        ({"input": ["a"] * 2049}, "input"), ({"input": ["a", "word " * 600]}, "input"), ({"input": [[1], [1] * 513]}, "input"),
        ({"input": "a", "dimensions": 8}, "dimensions"), ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "encoding_format": 1}, "encoding_format"), ({"input": "a", "pooling": "max"}, "pooling"),
        ({"input": "a", "timeout": 0}, "timeout"),
    ],
)  # fmt: skip
def test_embeddings_refused_before_any_work(small, body, param):
    server, _, _ = small
    before = server.metrics()
    status, text, _ = server.post("/v1/embeddings", body)
    assert (status, json.loads(text)["error"]["param"]) == (400, param)
    after = server.metrics()
    assert all(after[k] == before[k] for k in after if k.startswith(("rocmforge_steps_", "rocmforge_requests_", "rocmforge_prompt_")))


def test_embeddings_model_full_context_and_timeout(small):
    server, client, _ = small
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="another", input="a")
    assert len(embed(client, "tiny", input=[[5] * 512])) == 1  # no place is kept for an answer
    status, text, _ = server.post("/v1/embeddings", {"input": [[5] * 512] * 200, "timeout": 0.001})
    assert status == 504 and json.loads(text)["error"]["code"] == "timeout"


def test_embeddings_end_with_their_client(server):
    before = server.metrics()
    body = json.dumps({"input": [[7 + i] * 60 for i in range(200)]}).encode()
    with server.connect() as s:
        s.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        metrics_when(server, lambda m: m["rocmforge_requests_queued"] > 0)
    after = metrics_when(server, lambda m: n_ended(m) == n_ended(before) + 200 and m["rocmforge_kv_pages_used"] == 0)
    name = 'rocmforge_requests_total{finish="cancelled"}'
    assert after[name] - before[name] > 100


def test_embeddings_that_are_cancelled_are_no_reply():
    with served("--drain-seconds", 60) as s:
        body = json.dumps({"input": [[7 + i] * 500 for i in range(200)]}).encode()
        with s.connect() as c:
            c.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            metrics_when(s, lambda m: m["rocmforge_requests_queued"] > 0)
            s.process.terminate()
            time.sleep(0.2)
            s.process.terminate()  # the second one does not wait
            reply = c.makefile("rb").read()
        assert reply.startswith(b"HTTP/1.1 503 ") and b'"code":"cancelled"' in reply


def test_metrics_know_how_many_shared_a_step():
    def rows(m):
        return {k.split('"')[1]: v for k, v in m.items() if k.startswith("rocmforge_step_sequences_bucket")}

    sum_name, count_name = "rocmforge_step_sequences_sum", "rocmforge_step_sequences_count"
    with served() as s:
        assert s.post("/v1/embeddings", {"input": "word"})[0] == 200
        one = metrics_when(s, lambda m: m[count_name])
        assert one[sum_name] == one[count_name] == rows(one)["1"] == rows(one)["+Inf"] == 1
        assert [float(k) for k in rows(one)] == [2.0**i for i in range(16)] + [float("inf")]
        assert s.post("/v1/embeddings", {"input": [f"The word {i} is known" for i in range(64)]})[0] == 200
        m = metrics_when(s, lambda m: m[sum_name] >= 65)
    assert list(rows(m).values()) == sorted(rows(m).values()) and rows(m)["+Inf"] == m[count_name]
    assert m[sum_name] <= 64 + m[count_name]  # a step's budget may cut one prompt
    assert rows(m)["4"] < rows(m)["+Inf"]
