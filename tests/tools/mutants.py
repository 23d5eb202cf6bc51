"""Plants bugs in the engine, one at a time, and demands that the simulation sees each.

    mutants.py BUILD_DIR [NAME...]

A mutant is a piece of one source file, found there exactly once, and what stands there instead. Only that file is
compiled again (into a scratch folder) and linked before the library; then the simulation runs until it is red.
Prints a table: the bug, the schedule that caught it, the check that did, seconds. Ends with 1 if one survived.
"""

import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
SEEDS = 4000

MUTANTS = [  # name, file, what is there, what the bug puts there
    (
        "a page is freed twice",
        "engine/kv.c",
        "if (--k->pages[page].n_refs == 0) list_add(k, page);",
        "if (--k->pages[page].n_refs == 0) list_add(k, page), page % 4 == 1 ? list_add(k, page) : (void)0;",
    ),
    (
        "a page is not freed",
        "engine/kv.c",
        "if (--k->pages[page].n_refs == 0) list_add(k, page);",
        "if (--k->pages[page].n_refs == 0 && page % 4 != 1) list_add(k, page);",
    ),
    (
        "a page table is stale after preemption",
        "engine/kv.c",
        "t->pages[t->n_pages++] = page;",
        "if (!t->pages[t->n_pages]) t->pages[t->n_pages] = page; t->n_pages++;",
    ),
    (
        "a step runs on a neighbour's page table",
        "engine/engine.c",
        ".pages = s->kv.pages,",
        ".pages = i == 3 ? d->planned[2]->kv.pages : s->kv.pages,",
    ),
    (
        "a terminal event is lost",
        "engine/engine.c",
        "request_end(r, finish, error, &usage);",
        "if (finish != RF_FINISH_TIMEOUT) request_end(r, finish, error, &usage);",
    ),
    (
        "a terminal event comes twice",
        "engine/request.c",
        "r->end_taken = true;",
        "r->end_taken = r->finish != RF_FINISH_ERROR;",
    ),
    (
        "the queue is not searched for the cancelled",
        "engine/engine.c",
        "retire_ended(g, d->waiting, &d->n_waiting);",
        "",
    ),
    (
        "the last release does not cancel",
        "engine/request.c",
        "if (live) rf_cancel(r);",
        "",
    ),
    (
        "notify is called after the last release",
        "engine/request.c",
        "r->notify = NULL; //",
        "//",
    ),
    (
        "everybody samples from the first row of logits",
        "engine/engine.c",
        "logits += g->config.logits_stride;",
        "",
    ),
    (
        "one request's penalties leak into the next",
        "engine/sample.c",
        "*count = 0;",
        "",
    ),
    (
        "non-finite logits are sampled",
        "engine/sample.c",
        "if (!all_finite(logits, s->n_vocab)) return SAMPLE_FAILED;",
        "",
    ),
    (
        "the queue's tail is served first",
        "engine/schedule.c",
        "sequence *q = s->waiting[0];",
        "sequence *q = s->waiting[s->n_waiting - 1];",
    ),
    (
        "decoders wait while prompts are read",
        "engine/schedule.c",
        "left -= s->running[i]->n_planned = is_decoding(s->running[i]);",
        "left -= s->running[i]->n_planned = is_decoding(s->running[i]) && is_decoding(s->running[s->n_running - 1]);",
    ),
]


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, **options)


def compile_command(build, path):
    for entry in json.loads((build / "compile_commands.json").read_text()):
        if Path(entry["file"]) == path:
            return shlex.split(entry["command"])
    raise SystemExit(f"mutants: {path} is not compiled in {build}")


def build_mutant(build, scratch, file, old, new):
    """The simulation with one file changed."""
    path = SOURCE / file
    text = path.read_text()
    if text.count(old) != 1:
        raise SystemExit(f"mutants: {text.count(old)} times in {path}, where once was expected: {old}")
    changed, compiled, program = scratch / path.name, scratch / "mutant.o", scratch / "sim"
    changed.write_text(text.replace(old, new))
    command = compile_command(build, path)
    command[command.index("-o") + 1], command[command.index("-c") + 1] = str(compiled), str(changed)
    result = run([*command, "-Wno-error"], cwd=build)
    if result.returncode:
        raise SystemExit(f"mutants: {file} does not compile with: {new}\n{result.stderr}")
    link = run(["ninja", "-t", "commands", "sim"], cwd=build, check=True).stdout.splitlines()[-1]
    link, n = re.subn(r" -o sim ", f" {shlex.quote(str(compiled))} -o {shlex.quote(str(program))} ", link)
    assert n == 1, link
    run(link, shell=True, cwd=build, check=True)
    return program


def hunt(program):
    """The seed that was red and the first words on it; (None, "") if none was."""
    result = run([program, "--seeds", str(SEEDS)], timeout=300)
    seed = re.search(r"schedule (\d+) failed \((.*)\)", result.stderr)
    if result.returncode == 0 or not seed:
        return None, result.stderr
    word = re.search(r"check failed: (.*)", result.stderr)
    return int(seed[1]), word[1] if word else seed[2]


def main(build, names):
    survivors = 0
    print(f"{'planted bug':50} {'schedule':>8} {'s':>5}  seen by")
    for name, file, old, new in MUTANTS:
        if names and name not in names:
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            seed, word = hunt(build_mutant(build, Path(scratch), file, old, new))
        survivors += seed is None
        seconds = time.monotonic() - began
        print(f"{name:50} {'SURVIVED' if seed is None else seed:>8} {seconds:5.1f}  {word}", flush=True)
    return survivors


if __name__ == "__main__":
    sys.exit(1 if main(Path(sys.argv[1]).resolve(), sys.argv[2:]) else 0)
