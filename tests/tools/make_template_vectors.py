#!/usr/bin/env python3
"""Writes tests/data/templates/expected.json: what Python's jinja2, set up as `transformers` does it, makes of every
conversation with every template there. Needs jinja2 (build/venv).

Usage: make_template_vectors.py > tests/data/templates/expected.json
The file is {template: [text, or null where the template refuses the conversation, ...]}, in conversations.json's order.
tests/system/test_jinja.py uses `Reference` for what is compared live.
"""
import datetime
import functools
import json
import pathlib
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "data" / "templates"
NOW = 1732542300  # 2024-11-25 13:45:00, what strftime_now is told
ALWAYS = {"bos_token": "<s>", "eos_token": "</s>", "tools": None, "documents": None, "add_generation_prompt": True}


class Generation(jinja2.ext.Extension):
    """{% generation %}: a block that calls its body, as transformers' AssistantTracker does."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_run"), [], [], body).set_lineno(line)

    def _run(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def strftime_now(form):
    return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).replace(tzinfo=None).strftime(form)


class Reference:
    def __init__(self):
        self.env = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
        self.env.filters["tojson"] = tojson
        self.env.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
        self.compile = functools.lru_cache(self.env.from_string)

    def render(self, template, variables):
        """The text; raises whatever jinja2 raises."""
        return self.compile(template).render(**variables)


def templates():
    return {p.stem: p.read_bytes().decode() for p in sorted(FOLDER.glob("*.jinja"))}


def conversations():
    """Names and variables, the same for every template."""
    return {name: ALWAYS | c for name, c in json.loads((FOLDER / "conversations.json").read_text()).items()}


def attempt(reference, template, variables):
    try:
        return reference.render(template, variables)
    except Exception:  # a template may fail in any way
        return None


def main():
    reference = Reference()
    lines = (json.dumps(name) + ": " + json.dumps([attempt(reference, t, v) for v in conversations().values()],
                                                  ensure_ascii=False, separators=(",", ":"))
             for name, t in templates().items())
    print("{\n" + ",\n".join(lines) + "\n}")


if __name__ == "__main__":
    sys.exit(main())
