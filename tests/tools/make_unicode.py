#!/usr/bin/env python3
"""Writes src/text/unicode.inc, the tables behind unicode.h, from the Unicode database of the Python that runs it.

Usage: make_unicode.py > src/text/unicode.inc && ./forge fmt
Python 3.11 (Debian 12) has Unicode 14.0. tests/system/test_jinja.py compares every character.
"""
import sys
import unicodedata

CHARS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def runs(mapping):
    """(first, last, stride, delta): the characters first, first + stride .. last are moved by delta."""
    keys = sorted(mapping)
    at = 0
    while at < len(keys):
        first, delta, best = keys[at], mapping[keys[at]], (at, 1)
        for stride in (1, 2):
            end = at
            while end + 1 < len(keys) and keys[end + 1] == keys[end] + stride and mapping[keys[end + 1]] == delta:
                end += 1
            best = max(best, (end, stride), key=lambda b: b[0])
        yield first, keys[best[0]], best[1], delta
        at = best[0] + 1


def table(name, rows, width):
    print(f"static const {name} = {{")
    rows = list(rows)
    for i in range(0, len(rows), width):
        print("    " + " ".join(rows[i:i + width]))
    print("};\n")


def mappings(name, function, otherwise=str):
    """Where the function differs from what is done otherwise."""
    simple, long = {}, {}
    for c in CHARS:
        to = function(chr(c))
        if to != otherwise(chr(c)):
            if len(to) == 1:
                simple[c] = ord(to) - c
            else:
                long[c] = [ord(x) for x in to]
    table(f"mapping {name}[]", (f"{{0x{a:x}, 0x{b:x}, {s}, {d}}}," for a, b, s, d in runs(simple)), 5)
    rows = (f"{{0x{c:x}, {{{', '.join(hex(x) for x in to)}}}}}," for c, to in long.items())
    table(f"expansion {name}_LONG[]", rows, 4)


def ranges(name, has):
    out, start = [], None
    for c in [*range(0x110000), None]:
        inside = c is not None and has(chr(c))
        if inside and start is None:
            start = c
        if not inside and start is not None:
            out.append((start, (c or 0x110000) - 1))
            start = None
    table(f"span {name}[]", (f"{{0x{a:x}, 0x{b:x}}}," for a, b in out), 8)


def main():
    print(f"// Made by tests/tools/make_unicode.py from Unicode {unicodedata.unidata_version}: included by unicode.c.")
    mappings("UPPER", str.upper)
    mappings("LOWER", str.lower)
    mappings("TITLE", str.title, str.upper)
    ranges("CASED", lambda c: c.isupper() or c.islower() or c.istitle())
    ranges("UNPRINTABLE", lambda c: not c.isprintable())


if __name__ == "__main__":
    sys.exit(main())
