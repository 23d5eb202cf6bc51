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
    """A small model's server, and what numpy says of the same file."""
    path = Tiny(quant="Q4_0").write(tmp_path_factory.mktemp("small") / "tiny.gguf")
    with served(model=path) as s, openai.OpenAI(base_url=s.url + "/v1", api_key="none", max_retries=0) as c:
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
