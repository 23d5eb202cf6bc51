"""Ten times as many clients as can be served. Who is told to come again is told the truth, who is served gets the bytes
of a quiet day, and memory stays where it is."""
import asyncio
import json
import random
import re
import time

import pytest

from served import http, served

N_RUNNING, N_QUEUE, N_CONNECTIONS = 4, 8, 96
N_CLIENTS = 10 * (N_RUNNING + N_QUEUE)
PROMPTS = ["The capital of France is", "Once upon a time", "In C, a pointer", "Water boils at", "A cat and a dog"]
ASK = {"max_tokens": 8, "temperature": 0}


@pytest.fixture(scope="module")
def server():
    limits = ["--max-running", N_RUNNING, "--max-queue", N_QUEUE, "--max-connections", N_CONNECTIONS]
    with served("--no-access-log", "--ctx", 256, *limits) as s:
        yield s


class Crowd:
    def __init__(self, server, alone, until):
        self.server, self.alone, self.until = server, alone, until
        self.statuses, self.wrong, self.waits, self.tries = {}, [], [], []

    async def ask(self, prompt, stream):
        """(status, headers, text) of one request on a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            writer.write(http("/v1/completions", {**ASK, "prompt": prompt, "stream": stream}, "Connection: close"))
            head, body = (await asyncio.wait_for(reader.read(), 60)).split(b"\r\n\r\n", 1)
        finally:
            writer.close()
        return int(head.split()[1]), head, body.decode()

    async def client(self, seed):
        rng, n_tries = random.Random(seed), 0
        while time.monotonic() < self.until:
            prompt, stream, n_tries = rng.choice(PROMPTS), rng.random() < 0.5, n_tries + 1
            status, head, body = await self.ask(prompt, stream)
            self.statuses[status] = self.statuses.get(status, 0) + 1
            if status == 200:
                self.tries.append(n_tries)
                n_tries = 0
                if text_of(body, stream) != self.alone[prompt]:
                    self.wrong.append((prompt, body))
                continue
            error = json.loads(body)["error"]
            again = re.search(rb"Retry-After: (\d+)\r\n", head)
            if status not in (429, 503) or not error["message"] or not again:
                self.wrong.append((status, head, body))
                return
            self.waits.append(int(again[1]))
            await asyncio.sleep(int(again[1]) * rng.uniform(1, 1.3))

    async def watch(self, samples):
        while time.monotonic() < self.until:
            samples.append((time.monotonic(), self.server.memory_kb()))
            await asyncio.sleep(0.1)

    async def run(self, samples):
        await asyncio.gather(self.watch(samples), *(self.client(i) for i in range(N_CLIENTS)))


def text_of(body, stream):
    if not stream:
        return json.loads(body)["choices"][0]["text"]
    events = [line.removeprefix("data: ") for line in body.split("\n") if line.startswith("data: ")]
    assert events.pop() == "[DONE]"
    return "".join(json.loads(e)["choices"][0]["text"] for e in events)


def slope(samples):
    """kB a second, by least squares."""
    n, mean_t, mean_kb = len(samples), sum(t for t, _ in samples) / len(samples), sum(kb for _, kb in samples) / len(samples)
    assert n > 10
    return sum((t - mean_t) * (kb - mean_kb) for t, kb in samples) / sum((t - mean_t) ** 2 for t, _ in samples)


def test_ten_times_too_many(server, long):
    alone = {p: json.loads(server.post("/v1/completions", {**ASK, "prompt": p})[1])["choices"][0]["text"] for p in PROMPTS}
    began, seconds, samples = time.monotonic(), 60 if long else 5, []
    crowd = Crowd(server, alone, began + seconds)
    asyncio.run(crowd.run(samples))
    after, took_s = server.settled(), time.monotonic() - began
    steady = samples[len(samples) // 4 :]  # the first quarter is buffers that are made once
    n_ok, tries = crowd.statuses.get(200, 0), sorted(crowd.tries)
    print(f"{took_s:.1f} s: {crowd.statuses}; tries for an answer: median {tries[len(tries) // 2]}, most {tries[-1]}; "
          f"memory {samples[0][1]} to {samples[-1][1]} kB, {slope(steady):.1f} kB/s")
    assert not crowd.wrong, crowd.wrong[:3]
    assert set(crowd.statuses) == {200, 429, 503} and n_ok > 2 * seconds
    assert all(1 <= wait <= 60 for wait in crowd.waits)
    assert slope(steady) * seconds < 4 << 10
    assert after["rocmforge_kv_pages_used"] == 0 and took_s < seconds + 15


def test_who_was_told_to_come_again_is_served(server):
    """A full queue of short requests: after Retry-After there is room."""

    async def run():
        crowd = Crowd(server, {}, 0)
        replies = await asyncio.gather(*(crowd.ask(PROMPTS[i % 5], False) for i in range(N_CONNECTIONS - 8)))
        told = [int(re.search(rb"Retry-After: (\d+)\r\n", head)[1]) for status, head, _ in replies if status == 429]
        assert len(told) > N_QUEUE and {status for status, _, _ in replies} == {200, 429}
        await asyncio.sleep(max(told))
        assert (await crowd.ask(PROMPTS[0], False))[0] == 200

    asyncio.run(run())
    server.settled()
