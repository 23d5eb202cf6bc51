"""Spin explores every interleaving of tests/model/engine.pml: the protocol holds, and every broken variant is found."""
import re
import subprocess
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[1] / "model" / "engine.pml"

SIZES = {  # name: what the model is given
    "one request, three holders, preemption": ["-DN=1", "-DFRIENDS=2", "-DWORK=1"],
    "two requests": ["-DN=2", "-DWORK=0"],
    "two requests, a queue of one": ["-DN=2", "-DWORK=0", "-DMAX_QUEUE=1"],
}
SMALL = ["-DN=1", "-DFRIENDS=1"]

BROKEN = {  # variant: what spin says of it
    "WAKE_BEFORE_POST": "invalid end state",
    "TAKE_BEFORE_QUIET": "invalid end state",
    "SLEEP_UNASKED": "invalid end state",
    "NO_HOLD": "assertion violated",
    "POST_UNCOUNTED": "invalid end state",
    "STOP_UNRUNG": "invalid end state",
    "END_UNSIGNALLED": "invalid end state",
    "END_BY_CANCEL": "assertion violated",
    "NOTIFY_KEPT": "assertion violated",
}


def explore(folder, defines, liveness=False):
    """The number of states and the first error (None: the whole space was seen, and there is none)."""
    subprocess.run(["spin", "-a", *defines, MODEL], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    kind = [] if liveness else ["-DSAFETY", "-DNOCLAIM"]
    subprocess.run(["gcc", "-O2", "-w", *kind, "-o", "pan", "pan.c"], cwd=folder, check=True)
    options = ["-a", "-N", "stop_ends"] if liveness else []
    run = subprocess.run(["./pan", "-m100000", "-w22", *options], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0 and "max search depth too small" not in run.stdout, run.stdout
    states = int(float(re.search(r"([\d.e+]+) states, stored", run.stdout)[1]))
    error = re.search(r"pan:1: (.*) \(at depth", run.stdout)
    assert (error is None) == ("errors: 0" in run.stdout), run.stdout
    return states, error and error[1]


@pytest.mark.parametrize("size", SIZES)
def test_the_protocol_is_safe(tmp_path, size):
    states, error = explore(tmp_path, SIZES[size])
    print(f"{size}: {states} states")
    assert error is None and states > 100000


def test_a_stop_always_ends(tmp_path):
    states, error = explore(tmp_path, SMALL, liveness=True)
    print(f"liveness: {states} states")
    assert error is None and states > 100000


@pytest.mark.parametrize("variant", BROKEN)
def test_a_broken_variant_is_found(tmp_path, variant):
    states, error = explore(tmp_path, [*SMALL, f"-DBROKEN={variant}"])
    assert error and BROKEN[variant] in error


def test_a_stop_that_does_not_end_is_found(tmp_path):
    assert explore(tmp_path, [*SMALL, "-DBROKEN=STOP_UNRUNG"], liveness=True)[1] == "acceptance cycle"
