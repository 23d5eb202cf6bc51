"""Measures one peer once, in this process, and prints what `rocmforge bench --json` prints of itself.

    peer_once.py MODULE MODEL.gguf THREADS '{"prefill": [512], "decode": 128, "depth": [0], "batch": [16], "flash": 1}'

MODULE is llama_cpp or ik_llama_cpp._ctypes_api: the C calls of llama.cpp and of its fork, which differ in names and
structures only. Memory is what came on top of Python and the library. Each measurement has a context of its own, sized for it and warmed up. Loading ends with the first token
of a prompt of one, as the file is read no earlier.
"""
import importlib
import json
import resource
import sys
import time

SHORT, SHORT_STEPS, CHUNK = 32, 32, 512  # as in src/cli/bench.c


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Peer:
    def __init__(self, module, model, n_threads, flags):
        self.lc = lc = importlib.import_module(module)
        self.n_threads, self.flags = n_threads, flags
        if hasattr(lc, "llama_log_set"):
            self.quiet = lc.llama_log_callback(lambda *_: None)  # kept alive
            lc.llama_log_set(self.quiet, None)
        lc.llama_backend_init()
        self.bytes_before = peak_bytes()
        p = lc.llama_model_default_params()
        for name in ("repack_tensors", "use_mmap"):
            if name in flags and hasattr(p, name):
                setattr(p, name, bool(flags[name]))
        self.model = lc.llama_model_load_from_file(model.encode(), p)
        if not self.model:
            sys.exit(f"peer_once: the peer cannot open {model}")
        self.n_vocab = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(self.model))

    def open(self, n_seqs, n_ctx):
        lc, flags = self.lc, self.flags
        p = lc.llama_context_default_params()
        p.n_seq_max, p.n_ctx, p.n_batch, p.n_ubatch = n_seqs, n_ctx + 32 * n_seqs, 2048, CHUNK
        p.n_threads = p.n_threads_batch = self.n_threads
        if hasattr(p, "flash_attn_type"):
            p.flash_attn_type = int(flags.get("flash", 0))
            p.kv_unified = bool(flags.get("unified", 0))
        else:
            p.flash_attn = bool(flags.get("flash", 0))
        self.context = lc.llama_init_from_model(self.model, p)
        self.batch = lc.llama_batch_init(2048, 0, 1)
        if not self.context:
            sys.exit("peer_once: no context")

    def close(self):
        self.lc.llama_batch_free(self.batch)
        self.lc.llama_free(self.context)

    def forget(self):
        if hasattr(self.lc, "llama_memory_clear"):
            self.lc.llama_memory_clear(self.lc.llama_get_memory(self.context), True)
        else:
            self.lc.llama_kv_cache_clear(self.context)

    def step(self, rows):
        """rows: (sequence, position, whether logits are wanted)"""
        b = self.batch
        b.n_tokens = len(rows)
        for i, (seq, at, wanted) in enumerate(rows):
            b.token[i], b.pos[i], b.n_seq_id[i] = (at * 7919 + seq * 13 + 17) % self.n_vocab, at, 1
            b.seq_id[i][0], b.logits[i] = seq, wanted
        if self.lc.llama_decode(self.context, b) != 0:
            sys.exit("peer_once: llama_decode failed")
        if rows[-1][2]:
            self.lc.llama_get_logits_ith(self.context, len(rows) - 1)  # waits until they are there

    def prefill(self, n, first=0):
        for start in range(first, first + n, CHUNK):
            end = min(start + CHUNK, first + n)
            self.step([(0, at, at == first + n - 1) for at in range(start, end)])

    def decode(self, n_seqs, first, n):
        for at in range(first, first + n):
            self.step([(seq, at, True) for seq in range(n_seqs)])


def row(n_tokens, n_seqs, depth, start):
    speed = n_tokens * n_seqs / (time.perf_counter() - start)
    return {"n_tokens": n_tokens, "depth": depth, "n_seqs": n_seqs, "tokens_per_s": speed}


def main():
    module, model, n_threads, what = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
    start = time.perf_counter()
    peer = Peer(module, model, n_threads, what)
    peer.open(1, 64)
    peer.prefill(1)
    out = {"prefill": [], "decode": [], "batched": [], "load_ms": 1000 * (time.perf_counter() - start)}
    peer.close()
    for n in what.get("prefill", []):
        peer.open(1, n)
        peer.prefill(min(n, 128))
        peer.forget()
        start = time.perf_counter()
        peer.prefill(n)
        out["prefill"].append(row(n, 1, 0, start))
        peer.close()
    for depth in what.get("depth", []):
        peer.open(1, depth + what["decode"])
        peer.decode(1, 0, 8)
        peer.forget()
        peer.prefill(depth)
        start = time.perf_counter()
        peer.decode(1, depth, what["decode"])
        out["decode"].append(row(what["decode"], 1, depth, start))
        peer.close()
    for n in what.get("batch", []):
        peer.open(n, n * (SHORT + SHORT_STEPS))
        peer.decode(n, 0, SHORT)
        start = time.perf_counter()
        peer.decode(n, SHORT, SHORT_STEPS)
        out["batched"].append(row(SHORT_STEPS, n, SHORT, start))
        peer.close()
    out["peak_rss_bytes"] = peak_bytes() - peer.bytes_before
    print(json.dumps(out))


if __name__ == "__main__":
    main()
