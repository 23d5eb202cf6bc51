"""Every metric moves when what it counts happens, and the dashboard shows none that does not exist."""
import concurrent.futures
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from served import served
from tiny import Tiny

DOCS = Path(__file__).parents[2] / "docs"
PROMPT = "one two three " * 15  # more than a KV page, and easy to guess
HISTOGRAMS = "time_to_first_token_seconds inter_token_seconds step_seconds request_seconds delivery_seconds".split()


class Watch:
    """A server's metrics, looked at again and again: each sample's values, in the order seen."""

    def __init__(self, server):
        self.server, self.seen = server, {}

    def look(self):
        now = {}
        for family in text_string_to_metric_families(self.server.get("/metrics")[1]):
            assert family.documentation and family.type != "unknown", family
            for sample in family.samples:
                key = sample.name.removeprefix("rocmforge_"), *sample.labels.values()
                assert key not in now and sample.name.startswith("rocmforge_")
                now[key] = sample.value
        for key, value in now.items():
            self.seen.setdefault(key, []).append(value)
        return now

    def until(self, condition, seconds=20):
        end = time.monotonic() + seconds
        while not condition(now := self.look()):
            assert time.monotonic() < end, now
        return now


@pytest.fixture(scope="module")
def watch():
    """A server with little room, to which everything has happened that the tests below look for."""
    with served("--ctx", 256, "--speculate", 4, "--max-queue", 4, "--max-running", 3, wait=False) as s:
        w = Watch(s)
        w.look()
        s.get("/ready")  # 503: it is loading
        s.wait_ready()
        w.look()
        everything_happens(s, w)
        yield w


