"""rocmforge generate as its user meets it: streams, stops, repeats itself exactly, and ends politely."""

import json
import os
import pty
import select
import signal
import subprocess
import time

import pytest

PROMPT = "The capital of France is"


@pytest.fixture(scope="session")
def answer(rf, model):
    """The JSON of a generation of PROMPT with the given options."""

    def run(*options, prompt=PROMPT):
        result = rf("generate", "-m", model, "-p", prompt, "--json", *options)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        return json.loads(result.stdout)

    return run


def test_plain_output_is_the_json_text(rf, model, answer):
    plain = rf("generate", "-m", model, "-p", PROMPT, "-n", 16, "--temp", 0)
    assert plain.stderr == "" and plain.stdout == answer("-n", 16, "--temp", 0)["text"] + "\n"
    assert "Paris" in plain.stdout


def test_prompt_from_stdin_and_file(rf, model, tmp_path):
    path = tmp_path / "prompt.txt"
    path.write_text(PROMPT)
    options = ["-m", model, "-n", 8, "--temp", 0]
    expected = rf("generate", *options, "-p", PROMPT).stdout
    assert rf("generate", *options, stdin=PROMPT).stdout == expected
    assert rf("generate", *options, "--file", path).stdout == expected


def test_json_fields(answer):
    a = answer("-n", 8, "--temp", 0)
    assert a["finish_reason"] == "length"
    assert a["usage"]["prompt_tokens"] == 5 and a["usage"]["completion_tokens"] == 8 == len(a["tokens"])
    assert set(a["timings"]) == {"queued_ms", "prefill_ms", "decode_ms"}


def test_statistics_only_when_asked(rf, model):
    assert "tokens/s" in rf("generate", "-m", model, "-p", PROMPT, "-n", 2, "--verbose").stderr


@pytest.mark.parametrize("temperature", [0, 1])
def test_nothing_but_the_request_matters(answer, temperature):
    """Same request, same bytes: whatever the instruction set, the threads, the context size."""
    options = ["-n", 24, "--temp", temperature, "--seed", 7]
    expected = answer(*options)["tokens"]
    for more in (["--isa", "avx2"], ["-t", 1], ["-t", 2], ["--ctx", 256], []):
        try:
            assert answer(*options, *more)["tokens"] == expected, more
        except AssertionError as e:
            if "cannot run the instruction set" not in str(e):
                raise


def test_scalar_gives_the_same_answer(answer):
    assert answer("-n", 4, "--temp", 0, "--isa", "scalar")["tokens"] == answer("-n", 4, "--temp", 0)["tokens"]


# A parameter counts only if it can be seen in the answer. Each line: options that must differ from the base.
BASE = ["-n", 24, "--seed", 3, "--temp", 1.2, "--top-k", 0, "--top-p", 1, "--min-p", 0, "--ignore-eos"]
CHANGES = {
    "seed": ["--seed", 4],
    "temperature": ["--temp", 0.3],
    "top-k": ["--top-k", 2],
    "top-p": ["--top-p", 0.2],
    "min-p": ["--min-p", 0.5],
    "repeat-penalty": ["--repeat-penalty", 3],
    "presence-penalty": ["--presence-penalty", 2],
    "frequency-penalty": ["--frequency-penalty", 2],
}


@pytest.mark.parametrize("name", CHANGES)
def test_parameter_counts(answer, name):
    prompt = "one two one two one two one two"
    assert answer(*BASE, *CHANGES[name], prompt=prompt)["tokens"] != answer(*BASE, prompt=prompt)["tokens"]


def test_top_k_1_is_greedy(answer):
    assert answer("-n", 12, "--temp", 1.5, "--top-k", 1)["tokens"] == answer("-n", 12, "--temp", 0)["tokens"]


def test_repeat_last_n_counts(answer):
    base = ["-n", 40, "--temp", 0, "--repeat-penalty", 1.6, "--ignore-eos"]
    assert answer(*base, "--repeat-last-n", 2)["tokens"] != answer(*base, "--repeat-last-n", 0)["tokens"]


def test_stop_string_is_never_shown(answer):
    full = answer("-n", 48, "--temp", 0)["text"]
    stop = full[20:27]  # crosses tokens
    cut = answer("-n", 48, "--temp", 0, "--stop", "never seen", "--stop", stop)
    assert cut["finish_reason"] == "stop" and cut["text"] == full[: full.index(stop)]


