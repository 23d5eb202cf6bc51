#!/usr/bin/env python3
"""Writes the tokenizer corpus: mixed UTF-8 text of about 3 MB, from fixed seeds and nothing outside this file.

    make_corpus.py OUT            the corpus
    make_corpus.py OUT --small    about 50 KB of the same kinds

The bytes depend on Python's unicodedata (which code points exist), so equal Pythons give equal corpora.
Code points that this unicodedata does not know are left out: tokenizers disagree on them by their Unicode version.
"""
import random
import sys
import unicodedata

ASSIGNED = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF and unicodedata.category(chr(c)) != "Cn"]
SPACES = [chr(c) for c in (*range(9, 14), 32, 0x1C, 0x1F, 0x85, 0xA0, 0x1680, 0x180E, *range(0x2000, 0x2010), 0x2028,
                           0x2029, 0x202F, 0x205F, 0x2060, 0x3000, 0xFEFF)]
CONTRACTIONS = ["s", "t", "re", "ve", "m", "ll", "d"]
SYLLABLES = ("an ar at be ca ce co con de di ed en er es ex for ful gi hou in ing ion is ist it ive ja ka le ly ma "
             "ment mo ness ni no of on or ous out pre pro qu ra re ri ro sa sh st ta te th ti to tra un ver wh yo z"
             ).split()
SCRIPTS = {  # ranges of letters, with what separates words there
    "chinese": ((0x4E00, 0x9FA5), "，。、！？「」"), "japanese": ((0x3041, 0x30FF), "。、"),
    "korean": ((0xAC00, 0xD7A3), "  .,"), "arabic": ((0x0620, 0x0652), "  ،؟"), "hindi": ((0x0904, 0x094D), "  ।"),
    "thai": ((0x0E01, 0x0E4E), " "), "greek": ((0x0370, 0x03FF), "  ."), "cyrillic": ((0x0400, 0x052F), "  ,."),
    "hebrew": ((0x0591, 0x05F4), "  "), "georgian": ((0x10A0, 0x10FF), "  "), "tamil": ((0x0B82, 0x0BCD), "  "),
    "cuneiform": ((0x12000, 0x12399), " "), "mathematical": ((0x1D400, 0x1D7FF), " +"),
}


def pick(r, low, high):
    while True:
        c = chr(r.randint(low, high))
        if unicodedata.category(c) not in ("Cn", "Cs"):
            return c


def word(r):
    w = "".join(r.choice(SYLLABLES) for _ in range(r.choice((1, 1, 2, 2, 2, 3, 3, 4))))
    style = r.random()
    w = w.capitalize() if style < 0.12 else w.upper() if style < 0.15 else w
    if r.random() < 0.04:
        w += r.choice("'’") + r.choice(CONTRACTIONS)
    return w


def number(r):
    return r.choice((str(r.randint(0, 10 ** r.randint(1, 20))), f"{r.random() * 1e6:.4f}", f"{r.randint(0, 999):,}",
                     f"0x{r.getrandbits(32):08x}", f"{r.random():.3e}", "½²³Ⅻ٣४๕", f"{r.randint(1900, 2100)}-01-02"))


def prose(r, n):
    out = []
    while n > 0:
        sentence = " ".join(number(r) if r.random() < 0.03 else word(r) for _ in range(r.randint(3, 25)))
        out.append(sentence.capitalize() + r.choice((". ", ".\n", "! ", "? ", "...\n\n", ".  ", ": ", "; ")))
        n -= len(out[-1])
    return "".join(out)


def code(r, n):
    out, depth = [], 0
    while n > 0:
        name, args = word(r).lower(), ", ".join(word(r) for _ in range(r.randint(0, 3)))
        line = r.choice((f"if ({name} != {number(r)}) {{", f"return {name}[{r.randint(0, 99)}];", f"def {name}({args}):",
                         f"{name} = self.{word(r)}({args})", f"// {word(r)} {word(r)}", f'"{name}": "{args}",', "}", "",
                         f"<{name} class='{word(r)}'/>", f"{name}->{word(r)} += {r.choice(('1', '&x', '~0u'))};"))
        depth = max(0, min(8, depth + r.choice((-1, 0, 0, 1))))
        out.append(r.choice(("    ", "\t", "  ")) * depth + line + r.choice(("\n", "\n", "\r\n")))
        n -= len(out[-1])
    return "".join(out)


