"""--speculate changes when tokens come, not which: on a real model, greedy and sampled, alone and in a crowd."""

import json

import pytest

ROWS = "".join(f"2024-03-{day:02},Northgate,{40 + day * 7 % 10}.5,ok\n" for day in range(1, 8))
MANY = 36  # more than run together


@pytest.mark.parametrize("options", [["--temp", 0], ["--temp", 0.8, "--seed", 5, "--repeat-penalty", 1.05]])
def test_the_same_answer_in_fewer_steps(rf, model, options):
    def answer(n):
        result = rf("generate", "-m", model, "-p", ROWS * 2, "-n", 60, "--json", *options, "--speculate", n)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    plain, fast = answer(0), answer(8)
    assert plain["usage"]["draft_tokens"] == plain["usage"]["accepted_tokens"] == 0
    assert 10 < fast["usage"]["accepted_tokens"] <= fast["usage"]["draft_tokens"]
    for field in ("text", "tokens", "finish_reason"):
        assert fast[field] == plain[field]


def test_a_crowd_gets_the_same_answers(rf, model, tmp_path):
    requests = tmp_path / "requests.jsonl"
    requests.write_text("".join(json.dumps({"prompt": f"{i} {i} {i} {i} {i} {i}", "seed": i}) + "\n" for i in range(MANY)))
    options = ["batch", "-m", model, "-n", 12, "--tokens", "--ignore-eos", requests]
    plain, fast = rf(*options), rf(*options, "--speculate", 8)
    assert plain.returncode == fast.returncode == 0, fast.stderr
    assert fast.stdout == plain.stdout and len(fast.stdout.splitlines()) == MANY


def test_a_number_out_of_range_is_refused(rf, model):
    result = rf("generate", "-m", model, "-p", "x", "--speculate", 33)
    assert result.returncode == 2 and "--speculate" in result.stderr
