#!/usr/bin/env python3
"""The house rules that a compiler does not know: floors, voices, lengths, openings, globals.

Usage: lint_floors.py ROOT. Prints one line per fault and exits with 1 if there is any.
Reads the sources under ROOT and, for the globals, the object files of ROOT/build/release when they are there.
"""
import re
import subprocess
import sys
from pathlib import Path

FLOORS = ["base", "gguf", "kernel", "model", "text", "engine", "server", "cli"]  # each may use those before it
ONLY = {"server": {"base", "server"}}  # the server is a user of rocmforge.h like any other
PUBLIC = "rocmforge.h"  # for the floors from engine up
FORBIDDEN = re.compile(
    r"(?<![\w.>])((?:secure_)?getenv|_?exit|quick_exit|v?printf|puts|putchar|perror)\s*\(|\b(stdout)\b"
)
MAX_LINES = 80  # of a function; a formula may be longer if the comment before it says "long: a formula"


def without_comments(text):
    """The code alone: comments and the insides of string and character literals become blanks, line for line."""
    token = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)

    def blank(match):
        keep = match[0][0] if match[0][0] in "\"'" else " "
        return keep + re.sub(r"[^\n]", " ", match[0][1:-1]) + keep

    return token.sub(blank, text)


def includes(text):
    return [
        (number, match[1])
        for number, line in enumerate(text.splitlines(), 1)
        if (match := re.match(r'\s*#\s*include\s+"([^"]+)"', line))
    ]


def floor_faults(floor, text):
    own = FLOORS.index(floor)
    for number, name in includes(text):
        below = name.split("/")[0] if "/" in name else None
        if name == PUBLIC:
            if own < FLOORS.index("engine"):
                yield number, f"{floor} is below the public header {PUBLIC}"
        elif below not in FLOORS:
            yield number, f'"{name}" is not written relative to src/'
        elif floor in ONLY and below not in ONLY[floor]:
            yield number, f'{floor} includes "{name}"; it may use {PUBLIC}, {" and ".join(sorted(ONLY[floor]))} only'
        elif FLOORS.index(below) > own:
            yield number, f'{floor} includes "{name}" from a floor above it'


def voice_faults(code):
    for number, line in enumerate(code.splitlines(), 1):
        if match := FORBIDDEN.search(line):
            yield number, f"{match[1] or match[2]} is for src/cli only"


def length_faults(text, code):
    lines, start, opened = code.splitlines(), None, False
    original = text.splitlines()
    for number, line in enumerate(lines, 1):
        if not opened:
            if re.match(r"[A-Za-z_]", line):
                start = number
            head = "".join(lines[start - 1 : number]) if start else ""
            if line.endswith("{") and ")" in head and "=" not in head:
                opened = True
            elif line.rstrip().endswith((";", "}")):
                start = None
        elif line.startswith("}"):
            n = number - start + 1
            before = start - 2
            while before >= 0 and original[before].startswith("//"):
                before -= 1
            if n > MAX_LINES and "long: a formula" not in " ".join(original[before + 1 : start - 1]):
                yield start, f"a function of {n} lines; {MAX_LINES} is the most"
            start, opened = None, False


def source_faults(root):
    for path in sorted(p for top in ("include", "src", "tests") for p in (root / top).rglob("*")):
        if path.suffix not in (".c", ".h", ".inc", ".py"):
            continue
        text, where = path.read_text(), path.relative_to(root)
        opening = text[text.index("\n") + 1 :] if text.startswith("#!") else text
        if not opening.startswith(("//", "/*", "#", '"""') if path.suffix == ".py" else ("//", "/*")):
            yield where, 1, "the file does not open with a comment that says what it is"
        if path.suffix == ".py":
            continue
        code = without_comments(text)
        found = list(length_faults(text, code))
        found += [(n, f'"{name}": tests go through headers') for n, name in includes(text) if name.endswith(".c")]
        if where.parts[0] == "src":
            floor = where.parts[1]
            if floor not in FLOORS:
                found.append((1, f"src/{floor} is not a floor; design: {', '.join(FLOORS)}"))
            else:
                found += floor_faults(floor, text)
                if floor != "cli":
                    found += voice_faults(code)
        yield from ((where, number, what) for number, what in found)


def global_faults(root):
    """Symbols in writable sections. A constant table of pointers lives in .data.rel.ro, which is read-only."""
    for path in sorted(root.glob("build/release/CMakeFiles/*/src/**/*.o")):
        source = Path(*path.parts[path.parts.index("src", len(root.parts)) :]).with_suffix("")
        if source.parts[1] == "cli" or not (root / source).exists():
            continue
        table = subprocess.run(["objdump", "-t", path], check=True, capture_output=True, text=True).stdout
        for line in table.splitlines():
            if match := re.search(r"\s(\.t?data(?!\.rel\.ro)\S*|\.t?bss\S*|\*COM\*)\s+\S+\s+([^.\s]\S*)$", line):
                yield source, 1, f"the mutable global '{match[2]}' ({match[1]})"


def main():
    root = Path(sys.argv[1]).resolve()
    faults = [*source_faults(root), *global_faults(root)]
    for where, number, what in faults:
        print(f"{where}:{number}: {what}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
