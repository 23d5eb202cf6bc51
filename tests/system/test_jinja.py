"""Our Jinja interpreter beside Python's jinja2, set up as `transformers` does it: the same text, or both refuse.

Renders through `jinja_render` (tests/text/render.c), which is built beside ROCMFORGE_BIN.
"""

import json
import pathlib
import random
import struct
import subprocess
import sys
import unicodedata
import warnings

import jinja_random
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))
import make_template_vectors as vectors  # noqa: E402

UNSUPPORTED = 4  # err_code: a sentence says so, and nothing is approximated
ADDRESS = (" at 0x", "<loopcontext", "<macro")  # what Python shows of objects, in any case of letters
REFERENCE = vectors.Reference()


@pytest.fixture(scope="session")
def ours(binary):
    program = pathlib.Path(binary).parent / "jinja_render"
    process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def render(template, variables, **more):
        line = {"template": template, "vars": variables, "now": vectors.NOW, **more}
        process.stdin.write(json.dumps(line).encode() + b"\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield render
    process.stdin.close()
    assert process.wait(timeout=30) == 0


def same(ours, template, variables):
    """Compares; True if there was a text, False if both refused, None if there is nothing to compare."""
    wanted = vectors.attempt(REFERENCE, template, variables)
    got = ours(template, variables)
    if got.get("code") == UNSUPPORTED or wanted is not None and any(x in wanted.lower() for x in ADDRESS):
        return None
    assert got.get("text") == wanted, (template, got, wanted)
    return wanted is not None


@pytest.mark.parametrize("name", vectors.templates())
def test_real_templates(ours, name):
    text = vectors.templates()[name]
    assert sum(same(ours, text, c) for c in vectors.conversations().values()) >= 12


def test_committed_vectors_are_what_jinja2_says():
    run = subprocess.run([sys.executable, vectors.__file__], capture_output=True, check=True)
    assert run.stdout.decode() == (vectors.FOLDER / "expected.json").read_text()


@pytest.mark.parametrize("make, count", [(jinja_random.expression, 2000), (jinja_random.template, 1000)])
def test_random(ours, make, count, long):
    count *= 20 if long else 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's, about the code that jinja2 makes
        results = [same(ours, make(seed), jinja_random.CONTEXT) for seed in range(count)]
    assert results.count(True) > count * 0.3 and results.count(None) < count * 0.05


def test_safe_strings(ours):
    """What every method and filter makes of a string that is escaped, or called safe, and what keeps it so."""
    behind = [x for source, _, x in jinja_random.METHODS + jinja_random.FILTERS if source == "string"] + [
        ".strip('&')", ".replace('&', '<')", ".removeprefix('<')", ".join(['<', s|e])", ".ljust(40, '<')", ".zfill(40)",
        "[0]", "[1:9]", "[::2]", " + '<'", " ~ '<'", "|trim('&')", "|indent('<')", "|truncate(9, true, '<')", "|first", "|last"]
    for before in ("s", "(s|safe)", "(s|e)"):
        for x in behind:
            same(ours, "{{ [" + before + x + "] }}{{ " + before + x + " }}", jinja_random.CONTEXT | {"s": "<b> & 'c'\n  ß"})


@pytest.mark.skipif(unicodedata.unidata_version != "14.0.0", reason="the tables are of Unicode 14")
def test_every_character(ours):
    template = ("{{ s|upper }}{{ s|lower }}{{ s.title() }}{{ s|title }}{{ s.swapcase() }}{{ [s] }}{{ s.split() }}"
                "{{ s.splitlines() }}{% for c in s %}{{ c.capitalize() }}{{ c.strip() }}{% endfor %}{{ s|length }}")
    dull = [range(0x3500, 0xA000), range(0xAD00, 0xD700), range(0xE100, 0xF900), range(0x17100, 0x1B000),
            range(0x20100, 0xE0000), range(0xE0200, 0x110000)]  # letters without case, and nothing at all
    characters = [chr(c) for c in range(1, 0x110000)
                  if not 0xD800 <= c < 0xE000 and (c % 101 == 0 or not any(c in x for x in dull))]
    for at in range(0, len(characters), 20000):
        assert same(ours, template, {"s": "".join(characters[at:at + 20000])})


def test_floats(ours):
    r = random.Random(1)
    floats = [struct.unpack("d", r.randbytes(8))[0] for _ in range(20000)]
    floats = [f for f in floats if abs(f) < 1e309]
    floats += [2.0**e for e in range(-1074, 1024)] + [10.0**e for e in range(-320, 309)]
    floats += [r.randrange(10**r.randrange(1, 18)) / 10**r.randrange(18) for _ in range(5000)]
    assert same(ours, "{{ l }}{{ l|tojson }}", {"l": floats})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_escapes_in_strings(ours):
    for body in (r"\x41\u00e9\U0001f642\101\0", r"\q\é\🙂\'\"\\", "\\\n|\r\n|", r"\a\b\f\n\r\t\v"):
        assert same(ours, '{{ "' + body + '" }}{{ ["' + body + '"] }}', {})
    for body in (r"\x4", r"\u12", r"\U0001"):
        assert same(ours, '{{ "' + body + '" }}', {}) is False


def test_numbers_in_templates(ours):
    for number in ("1", "0x1F", "0b101", "0o17", "1_000", "00", "1.5", "1e3", "1.5E-3", "1_0.2_5", "0.0", "9223372036854775807"):
        assert same(ours, "{{ " + number + " }}{{ -" + number + " }}", {})


def test_limits_are_one_sentence(ours):
    for template in ("{% for i in range(10**9) %}{% endfor %}", "{{ '" + "a" * 1000 + "' * 10**8 }}", "{{ " + "(" * 60000):
        got = ours(template, {})
        assert got["error"].startswith("chat template, line 1: ") and "\n" not in got["error"]
