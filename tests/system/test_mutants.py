"""The simulation of the engine sees every bug that tests/tools/mutants.py plants."""

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[1] / "tools" / "mutants.py"


def test_every_planted_bug_is_seen(binary):
    run = subprocess.run([sys.executable, TOOL, Path(binary).parent], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, timeout=300)
    print(run.stdout)
    assert run.returncode == 0 and "SURVIVED" not in run.stdout and run.stdout.count("\n") > 20
