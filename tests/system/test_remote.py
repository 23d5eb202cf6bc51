"""A running server, from the command line: generate --host does what generate -m does; status and cancel."""
import contextlib
import json
import select
import signal
import subprocess
import time

import pytest

from served import Served, served

PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    socket = tmp_path_factory.mktemp("remote") / "socket"
    with served("--unix", socket) as s:
        s.addresses = [s.url, s.url + "/", f"localhost:{s.port}", f"unix:{socket}"]
        yield s


@contextlib.contextmanager
def answering(server, binary):
    """A command in the middle of a long answer."""
    command = [binary, "generate", "--host", server.url, "-p", PROMPT, "-n", "0", "--ignore-eos"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert select.select([process.stdout], [], [], 30)[0], "no output"
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(server, finish):
    return server.metrics()[f'rocmforge_requests_total{{finish="{finish}"}}']


# ---- generate -------------------------------------------------------------------------------------------------------

SAMPLED = ["--temp", 1.2, "--top-k", 50, "--top-p", 0.9, "--min-p", 0.02, "--repeat-penalty", 1.3, "--repeat-last-n", 9,
           "--presence-penalty", 0.3, "--frequency-penalty", 0.2, "--seed", 11, "--ignore-eos"]  # fmt: skip
CASES = {
    "greedy": ["-p", PROMPT, "--temp", 0],
    "sampled": ["-p", PROMPT, *SAMPLED],
    "stop": ["-p", PROMPT, "--temp", 0, "--stop", "answer", "--stop", "never seen"],
    "special": ["-p", "<|im_start|>user\nSay hi.<|im_end|>\n<|im_start|>assistant\n", "--temp", 0, "--special"],
}


@pytest.mark.parametrize("case", CASES)
def test_the_same_as_with_a_model(server, rf, model, case):
    here, there = (json.loads(rf("generate", *where, *CASES[case], "-n", 24, "--json").stdout)
                   for where in (["-m", model], ["--host", server.url]))  # fmt: skip
    assert there.keys() == here.keys() and there["timings"].keys() == here["timings"].keys()
    assert there["usage"].keys() == here["usage"].keys()
    for key in ("text", "tokens", "finish_reason"):
        assert there[key] == here[key]
    for key in ("prompt_tokens", "completion_tokens"):
        assert there["usage"][key] == here["usage"][key]
    assert there["timings"]["decode_ms"] > 0 and there["timings"]["prefill_ms"] > 0


def test_every_kind_of_address_and_input(server, rf, model, tmp_path):
    options = ["--temp", 0, "-n", 16]
    here = rf("generate", "-m", model, "-p", PROMPT, *options)
    file = tmp_path / "prompt"
    file.write_text(PROMPT)
    for address in server.addresses:
        there = rf("generate", "--host", address, "--file", file, *options)
        assert (there.returncode, there.stdout, there.stderr) == (0, here.stdout, "")
    assert "tokens/s" in rf("generate", "--host", server.url, "-v", *options, stdin=PROMPT).stderr


@pytest.mark.parametrize(
    "options, code, words",
    [
        (["--temp", "-1"], 2, "temperature"),
        (["--temp", "nan"], 2, "temperature"),
        (["--stop", ""], 2, "stop"),
        (["-n", 0, "--ignore-eos", "--timeout", 1], 1, "time given"),
        (["-m", "x.gguf"], 2, "--host"),
        (["--threads", 2], 2, "--host"),
    ],
)
def test_what_is_wrong_is_said(server, rf, options, code, words):
    result = rf("generate", "--host", server.url, "-p", PROMPT, *options)
    assert result.returncode == code and words in result.stderr and result.stderr.startswith("rocmforge")


def test_what_the_server_cannot_take(server, rf, tmp_path):
    file = tmp_path / "latin1"
    file.write_bytes(b"caf\xe9")
    bad = rf("generate", "--host", server.url, "--file", file)
    assert bad.returncode == 1 and "UTF-8" in bad.stderr and bad.stdout == ""
    long = rf("generate", "--host", server.url, stdin="word " * 20000)
    assert long.returncode == 1 and "8192" in long.stderr
    huge = rf("generate", "--host", server.url, stdin="word " * 2_000_000)
    assert huge.returncode == 1 and "too large" in huge.stderr, huge.stderr


@pytest.mark.parametrize(
    "address, code, words",
    [
        ("127.0.0.1:1", 1, "refused"),
        ("unix:/nowhere/socket", 1, "No such file"),
        ("unix:", 2, "socket"),
        ("", 2, "HOST:PORT"),
        ("http://a b", 2, "HOST:PORT"),
    ],
)
def test_nobody_there(rf, address, code, words):
    for command in (["generate", "-p", "x"], ["status"], ["cancel", "req-1"]):
        result = rf(*command, "--host", address)
        assert result.returncode == code and words in result.stderr and len(result.stderr.splitlines()) == 1
        assert result.stdout == ""


def test_ctrl_c_cancels_on_the_server(server, binary):
    before, gone = ended(server, "cancelled"), server.metrics()["rocmforge_http_clients_gone_total"]
    with answering(server, binary) as process:
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=20)
        assert process.returncode == 130 and error == b"" and out.endswith(b"\n") and len(out) > 1
    assert ended(server, "cancelled") == before + 1
    assert server.metrics()["rocmforge_http_clients_gone_total"] == gone, "it was asked, not just left"


def test_ctrl_c_twice_ends_it_when_the_server_hangs(binary):
    with served() as s, answering(s, binary) as process:
        s.process.send_signal(signal.SIGSTOP)
        try:
            process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                process.communicate(timeout=0.5)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=5)
            assert process.returncode == 130
        finally:
            s.process.send_signal(signal.SIGCONT)


