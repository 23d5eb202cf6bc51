"""rocmforge chat as its user meets it: turns, the template's own rendering, commands, and a terminal."""

import fcntl
import json
import os
import re
import select
import signal
import stat
import subprocess
import termios
import time

import jinja2
import pytest
from tiny import Tiny

GREEDY = ["--temp", 0, "-n", 24]


@pytest.fixture(scope="session")
def template(rf, model):
    return json.loads(rf("inspect", model, "--json").stdout)["metadata"]["tokenizer.chat_template"]


def render(template, messages):
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    return environment.from_string(template).render(messages=messages, add_generation_prompt=True)


def turn(role, content):
    return {"role": role, "content": content}


@pytest.fixture
def talk(rf, model):
    """Runs a chat over a pipe, one line each; the finished process."""

    def run(*lines, options=(), code=0, model=model):
        result = rf("chat", "-m", model, *options, stdin="".join(x + "\n" for x in lines))
        assert result.returncode == code, result.stderr
        return result

    return run


# ---- rendering ------------------------------------------------------------------------------------------------------

BARE = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>'"
        " + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
TEMPLATES = {
    "bare": BARE,
    "first": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system"
             "\\nBe kind, it\\'s \"free\".<|im_end|>\\n' }}{% endif %}" + BARE.replace("{% for message in messages %}", ""),
    "double": '{% if messages[0]["role"] != "system" %}{{ "<|im_start|>system\\nIt\'s <b>.<|im_end|>\\n" }}{% endif %}'
              + BARE,
    "raw": "{% if messages[0].role != 'system' %}<|im_start|>system\nOne.\nTwo.<|im_end|>\n{% endif %}" + BARE,
    "tools": """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {{- messages[0]['content'] }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nNobody special.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if message.role != "system" or not loop.first %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
}
CONVERSATIONS = [
    [turn("user", "Hi.")],
    [turn("system", "Speak Latin."), turn("user", "Hi.")],
    [turn("system", ""), turn("user", " two\n\nlines\n"), turn("assistant", ""), turn("user", "<|im_end|> 東京 \\n '\"{{")],
]


@pytest.mark.parametrize("name", ["model's own", *TEMPLATES])
def test_renders_as_the_template_does(talk, model, template, tmp_path, name):
    text, path = template, model
    if name in TEMPLATES:
        tiny = Tiny()
        tiny.chat_template = text = TEMPLATES[name]
        path = tiny.write(tmp_path / "tiny.gguf")
    lines, want = [], ""
    for i, messages in enumerate(CONVERSATIONS):
        (tmp_path / f"{i}.json").write_text(json.dumps({"messages": messages}))
        lines += [f"/load {tmp_path}/{i}.json", "/prompt"]
        want += render(text, messages)
    assert talk(*lines, model=path).stdout == want


@pytest.mark.parametrize("text", [None, "", "{% for m in messages %}"])
def test_without_a_template_that_renders_there_is_no_chat(talk, tmp_path, text):
    tiny = Tiny()
    tiny.chat_template = text
    result = talk("Hi.", model=tiny.write(tmp_path / "tiny.gguf"), code=1)
    assert "chat template" in result.stderr and result.stderr.count("\n") == 1 and result.stdout == ""


# ---- turns ----------------------------------------------------------------------------------------------------------


def test_turns_equal_generate(talk, rf, model, template):
    """Each answer is generate's for the conversation so far, rendered by Jinja."""
    questions, messages, want = ["Name a city in France.", "And one in Italy?"], [], ""
    for question in questions:
        messages.append(turn("user", question))
        answer = rf("generate", "-m", model, "--special", *GREEDY, "-p", render(template, messages)).stdout[:-1]
        messages.append(turn("assistant", answer))
        want += answer + "\n"
    assert talk(*questions, options=GREEDY).stdout == want


def test_system_message(talk):
    result = talk("Hi.", "/prompt", "/reset", "/prompt", options=["-s", "Speak\nLatin.", "-n", 1])
    assert result.stdout.count("<|im_start|>system\nSpeak\nLatin.<|im_end|>\n") == 2
    assert result.stdout.endswith("Latin.<|im_end|>\n<|im_start|>assistant\n")


def prompt_tokens(result):
    return [int(n) for n in re.findall(r"last answer: prompt (\d+) tokens", result.stdout)]


def test_control_tokens_are_not_for_users(talk):
    result = talk("x", "/stats", "/reset", "<|im_end|>", "/stats", options=["-n", 1])
    plain, typed = prompt_tokens(result)
    assert typed > plain + 3


def test_save_load_reset(talk, tmp_path):
    path = tmp_path / "a conversation.json"
    first = talk("Name a city in France.", f"/save {path}", "And one in Italy?", options=GREEDY)
    saved = json.loads(path.read_text())["messages"]
    assert [m["role"] for m in saved] == ["user", "assistant"] and saved[1]["content"] in first.stdout
    again = talk("Forget me.", f"/load {path}", "And one in Italy?", options=GREEDY)
    italy = first.stdout[len(saved[1]["content"]) + 1:]
    assert again.stdout.endswith(italy)
    alone = talk("Name a city in France.", "/reset", "And one in Italy?", options=GREEDY)
    assert alone.stdout == first.stdout[:-len(italy)] + talk("And one in Italy?", options=GREEDY).stdout


def test_stats_and_help(talk):
    out = talk("/stats", "Hi.", "/stats", "/help", options=["-n", 3, "--ignore-eos", "-c", 128]).stdout
    assert "0 messages, 0 of 128 tokens" in out and "2 messages, " in out and "answer 3 tokens" in out
    assert all(f"/{name}" in out for name in ("reset", "save", "load", "stats", "prompt", "help", "quit"))


def test_what_fails_leaves_the_conversation(talk, tmp_path):
    (tmp_path / "bad.json").write_text('{"messages": [{"role": "pope", "content": "x"}]}')
    late = {"messages": [turn("user", "x"), turn("system", "y")]}
    (tmp_path / "late.json").write_text(json.dumps(late))
    bad = ["/nothing", "/save", "/reset now", f"/load {tmp_path}/bad.json", f"/load {tmp_path}/late.json", "/load /none",
           f"/load {tmp_path}", f"/save {tmp_path}/no/such", "/"]
    result = talk("Hi.", "/prompt", *bad, "/prompt", "", "  ", "/quit", "Never read.", options=["-n", 4], code=1)
    assert result.stderr.count("rocmforge: ") == len(bad)
    rendered = result.stdout[result.stdout.index("<|im_start|>"):]
    half = len(rendered) // 2
    assert rendered[:half] == rendered[half:] and "Hi." in rendered


def test_not_utf8(binary, model):
    result = subprocess.run([binary, "chat", "-m", model, "-n", "1"], input=b"\xff\n/stats\n", capture_output=True)
    assert result.returncode == 1 and b"not UTF-8" in result.stderr and b"0 messages" in result.stdout


def test_slashes_and_line_ends(talk):
    out = talk("//etc is what?\r", "/prompt\r", options=["-n", 1]).stdout
    assert "user\n/etc is what?<|im_end|>" in out


def test_a_full_context_is_said(talk):
    result = talk("Hi.", "Tell me a long story.", "/stats", options=["-c", 64, "--temp", 0, "--ignore-eos"], code=1)
    assert "(cut: the context of 64 tokens is full" in result.stderr
    assert "no longer fits" in result.stderr and "2 messages, 64 of 64" in result.stdout
    assert "(cut after 2 tokens" in talk("Hi.", options=["-n", 2, "--ignore-eos"]).stderr


def test_wrong_usage(rf, model):
    assert rf("chat").returncode == 2 and rf("chat", "-m", model, "Hello").returncode == 2
    assert rf("chat", "-m", model, "--top-p", "x").returncode == 2
    result = rf("chat", "-m", model, "--top-p", 7, stdin="Hi.\n")
    assert result.returncode == 1 and "top_p is 7" in result.stderr


def test_signal_ends_a_piped_chat(binary, model):
    process = subprocess.Popen([binary, "chat", "-m", model, "--ignore-eos"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(b"Tell me a story.\nAnother.\n")
    process.stdin.flush()
    assert os.read(process.stdout.fileno(), 100)
    process.send_signal(signal.SIGINT)
    rest, error = process.communicate(timeout=30)
    assert process.returncode == 130 and error == b"" and rest.endswith(b"\n")


# ---- at a terminal --------------------------------------------------------------------------------------------------


class Terminal:
    """A chat whose standard streams are one terminal, the controlling one, so that Ctrl+C is a signal."""

    def __init__(self, binary, model, state, *options):
        self.parent, child = os.openpty()
        env = dict(os.environ, XDG_STATE_HOME=str(state), TERM="xterm", HOME=str(state))
        self.modes = termios.tcgetattr(child)
        self.child = child  # held open, to look at the modes after the program's end
        self.process = subprocess.Popen(
            [binary, "chat", "-m", model, *map(str, options)], stdin=child, stdout=child, stderr=child, env=env,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.seen = ""
        self.until("Ctrl+D leaves\r\n> ")

    def type(self, text):
        os.write(self.parent, text.encode())

    def until(self, text, seconds=60):
        """Reads until `text` was shown after everything awaited before; what was shown up to it."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            over = self.process.poll() is not None or time.monotonic() > end
            self.read()
            assert text in self.seen or not over, f"{text!r} did not come, but: {self.seen!r}"
        shown, _, self.seen = self.seen.partition(text)
        return shown

    def read(self, seconds=0.2):
        """Takes what is shown within that time."""
        if select.select([self.parent], [], [], seconds)[0]:
            self.seen += os.read(self.parent, 65536).decode(errors="replace")

    def settle(self, seconds=0.3):
        """Reads until nothing more is shown for a while."""
        while select.select([self.parent], [], [], seconds)[0]:
            self.read()
        self.seen = ""

    def wait(self):
        """The exit status; reads on meanwhile, as a terminal does."""
        end = time.monotonic() + 30
        while (code := self.process.poll()) is None:
            assert time.monotonic() < end, f"the program does not end; it showed: {self.seen!r}"
            self.read(0.02)
        assert termios.tcgetattr(self.child) == self.modes, "the terminal is left as it was"
        os.close(self.child)
        os.close(self.parent)
        return code


@pytest.fixture
def terminal(binary, model, tmp_path):
    opened = []

    def run(*options):
        opened.append(Terminal(binary, model, tmp_path / "state", *options))
        return opened[-1]

    yield run
    for t in opened:
        if t.process.poll() is None:
            t.process.kill()
            t.process.wait()


def test_terminal_conversation(terminal, tmp_path):
    t = terminal(*GREEDY)
    t.type("Name a city in Frännce.\n")
    assert "Frännce" in t.until("\r\n")
    answer = t.until("\r\n> ")
    assert answer
    t.type(f"/save {tmp_path}/c.json\n")
    t.until("\r\n> ")
    saved = json.loads((tmp_path / "c.json").read_text())["messages"]
    assert saved[0]["content"] == "Name a city in Frännce." and saved[1]["content"] in answer.replace("\r\n", "\n")
    t.type("/reset\n")
    t.until("\r\n> ")
    t.type("/stats\n")
    assert "0 messages" in t.until("\r\n> ")
    t.type("\x04")
    assert t.wait() == 0


def test_ctrl_c_stops_the_answer_not_the_program(terminal):
    t = terminal("--ignore-eos", "--temp", 0)
    t.type("Tell me a story.\n")
    t.until("story.\r\n")
    t.until(" ")  # it has begun
    t.type("\x03")
    t.process.send_signal(signal.SIGINT)  # and again at once, whether that meets the answer or the prompt
    t.until("\r\n> ")
    t.settle()
    t.type("/stats\n")
    assert "2 messages" in t.until("\r\n> "), "what was said before is part of the conversation"
    t.type("Go on.\n")
    t.until("Go on.\r\n")
    t.until(" ")
    t.process.send_signal(signal.SIGINT)
    t.until("\r\n> ")
    t.type("/stats\n")
    assert "4 messages" in t.until("\r\n> ")
    t.type("/quit\n")
    assert t.wait() == 0


def test_ctrl_d_typed_during_an_answer_leaves_after_it(terminal):
    t = terminal("--ignore-eos", "-n", 60)
    t.type("\0x")  # Ctrl+Space at the prompt is not Ctrl+D
    t.until("x")
    t.type("\x03")
    t.until("\r\n> ")
    t.type("Tell me a story.\n")
    t.until("story.\r\n")
    t.until(" ")
    t.type("\x04")
    assert t.wait() == 0 and "(cut after 60 tokens" in t.seen


def test_ctrl_c_clears_the_line(terminal):
    t = terminal()
    for half in ("x", "half a line", "/qui"):
        t.type(half)
        t.until(half)
        t.type("\x03")
        t.until("\r\n> ")
    t.type("\x03")  # an empty line
    t.until("\r\n> ")
    t.type("/stats\n")
    assert "0 messages" in t.until("\r\n> ")
    t.type("\x04")
    assert t.wait() == 0


def test_ctrl_c_twice_at_once(terminal, tmp_path):
    t = terminal()
    for i in range(100):  # at the prompt it is as good as once
        t.process.send_signal(signal.SIGINT)
        time.sleep(i % 10 * 1e-5)
        t.process.send_signal(signal.SIGINT)
        t.until("\r\n> ")
    t.settle()
    os.mkfifo(tmp_path / "fifo")
    t.type(f"/save {tmp_path}/fifo\n")  # nobody reads it
    t.until("fifo\r\n")
    time.sleep(0.2)
    t.process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert t.process.poll() is None
    t.process.send_signal(signal.SIGINT)
    assert t.wait() == 130


@pytest.mark.parametrize("answering", [False, True])
def test_sigterm_leaves_the_terminal_as_it_was(terminal, answering):
    t = terminal("--ignore-eos")
    if answering:
        t.type("Tell me a story.\n")
        t.until("story.\r\n")
        t.until(" ")
    t.process.terminate()
    assert t.wait() == 130


def test_history_is_kept_and_private(terminal, tmp_path):
    t = terminal()
    t.type("/stats\n")
    t.until("\r\n> ")
    t.process.kill()
    t.process.wait()
    path = tmp_path / "state" / "rocmforge" / "chat_history"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [p.name for p in path.parent.iterdir()] == ["chat_history"]
    t = terminal()
    t.type("\x1b[A\n")  # up
    assert "0 messages" in t.until("tokens\r\n> ")
    t.type("\x04")
    assert t.wait() == 0


def test_an_answer_cannot_steer_the_terminal(terminal, tmp_path):
    hostile = "a\x1b]0;owned\x07b\tc\nd\x9be\r"
    (tmp_path / "h.json").write_text(json.dumps({"messages": [turn("user", hostile)]}))
    t = terminal()
    t.type(f"/load {tmp_path}/h.json\n")
    t.until("\r\n> ")
    t.type("/prompt\n")
    assert "a\\x1b]0;owned\\x07b\tc\r\nd\\x9be\\r<|im_end|>" in t.until("assistant\r\n> ")
    t.type("\x04")
    assert t.wait() == 0
