"""Random expressions and templates in the language of chat templates: mostly well typed, now and then not.

Deterministic by seed. CONTEXT are the variables they speak of.
"""

import random

CONTEXT = {
    "a": 3, "b": -7, "f": 2.5, "g": 0.1, "z": 0, "big": 10**15, "yes": True, "no": False, "n": None,
    "s": "Hello World", "e": "", "t": "  padded\ttext\n", "q": "it's \"q\"\\", "h": "<b>&'\"",
    "u": "Grüße ß ΣΑΣ ŉ 東京🙂", "lines": "one\n\n two\r\nthree\x0bfour",
    "l": [3, 1, 2], "m": ["b", "A", "c"], "dup": ["a", "A", "b", "a"], "mix": [1, "a", None, 2.0, True],
    "d": {"x": 1, "y": "two", "items": [1], "k z": None}, "nest": {"a": {"b": [{"c": 5}, {"c": 6}]}},
    "users": [{"name": "Bo", "age": 3, "on": True}, {"name": "al", "age": 30, "on": False}, {"name": "Cy", "age": 12}],
}

LITERALS = {
    "number": ["0", "1", "-1", "2", "10", "7", "1.5", "0.1", "1e3", "1_000", "0x1f", "100"],
    "string": ["''", "'a'", "'x y'", "\"it's\"", "'\\n'", "'%s'", "'o'", "' '", "'é\\u00e9'", "'ABC'", "'42'", "'1.0'"],
    "list": ["[]", "[1, 2, 3]", "['a', 'b']", "(1, 2)", "()", "range(4)", "range(5, 0, -2)"],
    "mapping": ["{}", "{'k': 1, 2: 'v'}", "dict(p=1)"],
    "bool": ["true", "false"],
    "none": ["none", "missing", "d.nope"],
}
NAMES = {
    "number": ["a", "b", "f", "g", "z", "big"], "string": ["s", "e", "t", "q", "h", "u", "lines"],
    "list": ["l", "m", "dup", "mix", "users"], "mapping": ["d", "nest", "users[0]"], "bool": ["yes", "no"], "none": ["n"],
}
# what makes a value of one type of a value of another: (from, to, text behind it)
METHODS = [("string", to, f".{call}") for to, calls in {
    "string": ["strip()", "strip('H')", "lstrip()", "rstrip()", "upper()", "lower()", "title()", "capitalize()",
               "swapcase()", "replace('o', '0')", "replace('', '-')", "replace('l', 'L', 1)", "join(['a', 'b'])",
               "join(m)", "zfill(8)", "center(20)", "center(15, '*')", "ljust(14)", "rjust(14, '.')",
               "removeprefix('He')", "removesuffix('ld')", "format(1, 2)"],
    "list": ["split()", "split(' ')", "split('o', 1)", "rsplit(' ', 1)", "rsplit()", "split(None, 1)",
             "rsplit(None, 1)", "splitlines()", "splitlines(true)", "partition('o')", "rpartition('o')", "partition('zz')"],
    "number": ["find('o')", "rfind('o')", "find('o', 5)", "count('l')", "count('')", "index('l')"],
    "bool": ["startswith('H')", "endswith('d')", "startswith(('x', 'H'))", "isdigit()", "isalpha()", "isspace()"],
}.items() for call in calls] + [("mapping", to, f".{call}") for to, calls in {
    "list": ["items()", "keys()", "values()", "items()|list"],
    "none": ["get('x')", "get('nope')", "x", "y", "update({})", "__class__"], "number": ["get('nope', 5)"],
}.items() for call in calls] + [("list", "number", ".index(2)"), ("list", "number", ".count(1)"),
                                ("list", "none", ".append(1)"), ("list", "none", ".nope")]
