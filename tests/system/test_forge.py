"""./forge fails with one clear sentence and a non-zero status, and keeps standard output for results."""
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def forge(*arguments, **environment):
    return subprocess.run(
        [ROOT / "forge", *arguments], capture_output=True, text=True, env=os.environ | environment, timeout=60
    )


def test_help_lists_every_verb():
    run = forge("help")
    assert run.returncode == 0
    for verb in "setup build run test bench fmt lint sim fuzz clean help model".split():
        assert f"\n  {verb} " in run.stdout + "\n  help "


@pytest.mark.parametrize(
    "arguments, words",
    [(["dance"], "no verb 'dance'"), (["run"], "needs a prompt"), (["test", "--short"], "--long only")],
)
def test_misuse_is_one_sentence(arguments, words):
    run = forge(*arguments)
    assert run.returncode == 1 and run.stdout == ""
    assert words in run.stderr and len(run.stderr.splitlines()) == 1


def test_the_model_is_checked_and_replaced(tmp_path):
    good = Path(forge("model").stdout.strip())
    cache = tmp_path / "rocmforge"
    cache.mkdir()
    mine = cache / good.name
    shutil.copy(good, mine)
    offline = {"XDG_CACHE_HOME": str(tmp_path), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
    run = forge("model", **offline)
    assert run.returncode == 0 and run.stdout == f"{mine}\n" and run.stderr == ""
    with mine.open("r+b") as f:  # one byte, same size
        f.seek(1000000)
        byte = f.read(1)[0]
        f.seek(1000000)
        f.write(bytes([byte ^ 1]))
    os.utime(mine, (1, 1))
    run = forge("model", **offline)
    assert run.returncode == 1 and run.stdout == ""
    assert run.stderr.endswith("forge: the default model cannot be brought; is the network there?\n")
    assert [p.name for p in cache.iterdir() if p.is_dir()] == []
