"""The floors' lint finds what is planted, where it is planted, and nothing in a clean tree."""
import subprocess
import sys
from pathlib import Path

import pytest

LINT = Path(__file__).parents[1] / "tools" / "lint_floors.py"

CLEAN = {
    "include/rocmforge.h": "// The public header.\n",
    "src/base/err.h": "// Errors.\n#include <stdlib.h>\nvoid say(const char *f, ...) __attribute__((format(printf, 1, 2)));\n",
    "src/gguf/gguf.c": '// Reader.\n#include "base/err.h"\n// printf("in a comment")\nconst char *s = "getenv(x)";\n',
    "src/engine/engine.c": '// The loop.\n#include "rocmforge.h"\n#include "model/model.h"\n',
    "src/server/http.c": '// HTTP.\n#include "rocmforge.h"\n#include "base/err.h"\n#include "server/sse.h"\n',
    "src/cli/main.c": '// Main.\n#include "server/http.h"\nint main(void) { printf("%s", getenv("HOME")), exit(0); }\n',
    "src/text/long.c": "// A table is no function.\nstatic const int t[] = {f(1),\n" + "    0,\n" * 90 + "};\n",
    "src/text/formula.c": "// Long.\n\n// long: a formula\nint f(void) {\n" + "    x();\n" * 90 + "}\n",
    "src/text/fits.c": "// Fits.\nint f(int a,\n      int b) {\n" + "    x();\n" * 77 + "}\n",
    "tests/base/test_err.c": '// Test.\n#include "base/err.h"\n#include "text/vocab.h"\n',
}

PLANTED = [
    ("src/base/err.c", '// Up.\n\n#include "gguf/gguf.h"\n', 3, "from a floor above"),
    ("src/text/vocab.c", '// Up.\n#include "engine/engine.h"\n', 2, "from a floor above"),
    ("src/text/vocab.c", '// Not relative.\n#include "vocab.h"\n', 2, "not written relative"),
    ("src/model/model.c", '// Public.\n#include "rocmforge.h"\n', 2, "below the public header"),
    ("src/server/api.c", '// Inside.\n#include "engine/engine.h"\n', 2, "may use rocmforge.h"),
    ("src/gpu/x.c", "// Which floor?\n", 1, "not a floor"),
    ("src/base/a.c", '// Voice.\nvoid f(void) { printf("x"); }\n', 2, "printf"),
    ("src/base/a.c", '// Voice.\nvoid f(void) { fputs("x", stdout); }\n', 2, "stdout"),
    ("src/engine/a.c", "// Fate.\nvoid f(void) { exit(1); }\n", 2, "exit"),
    ("src/server/a.c", '// Surroundings.\nchar *f(void) { return getenv("X"); }\n', 2, "getenv"),
    ("src/text/a.c", "// Long.\nint f(int a,\n      int b) {\n" + "    x();\n" * 78 + "}\n", 2, "81 lines"),
    ("src/text/a.h", "#pragma once\n", 1, "open with a comment"),
    ("tests/base/test_a.c", '// Inside.\n#include "err.c"\n', 2, "through headers"),
    ("tests/tools/a.py", "#!/usr/bin/env python3\nimport sys\n", 1, "open with a comment"),
]


def lint(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    run = subprocess.run([sys.executable, LINT, root], capture_output=True, text=True)
    assert run.stderr == ""
    return run.returncode, run.stdout.splitlines()


def test_a_clean_tree_has_no_faults(tmp_path):
    assert lint(tmp_path, CLEAN) == (0, [])


@pytest.mark.parametrize("name, text, line, words", PLANTED)
def test_a_planted_fault_is_found(tmp_path, name, text, line, words):
    status, faults = lint(tmp_path, CLEAN | {name: text})
    assert status == 1 and len(faults) == 1, faults
    assert faults[0].startswith(f"{name}:{line}: ") and words in faults[0]


@pytest.mark.parametrize(
    "code, name",
    [
        ("int count;", "count"),
        ("static int count = 1; int *f(void) { return &count; }", "count"),
        ("_Thread_local int mine;", "mine"),
        ("int *f(void) { static int hidden; return &hidden; }", "hidden"),
        ("static const char *const names[] = {\"a\", \"b\"}; const char *f(int i) { return names[i]; }", None),
        ("const int table[] = {1, 2};", None),
    ],
)
def test_mutable_globals(tmp_path, code, name):
    source = tmp_path / "src/base/a.c"
    objects = tmp_path / "build/release/CMakeFiles/x.dir/src/base"
    source.parent.mkdir(parents=True), objects.mkdir(parents=True)
    source.write_text(f"// One variable.\n{code}\n")
    subprocess.run(["gcc", "-O1", "-fPIE", "-c", source, "-o", objects / "a.c.o"], check=True)
    status, faults = lint(tmp_path, {})
    if name is None:
        assert (status, faults) == (0, [])
    else:
        assert status == 1 and len(faults) == 1 and f"mutable global '{name}" in faults[0]
