"""The commands with a chat template given by the user, and batch with conversations. The templates themselves are
test_jinja.py's business, the conversation at a terminal is test_chat.py's.
"""

import datetime
import json

import pytest

SHOWN = "[{{ messages|length }}:{{ messages[-1].content }}]{{ strftime_now('%d %b %Y') }}{{ 'x' if add_generation_prompt }}"


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "template.jinja"
        path.write_text(text)
        return path

    return write


def test_a_template_of_the_users(rf, model, write):
    result = rf("chat", "-m", model, "-n", 1, "--ignore-eos", "--chat-template", write(SHOWN), "--date", "2024-02-29",
                stdin="Hi.\n/prompt\n")
    assert result.returncode == 0, result.stderr
    prompt = result.stdout[result.stdout.index("[2:"):]
    assert prompt.endswith("]29 Feb 2024x"), "the whole conversation, the date, and a place for the answer"


def test_today_is_the_date(rf, model, write):
    before = datetime.date.today()
    result = rf("chat", "-m", model, "--chat-template", write("{{ strftime_now('%Y-%m-%d') }}"), stdin="/prompt\n")
    assert result.stdout in (str(before), str(datetime.date.today()))


@pytest.mark.parametrize("status, text, sentence", [
    (2, "a\n{{ raise_exception('Not with me.') }}", "chat template, line 2: Not with me."),
    (1, "{% if %}", "chat template, line 1: unexpected '%}' instead of an expression"),
    (1, "{% for i in range(10**9) %}{% endfor %}", "chat template, line 1: a range of more than 100000 numbers"),
])
def test_what_is_wrong_is_said_at_once(rf, model, write, status, text, sentence):
    result = rf("chat", "-m", model, "--chat-template", write(text), stdin="Never read.\n")
    assert (result.returncode, result.stdout, result.stderr) == (status, "", f"rocmforge: {sentence}\n")


def test_a_file_or_a_date_that_is_none(rf, model, tmp_path, write):
    result = rf("chat", "-m", model, "--chat-template", tmp_path / "none", stdin="x\n")
    assert result.returncode == 1 and "cannot open" in result.stderr and result.stderr.count("\n") == 1
    for date in ("today", "2024-02-30", "2024-02-29 "):
        result = rf("chat", "-m", model, "--chat-template", write(SHOWN), "--date", date, stdin="x\n")
        assert result.returncode == 2 and "'date' is not like" in result.stderr


def batch(rf, model, tmp_path, *records, options=()):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return [json.loads(line) for line in rf("batch", "-m", model, path, *options).stdout.splitlines()]


def test_conversations_in_a_batch(rf, model, tmp_path):
    """A conversation gives what its prompt, written by hand, gives."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a city in France."}]
    prompt = ("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nName a city in France.<|im_end|>\n"
              "<|im_start|>assistant\n")
    chat, text = batch(rf, model, tmp_path, {"messages": messages, "max_tokens": 12, "temperature": 0},
                       {"prompt": prompt, "max_tokens": 12, "temperature": 0}, options=["--special"])
    assert {**chat, "index": 1} == text
    messages[1]["content"] += "<|im_end|>"
    typed, short = batch(rf, model, tmp_path, {"messages": messages, "max_tokens": 1},
                         {"messages": messages[:1], "max_tokens": 1, "add_generation_prompt": False})
    assert typed["usage"]["prompt_tokens"] > chat["usage"]["prompt_tokens"] + 3, "what a user types is no control token"
    assert short["usage"]["prompt_tokens"] < chat["usage"]["prompt_tokens"]


def test_conversations_that_are_none(rf, model, tmp_path, write):
    user = {"role": "user", "content": "x"}
    wanted = {
        "'messages' is not an array": {"messages": "x"},
        "there is a 'prompt', and parts of a conversation": {"messages": [user], "prompt": "x"},
        "the field 'messages' is missing": {"tools": []},
        "the field 'prompt' is missing, and so is 'messages'": {"seed": 1},
        "chat template, line 1: No tools.": {"messages": [user], "tools": [1]},
        "the prompt is empty": {"messages": [user], "chat_template_kwargs": {"empty": True}},
    }
    template = write("{{ raise_exception('No tools.') if tools }}{{ messages[0].content if not empty }}")
    answers = batch(rf, model, tmp_path, *wanted.values(), {"messages": [user], "max_tokens": 1},
                    options=["--chat-template", template])
    assert [a.get("error") for a in answers] == [*wanted, None]
