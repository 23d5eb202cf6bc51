"""rocmforge batch: answers in the order of the input, equal to those of generate, whatever interrupts it."""

import json
import os
import pty
import signal
import subprocess
import time

import pytest


@pytest.fixture(scope="session")
def batch(rf, model, tmp_path_factory):
    """Runs records (objects, or lines as they are) and returns the finished process and its output records."""

    def run(*records, options=(), code=0):
        path = tmp_path_factory.mktemp("batch") / "in.jsonl"
        lines = [r if isinstance(r, (str, bytes)) else json.dumps(r) for r in records]
        path.write_bytes(b"".join((x if isinstance(x, bytes) else x.encode()) + b"\n" for x in lines))
        result = rf("batch", "-m", model, path, *options)
        assert result.returncode == code, result.stderr
        return [json.loads(line) for line in result.stdout.split("\n") if line]

    return run


MIXED = [
    {"id": "long", "prompt": "Once upon a time, in a house by the sea,", "max_tokens": 60, "seed": 9},
    {"prompt": "The capital of France is", "max_tokens": 2, "temperature": 0},
    {"id": 3, "prompt": "one two one two one two", "max_tokens": 16, "temperature": 1.2, "top_k": 7, "top_p": 0.8,
     "min_p": 0.01, "repeat_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.25, "seed": 4},
    {"prompt": "Count: 1, 2, 3,", "stop": "7", "temperature": 0},
    {"prompt": "Grüße aus 東京 🙂", "stop": ["never", "\n"], "max_tokens": 12},
    {"prompt": "The capital of France is", "max_tokens": 2, "temperature": 0},
]


def options_of(record):
    names = {"max_tokens": "-n"}
    for name, value in record.items():
        if name not in ("id", "prompt"):
            for one in value if isinstance(value, list) else [value]:
                yield from (names.get(name, "--" + name.replace("_", "-")), one)


def test_equals_generate_in_order(batch, rf, model):
    answers = batch(*MIXED, options=["--tokens"])
    assert [a["index"] for a in answers] == list(range(len(MIXED)))
    for record, answer in zip(MIXED, answers):
        one = rf("generate", "-m", model, "-p", record["prompt"], "--json", *options_of(record))
        alone = json.loads(one.stdout)
        assert answer.get("id") == record.get("id")
        for key in ("text", "tokens", "finish_reason"):
            assert answer[key] == alone[key]
        assert answer["usage"] == {k: alone["usage"][k] for k in ("prompt_tokens", "completion_tokens")}


def test_command_line_is_the_default(batch):
    prompt = {"prompt": "The capital of France is"}
    by_record = batch({**prompt, "max_tokens": 6, "temperature": 0})
    assert batch(prompt, options=["-n", 6, "--temp", 0]) == by_record
    assert batch({**prompt, "max_tokens": 6}, options=["-n", 3, "--temp", 0]) == by_record


def test_special_prompts(batch):
    record = {"prompt": "<|im_start|>user\nSay hi.<|im_end|>\n", "max_tokens": 1}
    plain, special = batch(record), batch(record, options=["--special"])
    assert plain[0]["usage"]["prompt_tokens"] > special[0]["usage"]["prompt_tokens"]


BAD = {  # line: what its record says
    "nonsense": "not JSON",
    '{"prompt": "x"': "not JSON",
    "[1]": "not a JSON object",
    '{"prompt": "x", "prompt": "y"}': "duplicate",
    b'{"prompt": "\xff"}': "not JSON",
    "{}": "'prompt' is missing",
    '{"prompt": 1}': "'prompt' is not a string",
    '{"prompt": ""}': "empty",
    '{"prompt": "x", "temprature": 1}': "'temprature'",
    '{"prompt": "x", "temperature": "hot"}': "'temperature' is not a number",
    '{"prompt": "x", "temperature": -1}': "temperature is -1",
    '{"prompt": "x", "temperature": 1e300}': "temperature is inf",
    '{"prompt": "x", "max_tokens": -1}': "'max_tokens'",
    '{"prompt": "x", "max_tokens": 4294967296}': "'max_tokens'",
    '{"prompt": "x", "max_tokens": 1.5}': "'max_tokens'",
    '{"prompt": "x", "max_tokens": null}': "'max_tokens'",
    '{"prompt": "x", "seed": -1}': "'seed'",
    '{"prompt": "x", "top_p": 0}': "top_p",
    '{"prompt": "x", "stop": 5}': "'stop'",
    '{"prompt": "x", "stop": [""]}': "stop string",
    '{"prompt": "x", "stop": "a\\u0000b"}': "NUL",
    '{"prompt": "x", "id": []}': "'id'",
    json.dumps({"prompt": "x " * 3000, "id": "long"}): "context holds",
}


def test_bad_lines_hurt_nobody(batch):
    good = {"prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}
    lines = [good, *(x for bad in BAD for x in (bad, good)), "", "   \t", good]
    answers = batch(*lines, code=1, options=["--ctx", 2048])
    assert len(answers) == 2 * len(BAD) + 2 and [a["index"] for a in answers] == list(range(len(answers)))
    for want, answer in zip(BAD.values(), answers[1::2]):
        assert want in answer["error"] and answer["finish_reason"] == "error" and "text" not in answer, answer
    assert answers[-3]["id"] == "long"
    assert {a["text"] for a in (*answers[::2], answers[-1])} == {answers[0]["text"]}


def test_files(rf, model, tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    result = rf("batch", "-m", model, empty, "-o", tmp_path / "out.jsonl")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert (tmp_path / "out.jsonl").read_text() == ""
    for path in (tmp_path / "none.jsonl", tmp_path):
        result = rf("batch", "-m", model, path)
        assert result.returncode == 1 and str(path) in result.stderr and result.stdout == ""
    assert rf("batch", "-m", model, empty, "-o", tmp_path / "no" / "out").returncode == 1
    assert rf("batch", "-m", model).returncode == 2 and rf("batch", empty).returncode == 2


MANY = 330  # the queue takes 256, and 32 run


@pytest.fixture(scope="session")
def many(rf, model, tmp_path_factory):
    """More records than the queue takes, and the bytes of their answers in an uninterrupted run."""
    folder = tmp_path_factory.mktemp("many")
    path = folder / "in.jsonl"
    records = [{"id": f"r{i}", "prompt": f"{i} times {i + 1} is", "max_tokens": 1 + i % 3, "seed": i}
               for i in range(MANY)]
    records[17]["unknown"] = 1
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    assert rf("batch", "-m", model, path, "-o", folder / "out.jsonl", timeout=300).returncode == 1
    whole = (folder / "out.jsonl").read_bytes()
    assert whole.count(b"\n") == MANY
    return path, whole


def interrupt(binary, model, path, out, signal_number):
    process = subprocess.Popen([binary, "batch", "-m", model, path, "-o", out], stderr=subprocess.PIPE)
    while not (out.exists() and out.read_bytes().count(b"\n") >= 100):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal_number)
    error = process.communicate(timeout=30)[1]
    assert out.read_bytes().count(b"\n") < MANY, "the signal came too late to test anything"
    return process.returncode, error


@pytest.mark.parametrize("number, code", [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_resume(binary, rf, model, many, tmp_path, number, code):
    path, whole = many
    out = tmp_path / "out.jsonl"
    assert interrupt(binary, model, path, out, number) == (code, b"")
    assert whole.startswith(out.read_bytes()), "what is there is whole and in order"
    assert rf("batch", "-m", model, path, "-o", out, timeout=300).returncode == 1
    assert out.read_bytes() == whole


def test_resume_at_every_edge(rf, model, tmp_path):
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text('{"id": 1, "prompt": "a", "max_tokens": 2}\n\nbad\n{"prompt": "é", "max_tokens": 3}')
    command = ["batch", "-m", model, path, "-o", out]
    assert rf(*command).returncode == 1
    whole = out.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
    for cut in sorted({0, 1, ends[0] - 1, *ends, ends[1] - 1, len(whole) - 2, len(whole) - 1}):
        out.write_bytes(whole[:cut])
        assert rf(*command).returncode == 1, "a kept record that failed still counts"
        assert out.read_bytes() == whole, cut


def test_a_file_that_is_no_output_of_this_batch_stays(rf, model, tmp_path):
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text('{"id": "a", "prompt": "x", "max_tokens": 1}\n')
    assert rf("batch", "-m", model, path, "-o", out).returncode == 0
    good = out.read_text()
    for strange in ("my diary\n", good.replace('"a"', '"b"'), good.replace('"index":0', '"index":1'), good + good):
        out.write_text(strange)
        result = rf("batch", "-m", model, path, "-o", out)
        assert result.returncode == 1 and "not an answer to record" in result.stderr
        assert out.read_text() == strange
    result = rf("batch", "-m", model, path, "-o", path)
    assert result.returncode == 1 and path.read_text().startswith('{"id": "a"')


def test_full_device(rf, model, many):
    result = rf("batch", "-m", model, many[0], "-o", "/dev/full")
    assert result.returncode == 1 and "cannot write to /dev/full" in result.stderr


def test_progress_on_a_terminal(binary, model, many):
    path, whole = many
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [binary, "batch", "-m", model, path], stdout=subprocess.PIPE, stderr=child, pipesize=4096
    )
    os.close(child)
    out = process.stdout.readline()
    time.sleep(0.3)  # a full pipe holds the batch up for longer than the 200 ms in which no bar is drawn
    out += process.communicate(timeout=300)[0]
    assert len(whole) > 3 * 4096 and out == whole
    assert b"answering [#" in os.read(parent, 1 << 20)