def test_end_token_and_ignore_eos(answer):
    chat = "<|im_start|>user\nSay hi.<|im_end|>\n<|im_start|>assistant\n"
    a = answer("-n", 200, "--temp", 0, "--special", prompt=chat)
    assert a["finish_reason"] == "stop" and "<|im_end|>" not in a["text"]
    b = answer("-n", 200, "--temp", 0, "--special", "--ignore-eos", prompt=chat)
    assert b["usage"]["completion_tokens"] == 200
    # Without --special the same text is text: other tokens.
    assert answer("-n", 1, prompt=chat)["usage"]["prompt_tokens"] > a["usage"]["prompt_tokens"]


def test_context_end_is_length(answer):
    a = answer("--ctx", 32, "-n", 0, "--temp", 0, "--ignore-eos")
    assert a["finish_reason"] == "length" and a["usage"]["prompt_tokens"] + a["usage"]["completion_tokens"] == 32


def wait_for_output(process, seconds=60):
    assert select.select([process.stdout], [], [], seconds)[0], "no output"
    return os.read(process.stdout.fileno(), 4096)


def test_ctrl_c_stops_the_generation(binary, model):
    command = [binary, "generate", "-m", model, "-p", PROMPT, "-n", "0", "--ignore-eos"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = wait_for_output(process)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    rest, error = process.communicate(timeout=30)
    assert process.returncode == 130 and error == b""
    assert time.monotonic() - start < 10
    assert first and (first + rest).endswith(b"\n"), "the answer so far is kept"


def test_ctrl_c_while_loading(binary, model):
    process = subprocess.Popen([binary, "generate", "-m", model, "-p", PROMPT], stdout=subprocess.PIPE)
    time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode in (130, -signal.SIGINT)


def test_timeout(rf, model):
    result = rf("generate", "-m", model, "-p", PROMPT, "-n", 0, "--ignore-eos", "--timeout", 1)
    assert result.returncode == 1 and "time" in result.stderr


def test_reader_that_goes_away(binary, model):
    process = subprocess.Popen([binary, "generate", "-m", model, "-p", PROMPT, "-n", "0", "--ignore-eos"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for_output(process)
    process.stdout.close()
    process.stderr.read()
    assert process.wait(timeout=30) != 0


def test_terminal_sees_statistics(binary, model):
    """On a terminal: the answer, then one line of statistics on stderr."""
    parent, child = pty.openpty()
    process = subprocess.Popen([binary, "generate", "-m", model, "-p", PROMPT, "-n", "4", "--temp", "0"],
                               stdout=subprocess.PIPE, stderr=child)
    os.close(child)
    out = process.communicate(timeout=60)[0]
    shown = os.read(parent, 65536).decode()
    assert process.returncode == 0 and b"Paris" in out and "tokens/s" in shown


def test_bench_and_perplexity_report(rf, model, tmp_path):
    b = json.loads(rf("bench", "-m", model, "--json", "-p", "32,64", "-n", 8, "-d", "0,40", "-b", "1,3", "-r", 2).stdout)
    assert [r["n_tokens"] for r in b["prefill"]] == [32, 64]
    assert [(r["n_tokens"], r["depth"]) for r in b["decode"]] == [(8, 0), (8, 40)]
    assert [r["n_seqs"] for r in b["batched"]] == [1, 3]
    for r in [*b["prefill"], *b["decode"], *b["batched"]]:
        assert len(r["rounds"]) == 2 and min(r["rounds"]) <= r["tokens_per_s"] <= max(r["rounds"])
        assert r["limit_tokens_per_s"] > 0
    assert min(b["limits"].values()) > 1e8 and b["load_ms"] > 0
    assert b["peak_rss_bytes"] > b["weight_bytes"] > 90e6
    only = json.loads(rf("bench", "-m", model, "--json", "-p", "none", "-d", "none", "-b", "2", "-r", 1).stdout)
    assert only["prefill"] == only["decode"] == [] and only["batched"][0]["n_seqs"] == 2
    assert rf("bench", "-m", model, "-p", "64,x").returncode == rf("bench", "-m", model, "-b", "1,").returncode == 2
    text = tmp_path / "text.txt"
    text.write_text("The sun rises in the east and sets in the west. " * 8)
    p = json.loads(rf("perplexity", "-m", model, text, "--json", "--ctx", 64).stdout)
    assert p["scored"] == p["tokens"] - p["windows"] and 1 < p["perplexity"] < 20
    assert rf("perplexity", "-m", model, stdin="x").returncode == 2  # nothing to score
