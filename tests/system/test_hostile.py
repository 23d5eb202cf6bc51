"""Bodies and clients that mean harm. Each is told no in the shape OpenAI's clients know, or served; never a 5xx, never a
hang, and who comes next gets the bytes that came before.

The fields are those of the served /openapi.json: what is added there is tested here."""
import concurrent.futures
import json
import re
import socket
import time

import pytest

from served import http, read_all, served

MARK = "@@"
GREEDY = {"prompt": "The capital of France is", "max_tokens": 8, "temperature": 0}
TALK = [{"role": "system", "content": "a"}, {"role": "user", "content": "a"}]  # a template's own system message is longer
BASES = {  # a request that is right
    "/generate": {"prompt": "a", "max_tokens": 1},
    "/generate/stream": {"prompt": "a", "max_tokens": 1},
    "/v1/completions": {"prompt": "a", "max_tokens": 1},
    "/v1/chat/completions": {"messages": TALK, "max_tokens": 1},
    "/v1/embeddings": {"input": "a"},
    "/tokenize": {"content": "a"},
    "/detokenize": {"tokens": [1]},
    "/apply-template": {"messages": TALK},
    "/cancel/req-0": {},
}
VALUES = ["-1", "0", "1", "NaN", "-Infinity", "1e308", "-1e308", "1e999", '"7"', "null", None, "1.5", "true", "[]", "{}"]
NO_JSON = {"NaN", "-Infinity", "1e999", "18446744073709551616", "9223372036854775808", "-9223372036854775809"}
DEPEND = {"best_of", "top_logprobs", "prompt", "tokens", "input"}  # right in themselves, wrong beside others or with this model


@pytest.fixture(scope="module")
def server():
    options = ["--ctx", 96, "--header-seconds", 1, "--body-seconds", 1, "--write-seconds", 1, "--idle-seconds", 1]
    with served("--no-access-log", *options) as s:
        yield s


@pytest.fixture(scope="module")
def before(server):
    return answer(server)


@pytest.fixture(autouse=True)
def who_comes_next(server, before):
    yield
    server.settled(8)
    assert answer(server) == before and server.get("/health")[0] == 200


def answer(server):
    status, text, _ = server.post("/generate", GREEDY)
    assert status == 200
    return json.loads(text)["text"]


def refusal(text):
    error = json.loads(text)["error"]
    assert set(json.loads(text)) == {"error"} and set(error) == {"message", "type", "param", "code"}
    assert error["message"] and error["type"]
    return error


# ---- numbers --------------------------------------------------------------------------------------------------------