def script(r, name, n):
    (low, high), separators = SCRIPTS[name]
    out = [f"\n{name}: "]
    for _ in range(n // 4):
        out.append("".join(pick(r, low, high) for _ in range(r.randint(1, 7))) + r.choice(separators))
    return "".join(out)


def emoji(r, n):
    people, skins = "👨👩🧑👧👦", ["", "", "🏻", "🏽", "🏿"]
    family = lambda: "\u200d".join(r.choice(people) + r.choice(skins) for _ in range(r.randint(1, 4)))
    flag = lambda: "".join(chr(0x1F1E6 + r.randrange(26)) for _ in range(2))
    keycap = lambda: r.choice("0123456789#*") + "\ufe0f\u20e3"
    single = lambda: pick(r, 0x1F300, 0x1F6FF) + r.choice(("", "\ufe0f", "\u200d♂\ufe0f"))
    return "".join(r.choice((family, flag, keycap, single))() + r.choice(("", " ", "!")) for _ in range(n // 4))


def marks(r, n):
    out = []
    for _ in range(n // 4):
        out.append(r.choice("aeiouxq ") + "".join(pick(r, 0x300, 0x36F) for _ in range(r.randint(0, 4))))
    text = "".join(out)
    return text + unicodedata.normalize("NFD", "Ångström naïve Việt Nam ") + unicodedata.normalize("NFC", text)


def whitespace(r, n):
    out = []
    for _ in range(n // 4):
        out.append("".join(r.choice(SPACES) for _ in range(r.choice((1, 1, 2, 3, 8)))))
        out.append(r.choice(("x", "7", "!", "é", "'s", "\n", " ", "字", "_", "\u0301")))
    return "".join(out)


def contractions():
    out = []
    for apostrophe in ("'", "’", "`", "''", " '"):
        for c in CONTRACTIONS + ["ſ", "S̈", "rE", "lL", "x", "K"]:
            for form in sorted({c, c.upper(), c.capitalize(), c.lower()[:-1] + c[-1:].upper()}):
                suffix = apostrophe + form
                out += [f"we{suffix}", f"{suffix}{form}", f"9{suffix}9", f"É{suffix}a"]
    return " ".join(out) + "\n" + "".join(out)


def random_valid(r, n):
    return "".join(r.choice(ASSIGNED) if r.random() < 0.5 else chr(r.randint(1, 0x17F)) for _ in range(n // 3))


def lookalikes():
    return ("<|im_start|>user\n<|im_end|> <|endoftext|><|endoftext |> <|im_<|im_end|>start|> <repo_name> <file_sep>x"
            "<reponame><jupyter_code>\n[INST] </s> <s> <unk> <0x0A> Ġ ĠĠ Ċ â ▁ ▁▁x ĠĠa\0b\x7f\n")


def runs(r, n):
    kinds = " \n\t\r.a=0字\u0301é\U0001F600\u3000A'"
    return "x".join(c * r.choice((1, 2, 3, 7, 16, 63, n // 60)) for c in kinds for _ in range(2))


def corpus(scale):
    r = random.Random(20240601)
    parts = [prose(r, 700 * scale), code(r, 500 * scale), contractions(), lookalikes()]
    parts += [script(r, name, 40 * scale) for name in SCRIPTS]
    parts += [emoji(r, 30 * scale), marks(r, 30 * scale), whitespace(r, 40 * scale), runs(r, 30 * scale)]
    parts += [random_valid(r, 60 * scale), " ".join(number(r) for _ in range(3 * scale))]
    every = ASSIGNED if scale > 10 else ASSIGNED[::97]
    parts += ["".join(every), "\n".join(every[::7]), "".join(c + " a" for c in every if ord(c) < 0x3000)]
    mixed = [p[i:i + 40] for p in parts for i in range(0, len(p), max(1, 40 * len(p) // (4 * scale)))]
    r.shuffle(mixed)
    return "\n".join(parts) + "".join(mixed)


def main():
    text = corpus(10 if "--small" in sys.argv[2:] else 450)
    with open(sys.argv[1], "wb") as f:
        f.write(text.encode("utf-8"))


if __name__ == "__main__":
    main()
