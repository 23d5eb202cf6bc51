"""Clients that go away, in every state of a request and in every way: the request is cancelled, its pages come back at
once, and nobody else's bytes change. To half-close is to leave, until the reply is on its way (server/http.h)."""
import json
import random
import re
import socket
import struct
import threading
import time

import pytest

from served import http, read_all, served

GREEDY = ["The capital of France is", "Once upon a time", "In C, a pointer", "Water boils at"]
CANCELLED = 'rocmforge_requests_total{finish="cancelled"}'
GONE = "rocmforge_http_clients_gone_total"
BUSY = 'rocmforge_http_replies_total{class="4xx"}'
N_RUNNING = 4


def close(c):
    c.close()


def half_close(c):
    c.shutdown(socket.SHUT_WR)
    try:
        rest = read_all(c)  # what was on its way, and then the end: nobody answers
    except ConnectionResetError:
        rest = b""
    assert b"finish_reason\":\"length" not in rest
    c.close()


def reset(c):
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()


WAYS = [close, half_close, reset]


@pytest.fixture(scope="module")
def server():
    with served("--no-access-log", "--ctx", 1024, "--max-running", N_RUNNING, "--step-tokens", 64) as s:
        yield s


def ask_alone(server, prompt):
    return json.loads(server.post("/generate", {"prompt": prompt, "max_tokens": 12, "temperature": 0})[1])["text"]


@pytest.fixture(scope="module")
def alone(server):
    return {prompt: ask_alone(server, prompt) for prompt in GREEDY}


def prompt_of(n_words, rng=random.Random(1)):  # that no cache knows
    return "".join(rng.choice(" the of and to in is was for that it with as his on be at by had".split(" ")) + " " for _ in range(n_words)) or "a"


def begin(server, path="/generate/stream", n_words=3):
    """A client whose request goes on for very long."""
    c = server.connect()
    c.sendall(http(path, {"prompt": prompt_of(n_words), "max_tokens": 2000, "ignore_eos": True, "stream": path != "/generate"}))
    return c


def read_until(c, what):
    text = b""
    while what not in text:
        piece = c.recv(65536)
        assert piece, text
        text += piece
    return text


def wait_for(what, seconds=10):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.002)


def state_of(server, head):
    name = re.search(rb"X-Request-Id: (\S+)", head)[1].decode()
    return json.loads(server.get(f"/status/{name}")[1])["state"]


# ---- each state and way, looked at closely --------------------------------------------------------------------------


def in_queue(server):
    """Behind as many as can run; these are the other clients, and stay."""
    holders = [begin(server) for _ in range(N_RUNNING)]
    for h in holders:
        read_until(h, b"event: token")
    clients = [begin(server) for _ in range(3)]
    for c in clients:
        assert state_of(server, read_until(c, b"event: start")) == "queued"
    return clients, holders


def in_prefill(server):
    clients = [begin(server, n_words=900)]
    head = read_until(clients[0], b"event: start")
    wait_for(lambda: state_of(server, head) == "prefill" and server.metrics()["rocmforge_kv_pages_used"] > 0)
    return clients, []


def between_tokens(server, path="/generate/stream", sign=b"event: token"):
    clients = [begin(server, path) for _ in range(3)]
    for c in clients:
        read_until(c, sign)
    return clients, []


def in_a_chat_of_chunks(server):
    return between_tokens(server, "/v1/completions", b'"finish_reason":null')


def waiting_for_the_whole(server):
    before = server.metrics()["rocmforge_completion_tokens_total"]
    clients = [begin(server, "/generate") for _ in range(3)]
    wait_for(lambda: server.metrics()["rocmforge_requests_running"] == 3 and server.metrics()["rocmforge_completion_tokens_total"] > before)
    return clients, []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("state", [in_queue, in_prefill, between_tokens, in_a_chat_of_chunks, waiting_for_the_whole])
def test_a_client_that_leaves(server, alone, state, way):
    before = server.settled()
    clients, others = state(server)
    busy = server.metrics()
    assert busy["rocmforge_kv_pages_used"] > 0 and busy[GONE] == before[GONE] and busy[CANCELLED] == before[CANCELLED]
    for c in clients:
        way(c)
    wait_for(lambda: server.metrics()[CANCELLED] == before[CANCELLED] + len(clients), 2)
    m = server.metrics()
    assert m[GONE] == before[GONE] + len(clients)
    assert (m["rocmforge_requests_queued"], m["rocmforge_requests_running"]) == (0, len(others))
    assert others or m["rocmforge_kv_pages_used"] == 0
    for c in others:
        assert read_until(c, b"event: token")
        c.close()
    server.settled()
    assert ask_alone(server, GREEDY[0]) == alone[GREEDY[0]]