def numbers(api, schema, wrap=lambda v: v):
    """(schema of a number, how its value stands in the whole) in a schema."""
    if isinstance(schema, bool):
        return []
    if "$ref" in schema:
        return numbers(api, api["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], wrap)
    found = []
    kinds = schema.get("type", [])
    if {"integer", "number"} & set([kinds] if isinstance(kinds, str) else kinds):
        found.append((schema, wrap))
    for part in schema.get("allOf", []) + schema.get("anyOf", []):
        found += numbers(api, part, wrap)
    if "items" in schema:
        found += numbers(api, schema["items"], lambda v: wrap([v]))
    return found


def fields(api, schema):
    """{field: [(schema of a number, how it stands in the field)]}"""
    if "$ref" in schema:
        return fields(api, api["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]])
    found = {}
    for part in schema.get("allOf", []):
        found |= fields(api, part)
    for name, field in schema.get("properties", {}).items():
        if places := numbers(api, field):
            found[name] = places
    return found


def is_right(schema, text):
    """Whether the schema allows the value (the few words that schemas of numbers use)."""
    value = json.loads(text)
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if value is None:
        return "null" in kinds
    if isinstance(value, (bool, str, list, dict)) or ("number" not in kinds and value != int(value)):
        return False
    return schema.get("minimum", value) <= value <= schema.get("maximum", value)


def body_with(path, name, wrap, text):
    body = dict(BASES[path])
    body.pop(name, None)
    if text is not None:
        body[name] = wrap(MARK)
    return json.dumps(body).replace(f'"{MARK}"', str(text)).encode()


def test_every_number_of_every_route(server):
    api = json.loads(server.get("/openapi.json")[1])
    routes = {path.replace("{id}", "req-0"): way["post"] for path, way in api["paths"].items() if "post" in way}
    assert routes.keys() == BASES.keys()
    cases = []
    for path, route in routes.items():
        if "requestBody" not in route:
            continue
        found = fields(api, route["requestBody"]["content"]["application/json"]["schema"])
        assert ("temperature" in found) == ("max_tokens" in BASES[path])
        for name, places in found.items():
            for schema, wrap in places:
                low, high = schema.get("minimum"), schema.get("maximum")
                ends = [str(v + step) for v, out in ((low, -1), (high, 1)) if v is not None for step in (0, out)]
                texts = [*VALUES, *ends, "18446744073709551616", "4294967296", "-2147483649"]
                cases += [(server, path, name, schema, wrap, text) for text in texts]
    assert len(cases) > 1200
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda case: check_number(*case), cases))


def check_number(server, path, name, schema, wrap, text):
    status, reply, _ = server.post(path, body_with(path, name, wrap, text))  # within a minute, or it is a hang
    said = (path, name, text, status, reply[:300])
    if (path, name, status) == ("/v1/embeddings", "timeout", 504):
        return  # as /openapi.json says: it was asked for
    assert status in (200, 400), said
    if status == 400:
        assert refusal(reply)["param"] == (None if text in NO_JSON else name), said
        assert name in DEPEND or (name, text) == ("max_tokens", "0") or text in NO_JSON or (text and not is_right(schema, text)), said
    else:
        assert text is None or text not in NO_JSON, said
        # in an array null, true and the like are as wrong as outside; alone they may be another form of the field
        assert text is None or is_right(schema, text) or (name in ("prompt", "input") and text == '"7"'), said


# ---- bodies ---------------------------------------------------------------------------------------------------------

MB8 = (8 << 20) - 200
PROMPT = b'{"prompt": "a", "max_tokens": 1, "more": '
BODIES = {
    "empty": (b"", None),
    "blank": (b"  \n", None),
    "no object": (b"[1]", None),
    "null": (b"null", None),
    "cut": (b'{"prompt": "a"', None),
    "trailing": (b'{"prompt": "a", "max_tokens": 1} x', None),
    "two objects": (b"{}{}", None),
    "deep arrays": (PROMPT + b"[" * 1000000 + b"]" * 1000000 + b"}", None),
    "deep objects": (PROMPT + b'{"a":' * 500000 + b"1" + b"}" * 500000 + b"}", None),
    "open arrays": (b"[" * MB8, None),
    "deep stop": (b'{"prompt": "a", "stop": ' + b"[" * 1000 + b"]" * 1000 + b"}", "stop"),
    "deep prompt": (b'{"prompt": ' + b"[" * 1000 + b"1" + b"]" * 1000 + b"}", "prompt"),
    "same key twice": (b'{"prompt": "a", "prompt": "a"}', None),
    "same key, escaped": (b'{"prompt": "a", "\\u0070rompt": "a"}', None),
    "same key within": (PROMPT + b'{"a": 1, "a": 1}}', None),
    "latin-1": (b'{"prompt": "caf\xe9"}', None),
    "overlong": (b'{"prompt": "\xc0\xaf"}', None),
    "surrogate as bytes": (b'{"prompt": "\xed\xa0\x80"}', None),
    "beyond Unicode": (b'{"prompt": "\xf4\x90\x80\x80"}', None),
    "lone surrogate": (b'{"prompt": "\\ud800"}', None),
    "lone second surrogate": (b'{"prompt": "\\udc00x"}', None),
    "surrogates swapped": (b'{"prompt": "\\udc00\\ud800"}', None),
    "NUL escaped": (b'{"prompt": "a\\u0000b"}', None),
    "NUL in a key": (b'{"prompt": "a", "a\\u0000b": 1}', None),
    "NUL byte": (b'{"prompt": "a\x00b"}', None),
    "control byte": (b'{"prompt": "a\x01b"}', None),
    "UTF-16": ('{"prompt": "a"}'.encode("utf-16"), None),
    "byte order mark": (b'\xef\xbb\xbf{"prompt": "a"}', None),
    "8 MB of objects": (PROMPT + b"[" + b"{}," * (MB8 // 3) + b"1]}", None),
    "8 MB of arrays": (PROMPT + b"[" + b"[]," * (MB8 // 3) + b"1]}", None),
    "8 MB of keys": (PROMPT + b"0" + b"".join(b',"%x":0' % i for i in range(750000)) + b"}", None),
    "8 MB of ids": (b'{"prompt": [' + b"1," * (MB8 // 2) + b"1]}", None),
    "8 MB number": (b'{"prompt": "a", "seed": ' + b"1" * MB8 + b"}", None),
    "8 MB of stop": (b'{"prompt": "a", "stop": "' + b"a" * MB8 + b'"}', "stop"),
    "8 MB of text": (b'{"prompt": "' + b"word " * (MB8 // 5) + b'"}', "prompt"),
    "8 MB of one letter": (b'{"prompt": "' + b"a" * MB8 + b'"}', "prompt"),
    "8 MB of blanks": (b'{"prompt": "' + b" " * MB8 + b'"}', "prompt"),
    "too many stops": (json.dumps({"prompt": "a", "stop": ["x"] * 17}).encode(), "stop"),
    "too many prompts": (json.dumps({"prompt": ["a"] * 257}).encode(), "prompt"),
    "never to be queued": (json.dumps({"prompt": ["a"] * 3, "n": 128}).encode(), "n"),
}
SERVED = {  # odd, and right
    "8 MB not known": PROMPT + b'"' + b"x" * MB8 + b'"}',
    "100,000 objects": PROMPT + b"[" + b"{}," * 100000 + b"1]}",
    "200,000 numbers": PROMPT + b"[" + b"1," * 200000 + b"1]}",
    "2000 deep": PROMPT + b"[" * 2000 + b"]" * 2000 + b"}",
    "a pair of surrogates": b'{"prompt": "\\ud83d\\ude00", "max_tokens": 1}',
    "all controls": json.dumps({"prompt": "".join(map(chr, range(1, 64))), "max_tokens": 1}).encode(),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_are_refused(server, name):
    """By the OpenAI route, whose fields have most shapes."""
    body, param = BODIES[name]
    had_kb = server.memory_kb()
    status, text, _ = server.post("/v1/completions", body)
    assert status == 400 and refusal(text)["param"] == param, text[:300]
    assert server.memory_kb() - had_kb < 40 << 10  # nothing of it stays


@pytest.mark.parametrize("name", SERVED)
def test_bodies_that_are_odd(server, name):
    status, text, _ = server.post("/v1/completions", SERVED[name])
    assert status == 200 and json.loads(text)["usage"]["completion_tokens"] <= 1, text[:300]


@pytest.mark.parametrize("path", ["/generate", "/v1/chat/completions", "/tokenize", "/detokenize", "/apply-template"])
def test_the_other_routes_refuse_as_well(server, path):
    for name in ("empty", "no object", "open arrays", "same key within", "latin-1", "lone surrogate", "NUL in a key", "8 MB of objects"):
        status, text, _ = server.post(path, BODIES[name][0])
        assert status == 400 and refusal(text), (name, text[:300])


def test_what_is_tokenized_at_once_is_bounded(server):
    """Everybody waits meanwhile; megabytes of one character are the tokenizer's worst case."""
    most = 1 << 20
    status, text, _ = server.post("/tokenize", {"content": " " * most})
    assert status == 200 and json.loads(text)["count"] > 0
    for path, name in (("/tokenize", "content"), ("/tokenize", "prompt"), ("/v1/embeddings", "input")):
        status, text, _ = server.post(path, {name: " " * (most + 1)})
        assert status == 400 and refusal(text)["param"] == name and str(most + 1) in text


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "", "a" * 5000, "application/json; charset=utf-16"])
def test_content_types(server, kind):
    """They are not looked at: what is JSON is served, what is not is refused."""
    assert server.post("/generate", BASES["/generate"], headers={"Content-Type": kind})[0] == 200
    status, text, _ = server.post("/generate", b"--x\r\n\r\nprompt\r\n--x--", headers={"Content-Type": kind})
    assert status == 400 and refusal(text)["code"] == "invalid_json"


BROKEN = {  # by status: what is no request
    400: b"POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    413: b"POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 8388609\r\n\r\n",
    414: b"GET /" + b"a" * 9000,
    417: b"POST /generate HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 2\r\n\r\n{}",
    431: b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 40000,
    505: b"GET / HTTP/2.0\r\n\r\n",
}


@pytest.mark.parametrize("status", BROKEN)
def test_what_is_no_request_is_told_in_the_same_shape(server, status):
    with server.connect() as c:
        c.sendall(BROKEN[status])
        head, text = read_all(c).split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 %d " % status) and b"Content-Type: application/json" in head
    assert refusal(text)["code"] == "bad_request"


# ---- clients that take their time -----------------------------------------------------------------------------------


def test_slow_senders(server):
    """A byte now and then, of headers or of a body: 408 a second after the first, however many are at it."""
    heads = [b"POST /generate HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 500, http("/generate", {"prompt": "a" * 500})]
    clients = []
    for i in range(100):
        c = server.connect()
        c.setblocking(False)
        start = [20, heads[1].index(b"\r\n\r\n") + 4][i % 2]  # the body's time begins with the end of the headers
        c.send(heads[i % 2][:start])
        clients.append([c, heads[i % 2][start:], time.monotonic(), b""])
    waits = list(clients)
    while waits:
        for client in list(waits):
            c, left, began, text = client
            try:
                client[3] = text + c.recv(65536)
                assert 0.9 < time.monotonic() - began < 4
                waits.remove(client)
            except BlockingIOError:
                c.send(left[:1])
                client[1] = left[1:]
        assert answer(server) and all(time.monotonic() - began < 5 for _, _, began, _ in waits)
        time.sleep(0.03)
    for c, _, _, text in clients:
        assert text.startswith(b"HTTP/1.1 408 ") and refusal(text.split(b"\r\n\r\n")[1])
        c.close()


def never_reads(server, request):
    c = socket.socket()
    c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    c.settimeout(20)
    c.connect(("127.0.0.1", server.port))
    c.sendall(request)
    return c


def test_readers_that_never_read(server):
    """Replies larger than all buffers of the kernel: each is held for a second without progress, then its client is
    gone; streams pause meanwhile, and their pages come back."""
    text = "a b c " * 150000
    ask = {"prompt": ["a"] * 64, "stream": True, "max_tokens": 80, "ignore_eos": True, "logprobs": 20}
    server.settled()
    gone, had_kb = server.metrics()["rocmforge_http_clients_gone_total"], server.memory_kb()
    clients = [never_reads(server, http("/tokenize", {"content": text, "with_pieces": True})) for _ in range(4)]
    clients += [never_reads(server, http("/v1/completions", ask)) for _ in range(2)]
    most_kb, end = 0, time.monotonic() + 20
    while server.metrics()["rocmforge_http_connections"] > 1:
        most_kb = max(most_kb, server.memory_kb())
        assert time.monotonic() < end
        time.sleep(0.05)
    m = server.settled(1)
    assert most_kb - had_kb < 200 << 10
    assert m["rocmforge_http_clients_gone_total"] == gone + 2  # who asked for tokens has had the reply, as far as we can tell
    for c in clients:
        c.close()


def test_more_than_connections(server):
    """Idle ones are let go after their second, and nobody else notices."""
    clients = [server.connect() for _ in range(300)]
    assert answer(server)
    for c in clients:
        assert read_all(c) == b""
        c.close()


def test_bytes_that_are_no_http(server):
    for data in (b"\x16\x03\x01\x02\x00\x01\x00", b"\x00" * 4000, b"\r\n" * 4000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET\r\n\r\n", re.sub(rb"\r", b"", http("/generate", {}))):
        with server.connect() as c:
            c.sendall(data)
            assert re.match(rb"HTTP/1.1 (400|505) ", read_all(c)), data[:20]