FILTERS = [(kind, to, f"|{call}") for (kind, to), calls in {
    ("string", "string"): ["upper", "lower", "title", "capitalize", "trim", "trim('H')", "replace('o', '0')", "indent",
                           "indent(2, true)", "indent(2, true, true)", "indent('> ')", "safe", "escape", "e|string",
                           "forceescape", "center(20)", "truncate(5)", "truncate(8, true)", "truncate(8, false, '!', 0)",
                           "reverse", "string", "format(1)", "format('a', 'b')", "default('D')"],
    ("string", "number"): ["length", "int", "int(5)", "float", "float(1.5)", "count"],
    ("string", "list"): ["list", "batch(2)|list"],
    ("number", "number"): ["abs", "round", "round(1)", "round(1, 'floor')", "round(0, 'ceil')", "int", "float"],
    ("number", "string"): ["string", "tojson", "e"],
    ("list", "list"): ["list", "reverse|list", "sort", "sort(reverse=true)", "sort(case_sensitive=true)", "unique|list",
                       "unique(true)|list", "map('string')|list", "map('upper')|list", "select|list", "reject|list",
                       "select('string')|list", "reject('none')|list", "batch(2)|list", "batch(2, 0)|list",
                       "slice(2)|list", "slice(2, 9)|list", "select('>', 1)|list", "map('length')|list"],
    ("list", "string"): ["join", "join(', ')", "string", "tojson", "tojson(indent=2)", "map('string')|join('/')"],
    ("list", "number"): ["length", "sum", "sum(start=10)"],
    ("list", "none"): ["first", "last", "min", "max", "default('D', true)"],
    ("mapping", "list"): ["items|list", "dictsort", "dictsort(true)", "dictsort(by='value')", "dictsort(reverse=true)", "list"],
    ("mapping", "string"): ["tojson", "tojson(indent=2)", "tojson(sort_keys=true)", "tojson(separators=(',', ':'))",
                            "tojson(ensure_ascii=true)", "tojson(indent='--')", "string"],
    ("mapping", "number"): ["length"], ("mapping", "none"): ["attr('x')", "first"],
    ("none", "string"): ["default('D')", "d", "default('D', true)", "string"],
}.items() for call in calls]
USERS = ["map(attribute='name')|list", "map(attribute='name')|join('/')", "map(attribute='zip', default=0)|list",
         "selectattr('on')|list", "selectattr('age', '>', 5)|list", "selectattr('name', 'equalto', 'Bo')|list",
         "selectattr('on', 'defined')|list", "rejectattr('on')|list", "sort(attribute='age')|map(attribute='age')|list",
         "rejectattr('on', 'defined')|map(attribute='name')|list", "sum(attribute='age')", "min(attribute='age')",
         "join('-', attribute='name')", "unique(attribute='name')|list|length", "map(attribute='nest.a')|list"]
TESTS = ["defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "true", "false", "mapping",
         "sequence", "iterable", "callable", "eq 3", "equalto('a')", "ne 1", "in [1, 2, 3]", "sameas true", "sameas none",
         "escaped"]
NUMBER_TESTS = ["odd", "even", "divisibleby 2", "divisibleby(3)", "lt 3", "gt 1", "ge 2", "le 2", "greaterthan 2"]