def test_a_request_is_never_nowhere(server):
    """From the moment it is accepted it is queued or running, its first step included: /health's watchdog looks there."""
    server.settled()
    client = begin(server, n_words=400)
    head = read_until(client, b"event: start")
    n = 0
    while state_of(server, head) in ("queued", "prefill"):
        m = server.metrics()
        assert m["rocmforge_requests_queued"] + m["rocmforge_requests_running"] >= 1
        n += 1
    assert n > 5
    client.close()
    server.settled()


def test_who_half_closes_with_the_reply_on_its_way_gets_all_of_it(server):
    text = "a b c d " * 100000
    with server.connect() as c:
        c.sendall(http("/tokenize", {"content": text, "with_pieces": True}))  # 10 MB, more than kernels hold
        start = c.recv(100)
        c.shutdown(socket.SHUT_WR)
        head, body = (start + read_all(c)).split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200") and json.loads(body)["count"] == len(json.loads(body)["tokens"]) > 100000


def test_one_of_many_choices(server):
    """All answers of one request go with its client."""
    before = server.settled()
    with server.connect() as c:
        c.sendall(http("/v1/completions", {"prompt": ["a", "b"], "n": 8, "max_tokens": 2000, "stream": True, "ignore_eos": True}))
        read_until(c, b'"index":0')
    after = server.settled()
    assert after[CANCELLED] == before[CANCELLED] + 16 and after[GONE] == before[GONE] + 1


def test_who_leaves_in_the_middle_of_a_request(server):
    """Nothing was asked yet, so nothing is cancelled."""
    before = server.settled()
    whole = http("/generate", {"prompt": "a" * 200, "max_tokens": 2000})
    for cut in range(1, len(whole), 7):
        with server.connect() as c:
            c.sendall(whole[:cut])
    after = server.settled()
    assert after[CANCELLED] == before[CANCELLED] and after[GONE] == before[GONE]


# ---- many, at any moment --------------------------------------------------------------------------------------------


def leave(server, rng):
    """One client that leaves. Whether the server must have known of it."""
    kind, way = rng.choice(["stream", "chunks", "whole", "prefill", "at once"]), rng.choice(WAYS)
    if kind == "whole":
        c = begin(server, "/generate")
        time.sleep(rng.random() * 0.05)
    else:
        c = begin(server, "/v1/completions" if kind == "chunks" else "/generate/stream", 200 if kind == "prefill" else 3)
    if kind in ("stream", "chunks", "prefill"):
        assert read_until(c, b"\r\n\r\n")[9:12] in (b"200", b"429")  # those that left may fill the queue until a step ends
        time.sleep(rng.random() * 0.03)
    way(c)
    return way is not reset or kind not in ("whole", "at once")  # a reset takes back what was sent


def campaign(server, n, seed, counts):
    rng = random.Random(seed)
    for _ in range(n):
        counts.append(leave(server, rng))


def compare(server, alone, over, answers):
    rng = random.Random(5)
    while not over.is_set():
        prompt = rng.choice(GREEDY)
        answers.append(ask_alone(server, prompt) == alone[prompt])


def run_all(threads):
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def test_many_clients_that_leave(server, alone, long):
    n_threads, n_each = 8, 1250 if long else 100
    assert server.post("/generate", {"prompt": prompt_of(1000), "max_tokens": 1})[0] == 200  # every page has been used
    run_all([threading.Thread(target=campaign, args=(server, n_each // 10, 100 + i, [])) for i in range(n_threads)])  # warm
    before, had_kb, began = server.settled(10), server.memory_kb(), time.monotonic()
    over, answers, counts = threading.Event(), [], []
    other = threading.Thread(target=compare, args=(server, alone, over, answers))
    other.start()
    run_all([threading.Thread(target=campaign, args=(server, n_each, i, counts)) for i in range(n_threads)])
    over.set()
    other.join()
    after, took_s, has_kb = server.settled(10), time.monotonic() - began, server.memory_kb()
    print(f"{len(counts)} clients left within {took_s:.1f} s; memory {had_kb} kB before, {has_kb} kB after; {len(answers)} answers beside")
    n, known = n_threads * n_each, sum(counts)
    n_busy = after[BUSY] - before[BUSY]
    assert len(counts) == n and known - n_busy <= after[GONE] - before[GONE] <= n and n_busy < n / 2
    assert after[CANCELLED] - before[CANCELLED] == after[GONE] - before[GONE]
    assert answers and all(answers)
    assert has_kb - had_kb < 6 << 10
    assert server.get("/health")[0] == 200