def everything_happens(s, w):
    def ask(**more):
        return s.post("/generate", {"prompt": PROMPT, "max_tokens": 2, "temperature": 0, **more})

    tag = s.get("/")[2]["ETag"]
    assert s.get("/", headers={"If-None-Match": tag})[0] == 304
    assert s.get("/nowhere")[0] == 404
    assert ask()[0] == 200  # length
    assert s.post("/generate/stream", {"prompt": PROMPT, "max_tokens": 2})[0] == 200
    assert json.loads(ask(stop=[" "])[1])["finish_reason"] == "stop"
    assert json.loads(ask(timeout=0.02, max_tokens=200, ignore_eos=True)[1])["finish_reason"] == "timeout"
    with s.connect() as client:  # cancelled, by leaving
        body = json.dumps({"prompt": PROMPT, "max_tokens": 200, "ignore_eos": True}).encode()
        client.sendall(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        w.until(lambda now: now[("requests_running",)] == 1)
    w.until(lambda now: now[("requests_total", "cancelled")] == 1)
    # Eight at once, of which three may run and four wait, if they come slowly; the three do not fit into the pages of one context.
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        many = [pool.submit(ask, prompt=f"{i} {PROMPT}", max_tokens=100, ignore_eos=True) for i in range(8)]
        w.until(lambda now: now[("requests_queued",)] > 0 and now[("requests_running",)] > 1)
        while not all(m.done() for m in many):
            w.look()
        refused = [m.result()[0] for m in many].count(429)
        assert refused >= 1
    assert w.look()[("requests_refused_total",)] == refused


def test_every_metric_moves(watch):
    still = {key for key, values in watch.seen.items() if len(set(values)) == 1}
    still -= {key for key in still if key[0].endswith("_bucket")}  # times that nothing took; see test_histograms
    assert still == {("kv_pages",), ("requests_total", "error")}  # the pool's size; the next test


def test_requests_that_fail_are_counted(tmp_path):
    t = Tiny()
    t.reshape["output_norm.weight"] = lambda x: np.full_like(x, np.nan)
    with served(model=t.write(tmp_path / "nan.gguf")) as s:
        w = Watch(s)
        before = w.look()
        status, text, _ = s.post("/generate", {"prompt": "x", "max_tokens": 3})
        assert status == 500 and "finite" in text
        now = w.look()
        for key in (("requests_total", "error"), ("http_replies_total", "5xx")):
            assert now[key] == before[key] + 1


def test_counters_only_rise_and_gauges_come_back(watch):
    now = watch.look()
    for key, values in watch.seen.items():
        if key[0].endswith(("_total", "_count", "_sum", "_bucket")):
            assert values == sorted(values), key
    for gauge in ("requests_queued", "requests_running", "kv_pages_used"):
        assert now[(gauge,)] == 0 < max(watch.seen[(gauge,)])
    assert all(u <= n for u, n in zip(watch.seen[("kv_pages_used",)], watch.seen[("kv_pages",)]))
    assert now[("http_clients_gone_total",)] == 1


def test_counts_are_what_happened(watch):
    before = watch.look()
    body = {"prompt": "Once upon a time", "max_tokens": 9, "ignore_eos": True}
    usage = json.loads(watch.server.post("/generate", body)[1])["usage"]
    after = watch.look()
    grown = {key: after[key] - before[key] for key in after}
    assert grown[("prompt_tokens_total",)] == usage["prompt_tokens"] > 1
    assert grown[("cached_tokens_total",)] == usage["cached_tokens"]
    assert grown[("completion_tokens_total",)] == usage["completion_tokens"] == 9
    assert grown[("requests_total", "length")] == 1
    assert grown[("http_replies_total", "2xx")] == 2  # the look itself is one
    assert grown[("time_to_first_token_seconds_count",)] == grown[("request_seconds_count",)] == 1
    assert grown[("inter_token_seconds_count",)] == 8
    assert grown[("step_seconds_count",)] == grown[("steps_total",)] >= 3


def test_each_streamed_piece_is_delivered(watch):
    before = watch.look()
    text = watch.server.post("/generate/stream", {"prompt": "Once upon a time", "max_tokens": 9, "ignore_eos": True})[1]
    after, pieces = watch.look(), sum('"text":' in line for line in text.splitlines())
    assert pieces > 3 and after[("delivery_seconds_count",)] - before[("delivery_seconds_count",)] == pieces


@pytest.mark.parametrize("name", HISTOGRAMS)
def test_histograms(watch, name):
    """Cumulative, the last bucket is the count, and the sum lies between what the buckets allow."""
    now = watch.look()
    buckets = [(float(key[1]), value) for key, value in now.items() if key[0] == name + "_bucket"]
    assert buckets == sorted(buckets) and buckets[-1][0] == float("inf")
    assert [n for _, n in buckets] == sorted(n for _, n in buckets)
    count, total = now[(name + "_count",)], now[(name + "_sum",)]
    assert buckets[-1][1] == count > 0 and buckets[-2][1] == count, "nothing here takes minutes"
    each = [n - before for (_, n), (_, before) in zip(buckets, [(0, 0), *buckets])]
    low, high = [0, *(le for le, _ in buckets)], [le for le, _ in buckets]
    assert sum(n * l for n, l in zip(each, low)) <= total <= sum(n * h for n, h in zip(each, high) if n)


def test_the_dashboard_shows_what_exists(watch):
    board = json.loads((DOCS / "grafana.json").read_text())
    expressions = [t["expr"] for p in board["panels"] for t in p.get("targets", [])]
    used = {name for e in expressions for name in re.findall(r"rocmforge_\w+", e)}
    exist = {"rocmforge_" + key[0] for key in watch.seen}
    assert used <= exist, used - exist
    whole = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in used}
    families = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in exist}
    assert families <= whole, families - whole
    labels = {key[1:] for key in watch.seen if key[0] == "requests_total"}
    assert labels == {("stop",), ("length",), ("cancelled",), ("timeout",), ("error",)}
    documented = (DOCS / "deployment.md").read_text()
    named = set(re.findall(r"rocmforge_\w+", documented))
    assert named and named <= exist | families
