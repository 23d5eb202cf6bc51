"""Plants bugs in the engine, one at a time, and demands that the simulation sees each.

    mutants.py BUILD_DIR [NAME...]

A mutant is a piece of one source file, found there exactly once, and what the bug puts in its place. Only that file is
compiled again (into a scratch folder) and linked before the library; then the simulation runs as many schedules as
`./forge test` does, one after the other, until it is red. Prints a table: the bug, the schedule that was red, seconds,
the check that saw it. Ends with 1 if a bug survived, or if the code no longer has the place where it was planted: then
plant it again, where the code now does the same.
"""

import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
SCHEDULES = 2000

MUTANTS = [  # name, file, what is there, what the bug puts there
    (
        "a page is freed twice",
        "engine/kv.c",
        "== 0) list_add(k, page);",
        "== 0) list_add(k, page), k->n_free % 5 == 0 ? list_add(k, page) : (void)0;",
    ),
    (
        "a page is not freed",
        "engine/kv.c",
        "== 0) list_add(k, page);",
        "== 0 && k->n_free != 2) list_add(k, page);",
    ),
    (
        "a page is evicted while it is referenced",
        "engine/kv.c",
        "n_refs++ == 0) list_remove(k, page);",
        "n_refs++ == 0 && !k->pages[page].id) list_remove(k, page);",
    ),
    (
        "a page table is stale: it names a page that was given back",
        "engine/kv.c",
        "t->pages[i] = page;",
        "",
    ),
    (
        "a page table is stale: a step runs on its neighbour's",
        "engine/engine.c",
        ".pages = s->kv.pages,",
        ".pages = i == 3 ? d->planned[2]->kv.pages : s->kv.pages,",
    ),
    (
        "what was preempted counts as cached",
        "engine/kv.c",
        "    t->n_cached = 0;",
        "",
    ),
    (
        "what was not computed is committed",
        "engine/kv.c",
        "t->n_cached += n_tokens;",
        "t->n_cached += n_tokens + (n_tokens == 7);",
    ),
    (
        "a wrong guess is kept",
        "engine/engine.c",
        "s->tokens[s->n_tokens] == token;",
        "(s->tokens[s->n_tokens] == token || token % 16 == 0);",
    ),
    (
        "the pages of wrong guesses are kept",
        "engine/engine.c",
        "kv_trim(&g->kv, &s->kv);",
        "",
    ),
    (
        "a hash hit is not verified",
        "engine/kv.c",
        "!holds(&k->pages[page], y)",
        "k->pages[page].hash != y->hash",
    ),
    (
        "the salt is not compared",
        "engine/kv.c",
        "strcmp(p->salt, y->salt) == 0",
        "true",
    ),
    (
        "a suspect page stays in the index",
        "engine/engine.c",
        "kv_discard(&g->kv, &s->kv);",
        ";",
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
        "nobody looks at deadlines",
        "engine/engine.c",
        "now >= s->deadline_us",
        "false",
    ),
    (
        "a stop leaves running what is left after the drain",
        "engine/engine.c",
        "now >= atomic_load(&g->door->cancel_at_us)",
        "false",
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
        "r->notify = NULL;",
        "",
    ),
    (
        "everybody samples from the first row of logits",
        "engine/engine.c",
        "&s->sampling, logits,",
        "&s->sampling, g->logits,",
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
        "after a preemption an embedding counts twice what is read again",
        "engine/engine.c",
        "if (s->kv.n_cached == 0) memset(",
        "if (s->n_planned == 0) memset(",
    ),
    (
        "a mean or a score skips what is cached",
        "engine/schedule.c",
        "kv_adopt(k, &q->kv, sequence_skippable(q));",
        "kv_adopt(k, &q->kv, q->n_tokens - 1);",
    ),
    (
        "after a preemption scores are told again",
        "engine/engine.c",
        "if (next < s->n_prompt - s->n_unscored) continue;",
        "",
    ),
    (
        "scores and guesses take more rows of logits than there are",
        "engine/schedule.c",
        "s->n_spare -= n - 1;",
        ";",
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
        "n_planned = is_decoding(s->running[i]);",
        "n_planned = is_decoding(s->running[i]) && is_decoding(s->running[s->n_running - 1]);",
    ),
]


class Refusal(Exception):
    """A mutant that cannot be planted."""


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, **options)


def compile_command(build, path):
    for entry in json.loads((build / "compile_commands.json").read_text()):
        if Path(entry["file"]) == path:
            return shlex.split(entry["command"])
    raise Refusal(f"{path} is not compiled in {build}")


def build_mutant(build, scratch, file, old, new):
    """The simulation with one file changed."""
    path = SOURCE / file
    text = path.read_text()
    if text.count(old) != 1:
        raise Refusal(f"src/{file} has {text.count(old)} times, where once was expected: {old}")
    changed, compiled, program = scratch / path.name, scratch / "mutant.o", scratch / "sim"
    changed.write_text(text.replace(old, new))
    command = compile_command(build, path)
    command[command.index("-o") + 1], command[command.index("-c") + 1] = str(compiled), str(changed)
    result = run([*command, "-Wno-error"], cwd=build)
    if result.returncode:
        raise Refusal(f"src/{file} does not compile with: {new}\n{result.stderr}")
    link = run(["ninja", "-t", "commands", "sim"], cwd=build, check=True).stdout.splitlines()[-1]
    link, n = re.subn(r" -o sim ", f" {shlex.quote(str(compiled))} -o {shlex.quote(str(program))} ", link)
    if n != 1:
        raise Refusal(f"the simulation is linked in a way not foreseen: {link}")
    run(link, shell=True, cwd=build, check=True)
    return program


def hunt(program):
    """The schedule that was red and the first words on it; (None, "") if none was."""
    result = run([program, "--seeds", str(SCHEDULES), "--jobs", "1"], timeout=300)
    seed = re.search(r"schedule (\d+) failed \((.*)\)", result.stderr)
    if result.returncode == 0 or not seed:
        return None, result.stderr
    word = re.search(r"(?:check failed: |ERROR.*?--- )(.*)", result.stderr)
    return int(seed[1]), word[1] if word else seed[2]


def judge(build, mutant):
    """A row of the table, and whether the bug was seen."""
    name, file, old, new = mutant
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            seed, word = hunt(build_mutant(build, Path(scratch), file, old, new))
        verdict = "SURVIVED" if seed is None else seed
    except Refusal as refusal:
        seed, verdict, word = None, "NO PLACE", refusal
    return f"{name:58} {verdict:>8} {time.monotonic() - began:5.1f}  {word}", seed is not None


def main(build, names):
    print(f"{'planted bug':58} {'schedule':>8} {'s':>5}  seen by")
    n_unseen = 0
    with ThreadPoolExecutor(2) as pool:
        for row, seen in pool.map(lambda m: judge(build, m), [m for m in MUTANTS if not names or m[0] in names]):
            n_unseen += not seen
            print(row, flush=True)
    return n_unseen


if __name__ == "__main__":
    sys.exit(1 if main(Path(sys.argv[1]).resolve(), sys.argv[2:]) else 0)