def test_ctrl_c_while_it_waits_in_the_queue(server, binary):
    """Before the first token: the id is known from the stream's first event."""
    before = ended(server, "cancelled")
    command = [binary, "generate", "--host", server.url, "-p", PROMPT * 300, "-n", "0", "--ignore-eos"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end = time.monotonic() + 20
    while server.metrics()["rocmforge_requests_running"] == 0:
        assert time.monotonic() < end
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[1] == b"" and process.returncode == 130
    while ended(server, "cancelled") == before:
        assert time.monotonic() < end


def test_a_reader_that_goes_away(server, binary):
    before = ended(server, "cancelled")
    with answering(server, binary) as process:
        process.stdout.close()
        error = process.stderr.read()
        assert process.wait(20) == 1 and b"standard output" in error
    end = time.monotonic() + 10
    while ended(server, "cancelled") == before:
        assert time.monotonic() < end


def test_a_server_that_dies(binary):
    server = Served()
    with answering(server, binary) as process:
        server.process.kill()
        _, error = process.communicate(timeout=20)
        assert process.returncode == 1 and b"connection" in error and error.count(b"\n") == 1, error


# ---- status and cancel ----------------------------------------------------------------------------------------------


def test_status_and_cancel_of_a_request(server, binary, rf):
    body = {"prompt": PROMPT, "max_tokens": 3000, "ignore_eos": True}
    command = ["curl", "-sN", "-d", json.dumps(body), server.url + "/generate/stream"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stream:
        while "start" not in (line := stream.stdout.readline()):
            assert line
        name = json.loads(stream.stdout.readline().removeprefix("data: "))["id"]
        while "token" not in stream.stdout.readline():
            pass
        live = rf("status", name, "--host", server.url)
        assert live.returncode == 0 and live.stdout.startswith(f"{name}: ") and "prompt 5 tokens" in live.stdout
        assert json.loads(rf("status", "--json", name, "--host", server.url).stdout)["state"] == "decode"
        assert rf("cancel", name, "--host", server.url).returncode == 0
        assert '"finish_reason":"cancelled"' in stream.stdout.read()
    for _ in range(2):
        again = rf("cancel", name, "--host", server.url)
        assert again.returncode == 0 and again.stdout.startswith(f"{name}: cancelled")
    for command in ("status", "cancel"):
        unknown = rf(command, "req 1?x", "--host", server.url)
        assert unknown.returncode == 1 and "no request 'req 1?x'" in unknown.stderr and unknown.stdout == ""
    assert rf("cancel", "--host", server.url).returncode == 2


def test_a_cancel_that_was_not_ours(binary):
    with served("--drain-seconds", 60) as s, answering(s, binary) as process:
        for _ in range(2):  # the second does not wait for streams
            s.process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        out, error = process.communicate(timeout=20)
        assert process.returncode == 1 and out.endswith(b"\n") and b"the server has cancelled" in error


def test_status_of_the_server(server, binary, rf):
    with answering(server, binary):
        text = rf("status", "--host", server.url)
        assert text.returncode == 0 and text.stdout.startswith("health ok, ready\nmodel ")
        assert "requests: 1 running, 0 queued" in text.stdout
        shown = json.loads(rf("status", "--json", "--host", server.url).stdout)
        assert shown["requests_running"] == 1 and shown["kv_pages"] >= shown["kv_pages_used"] > 0
        assert shown["models"][0]["id"] in text.stdout and (shown["health"], shown["ready"]) == ("ok", "ready")


# ---- keys and TLS ---------------------------------------------------------------------------------------------------


def test_keys_and_tls(rf, tmp_path, monkeypatch):
    for name in ("one", "two"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
             "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout",
             tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
    keys, mine = tmp_path / "keys", tmp_path / "mine"
    keys.write_text("ann:secret-of-ann\n")
    mine.write_text("secret-of-ann\n")
    with served("--tls-cert", tmp_path / "one.pem", "--tls-key", tmp_path / "one.key", "--api-key-file", keys) as s:
        there = ["--host", s.url, "--ca-file", tmp_path / "one.pem"]
        generate = ["generate", "-p", PROMPT, "-n", 4, "--temp", 0]
        without = rf(*generate, *there)
        assert without.returncode == 1 and "API key is needed" in without.stderr
        for file in (mine, keys):  # a server's file will do
            assert "Paris" in rf(*generate, *there, "--api-key-file", file).stdout
        monkeypatch.setenv("ROCMFORGE_API_KEY", "secret-of-ann")
        assert "Paris" in rf(*generate, "--host", f"https://localhost:{s.port}", *there[2:]).stdout
        assert rf("status", *there).returncode == 0
        monkeypatch.setenv("ROCMFORGE_API_KEY", "sec ret")
        assert rf("status", *there).returncode == 2
        monkeypatch.setenv("ROCMFORGE_API_KEY", "another-secret")
        wrong = rf("status", *there)
        assert wrong.returncode == 1 and "not known" in wrong.stderr
        for strangers in (["--ca-file", tmp_path / "two.pem"], []):
            refused = rf("status", *there[:2], *strangers)
            assert refused.returncode == 1 and "certificate" in refused.stderr, refused.stderr
        monkeypatch.delenv("ROCMFORGE_API_KEY")
        plain = rf("status", "--host", f"http://127.0.0.1:{s.port}")
        assert plain.returncode == 1 and len(plain.stderr.splitlines()) == 1