class Random:
    def __init__(self, seed):
        self.r = random.Random(seed)

    def pick(self, *options):
        return self.r.choice(options)

    def kind(self):
        return self.r.choice(list(NAMES))

    def atom(self, kind):
        return self.r.choice((NAMES if self.r.random() < 0.6 else LITERALS)[kind])

    def expression(self, depth, kind=None):
        if kind is None or self.r.random() < 0.03:  # of the wrong type
            kind = self.kind()
        if depth <= 0 or self.r.random() < 0.15:
            return self.atom(kind)
        choice = self.r.random()
        if choice < 0.5:
            source, _, behind = self.r.choice([x for x in METHODS + FILTERS if x[1] == kind] or METHODS)
            return f"({self.expression(depth - 1, source)}){behind}"
        if choice < 0.6:
            then = self.expression(depth - 1, kind)
            condition = self.expression(depth - 1, "bool")
            return f"({then} if {condition}" + (f" else {self.expression(depth - 1, kind)})" if self.r.random() < 0.8 else ")")
        if choice < 0.65:
            return f"({self.expression(depth - 1, kind)} {self.pick('and', 'or')} {self.expression(depth - 1, kind)})"
        return getattr(self, "make_" + kind)(depth - 1)

    def make_number(self, d):
        if self.r.random() < 0.15:
            return f"-({self.expression(d, 'number')})"
        if self.r.random() < 0.1:  # a tower of powers would take Python for ever
            return f"({self.atom('number')} ** {self.pick('0', '2', '3', '-1', '0.5')})"
        operator = self.pick("+", "-", "*", "/", "//", "%", "+", "-")
        return f"({self.expression(d, 'number')} {operator} {self.expression(d, 'number')})"

    def make_string(self, d):
        return self.pick(
            f"({self.expression(d, 'string')} + {self.expression(d, 'string')})",
            f"({self.expression(d)} ~ {self.expression(d)})", f"({self.expression(d, 'string')} * {self.pick('2', '0', '3')})",
            f"('%s|%r' % ({self.expression(d)}, {self.expression(d)}))",
            f"('%5.2f|%-6d|%x|%g' % ({self.expression(d, 'number')}, a, a, g))",
            f"(({self.expression(d, 'string')})|string){self.slice()}", f"({self.expression(d, 'string')})[{self.pick(0, 1, -1, -2)}]")

    def make_list(self, d):
        return self.pick(
            f"[{self.expression(d)}, {self.expression(d)}]", f"({self.expression(d)}, {self.expression(d)})",
            f"(({self.expression(d, 'list')})|list + [{self.expression(d)}])",
            f"(({self.expression(d, 'list')})|list){self.slice()}", f"(users|{self.r.choice(USERS)})")

    def make_mapping(self, d):
        key = self.atom(self.pick("number", "string", "bool", "none"))  # jinja2 refuses others even where it never comes
        return f"{{'k': {self.expression(d)}, {key}: {self.expression(d)}}}"

    def make_bool(self, d):
        return self.pick(
            f"({self.expression(d)} {self.pick('==', '!=')} {self.expression(d)})", f"(not {self.expression(d)})",
            f"({self.expression(d, 'number')} {self.pick('<', '>', '<=', '>=')} {self.expression(d, 'number')} < 50)",
            f"({self.expression(d, 'string')} {self.pick('<', '>=', 'in', 'not in')} {self.expression(d, 'string')})",
            f"({self.expression(d)} {self.pick('in', 'not in')} ({self.expression(d, 'list')})|list)",
            f"({self.expression(d)} is {self.pick('', 'not ')}{self.r.choice(TESTS)})",
            f"({self.expression(d, 'number')} is {self.r.choice(NUMBER_TESTS)})")

    def make_none(self, d):
        return f"({self.expression(d, self.pick('list', 'mapping'))})[{self.expression(0, self.pick('number', 'string'))}]"

    def slice(self):
        return (f"[{self.pick('', 1, -1, -3, 2, 9)}:{self.pick('', 1, -1, 3, -2)}"
                f"{self.pick('', '', '', ':', ':2', ':-1', ':-2')}]")

    # ---- templates ----

    def tag(self, inside):
        return "{%" + self.pick("", "", "", "-", "+") + f" {inside} " + self.pick("", "", "", "-", "+") + "%}"

    def show(self, inside):
        return "{{" + self.pick("", "", "", "-") + f" {inside} " + self.pick("", "", "", "-") + "}}"

    def text(self):
        return self.pick("", "x", "\n", " \n  ", "  ", "a b\n", "\t", "\n\n  y", "{", "}", "%}", "é\n", "\r\n", " }} ")

    def body(self, depth):
        return "".join(self.text() + self.statement(depth) for _ in range(self.r.randrange(1, 4))) + self.text()

    def statement(self, depth):
        kinds = ["show"] * 4 + (["if", "for", "for", "set", "set_block", "macro", "filter", "with", "raw", "comment",
                                 "generation"] if depth > 0 else [])
        return getattr(self, "write_" + self.r.choice(kinds))(depth - 1)

    def write_show(self, _):
        return self.show(self.expression(self.r.randrange(3)))

    def write_if(self, d):
        text = self.tag("if " + self.expression(1, "bool")) + self.body(d)
        if self.r.random() < 0.3:
            text += self.tag("elif " + self.expression(1)) + self.body(d)
        if self.r.random() < 0.5:
            text += self.tag("else") + self.body(d)
        return text + self.tag("endif")

    def write_for(self, d):
        if self.r.random() < 0.7:
            over = self.pick("l", "m", "d", "range(3)", "'abc'", "[]", "missing", "users|selectattr('on')", "l[::-1]", "mix")
            head = f"i in {over}" + self.pick("", "", "", " if i", " if i is string", " if ns.n < 2")
        else:
            head = "i, v in " + self.pick("d.items()", "d|items", "d|dictsort", "[(1, 2), (3, 4)]", "['ab', 'cd']")
        inner = self.pick(
            "", self.show("loop.index ~ loop.index0 ~ loop.revindex ~ loop.first ~ loop.last ~ loop.length"),
            self.show("loop.previtem") + self.show("loop.nextitem"), self.tag("set ns.n = ns.n + 1"),
            self.tag("if loop.index == 2") + self.tag(self.pick("break", "continue")) + self.tag("endif"),
            self.show("loop.cycle('a', 'b')"), self.show("loop.changed(i)"), self.tag("set v = i") + self.show("v"))
        text = self.tag("for " + head) + self.body(d) + inner + self.text()
        return text + (self.tag("else") + self.body(d) if self.r.random() < 0.3 else "") + self.tag("endfor")

    def write_set(self, _):
        return self.tag(f"set {self.pick('v', 'w', 'ns.n')} = {self.expression(2)}") + self.show("w ~ v")

    def write_set_block(self, d):
        return self.tag("set w" + self.pick("", " | upper", " | trim | title")) + self.body(d) + self.tag("endset") + self.show("w")

    def write_macro(self, d):
        shown = self.pick("", "{{ varargs }}", "{{ kwargs }}", "{{ caller() if caller }}") + "{{ p ~ o ~ s }}"
        text = self.tag("macro mac(p, o=5, s='x')") + self.body(d) + shown + self.tag("endmacro")
        call = self.pick("mac()", "mac(1)", "mac(1, 2, 3)", "mac(s=1, p=2)", "mac(1, 2, 3, 4)", "mac(zz=1)", "mac(*l)")
        return text + self.show(call) + (self.tag("call mac(1)") + self.body(d) + self.tag("endcall") if "caller" in shown else "")

    def write_filter(self, d):
        return self.tag("filter " + self.pick("upper", "trim", "indent(2)|upper")) + self.body(d) + self.tag("endfilter")

    def write_with(self, d):
        return self.tag("with a = 1, w = a") + self.body(d) + self.show("a ~ w") + self.tag("endwith")

    def write_raw(self, _):
        return self.tag("raw") + self.text() + "{{ x }}" + self.text() + self.tag("endraw")

    def write_comment(self, _):
        return "{#" + self.pick("", "-", "+") + " c " + self.pick("", "-", "+") + "#}"

    def write_generation(self, d):
        return self.tag("generation") + self.body(d) + self.tag("endgeneration")


def expression(seed):
    return "{{ " + Random(seed).expression(4) + " }}"


def template(seed):
    return "{% set ns = namespace(n=0) %}" + Random(seed).body(2)
