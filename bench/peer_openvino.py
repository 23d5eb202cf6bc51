"""Measures openvino-genai once, in this process, and prints what `rocmforge bench --json` prints of itself.

    peer_openvino.py MODEL.gguf THREADS '{"prefill": [512], "decode": 128, "depth": [0], "batch": [16]}'

It turns the file into a graph of its own when it loads. Time of decoding is that of a longer answer less that of an
answer of one token to prompts as long, as it samples by itself; its depth is at least 1.
"""
import json
import resource
import sys
import time

import numpy
import openvino
import openvino_genai

SHORT, SHORT_STEPS = 32, 32  # as in src/cli/bench.c


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Peer:
    def __init__(self, model, n_threads):
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.enable_prefix_caching, scheduler.cache_size = False, 1  # GB
        scheduler.max_num_batched_tokens = 2048  # as the other peers; the default is less
        self.pipe = openvino_genai.LLMPipeline(model, "CPU", scheduler_config=scheduler, INFERENCE_NUM_THREADS=n_threads)
        self.rng = numpy.random.default_rng(1)

    def seconds(self, n_seqs, n_prompt, n_answer):
        ids = self.rng.integers(300, 30000, (n_seqs, n_prompt), dtype=numpy.int64)
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids)))
        config = openvino_genai.GenerationConfig(max_new_tokens=n_answer, ignore_eos=True)
        start = time.perf_counter()
        self.pipe.generate(inputs, config)
        return time.perf_counter() - start

    def decode(self, n_seqs, depth, n):
        speed = n * n_seqs / (self.seconds(n_seqs, max(1, depth), n + 1) - self.seconds(n_seqs, max(1, depth), 1))
        return {"n_tokens": n, "depth": depth, "n_seqs": n_seqs, "tokens_per_s": speed}


def main():
    model, n_threads, what = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    before, start = peak_bytes(), time.perf_counter()
    peer = Peer(model, n_threads)
    peer.seconds(1, 1, 1)
    out = {"load_ms": 1000 * (time.perf_counter() - start)}
    peer.seconds(1, 64, 2)  # warm
    out["prefill"] = [{"n_tokens": n, "tokens_per_s": n / peer.seconds(1, n, 1)} for n in what.get("prefill", [])]
    out["decode"] = [peer.decode(1, depth, what["decode"]) for depth in what.get("depth", [])]
    out["batched"] = [peer.decode(n, SHORT, SHORT_STEPS) for n in what.get("batch", [])]
    out["peak_rss_bytes"] = peak_bytes() - before
    print(json.dumps(out))


if __name__ == "__main__":
    main()
