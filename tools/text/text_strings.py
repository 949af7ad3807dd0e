# text_strings.py - texts that are hard on a tokenizer (seed -> bytes)
# SPDX-License-Identifier: Apache-2.0
"""Random texts of many kinds, the same for the same seed.

Every text is bytes, because some are no UTF-8; an oracle reads them with
decode("utf-8", "replace"), which is the rule of dataplane/utf8.h.
"""
import random

# First and last code point of scripts and blocks.
BLOCKS = [
    (0x21, 0x7E), (0xA1, 0xFF), (0x100, 0x24F), (0x250, 0x2AF), (0x370, 0x3FF),
    (0x400, 0x52F), (0x531, 0x58A), (0x591, 0x5F4), (0x600, 0x6FF),
    (0x700, 0x74F), (0x780, 0x7B1), (0x900, 0x97F), (0x980, 0x9FE),
    (0xA01, 0xA76), (0xB01, 0xB77), (0xB82, 0xBFA), (0xC00, 0xC7F),
    (0xC80, 0xCF2), (0xD00, 0xD7F), (0xE01, 0xE5B), (0xE81, 0xEDF),
    (0xF00, 0xFDA), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF),
    (0x1200, 0x137C), (0x13A0, 0x13FD), (0x1400, 0x167F), (0x1780, 0x17F9),
    (0x1800, 0x18AA), (0x1E00, 0x1EFF), (0x1F00, 0x1FFE), (0x2000, 0x206F),
    (0x2070, 0x20C0), (0x2100, 0x23FF), (0x2460, 0x27BF), (0x2E80, 0x2FD5),
    (0x3000, 0x30FF), (0x3100, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
    (0xA000, 0xA4C6), (0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xF900, 0xFAD9),
    (0xFB00, 0xFDFF), (0xFE00, 0xFE6F), (0xFF01, 0xFFEE), (0x10000, 0x100FA),
    (0x10330, 0x1034A), (0x10900, 0x1093F), (0x11000, 0x1107F),
    (0x12000, 0x12399), (0x1D100, 0x1D1EA), (0x1D400, 0x1D7FF),
    (0x1F300, 0x1F6FF), (0x1F900, 0x1F9FF), (0x20000, 0x2A6DF),
    (0x2F800, 0x2FA1D), (0xE0001, 0xE007F),
]
SPACES = (
    " \t\n\r\v\f\x1c\x1f\x85\xa0\u1680\u180e\u2000\u2003\u200a\u200b\u2028"
    "\u2029\u202f\u205f\u2060\u3000\ufeff\u2581"
)
MARKS = (
    "\u0300\u0301\u0308\u030a\u0316\u0323\u0327\u0328\u0338\u0344\u0345"
    "\u05b0\u064b\u0651\u093c\u09bc\u0e38\u0f71\u0f72\u302a\u3099\u309a"
    "\ua66f\u20d0\u1161\u11a8\u11bc\u0334\u1dce"
)
LETTERS = "aAeEiIoOuUnNcCsSzZ\u03b1\u03c9\u0415\u0438\u304b\u306f\u1100\uac00\u00e5\u212b\u1e9b\u0958\u09c7"
EMOJI = (
    "\U0001f600\U0001f44d\U0001f468\U0001f469\U0001f467\u2764\u2615\u263a"
    "\U0001f1e9\U0001f1ea\U0001f3fd\U0001f3ff\u200d\ufe0f\ufe0e\u20e3#*1"
    "\U0001f9d1\U0001f4bb\U0001fae0\U0001fa77"
)
WORDS = (
    "the of and to in is that it was for on are with as his they be at one "
    "have this from or had by hot but some what there we can out other were "
    "all your when up use word how said an each she which do their time if "
    "will way about many then them would write like so these her long make "
    "thing see him two has look more day could go come did my sound no most "
    "number who over know water than call first people may down side been "
    "now find any new work part take get place made live where after back "
    "expert token router gradient transformer inference throughput latency"
).split()
CODE = [
    "def f(x):\n", "\treturn x+1\n", "    if (a != b) {\n", "}\n\n", "=>", "->",
    "::", "/*", "*/", "#include <stdio.h>\n", "0x7fff", "1e-9", "3.14159",
    "snake_case_name", "CamelCase", "$HOME", "a[i][j]", "\\n", "\\\\", '"""',
    "http://a.b/c?d=e&f#g", "<div class='x'>", "&amp;", "||", "&&", "!=", "...",
]
TAILS = [
    "'s", "'S", "'t", "'RE", "'ve", "'M", "'ll", "'D", "\u2019s", "'\u017f",
    "'\u212a", "'lL", "'", "''", "'x", "n't",
]


def pick_char(rng):
    kind = rng.random()
    if kind < 0.6:
        low, high = rng.choice(BLOCKS)
        return chr(rng.randint(low, high))
    if kind < 0.75:
        return rng.choice(SPACES)
    if kind < 0.85:
        return rng.choice(MARKS)
    if kind < 0.95:
        return chr(rng.randint(0x20, 0x7E))
    while True:
        c = rng.randint(0, 0x10FFFF)
        if not 0xD800 <= c <= 0xDFFF:
            return chr(c)


def script_words(rng):
    low, high = rng.choice(BLOCKS)
    parts = []
    for _ in range(rng.randint(1, 12)):
        size = rng.randint(1, 12)
        parts.append("".join(chr(rng.randint(low, high)) for _ in range(size)))
        parts.append(rng.choice([" ", " ", " ", ", ", ". ", "\n", "", "  "]))
    return "".join(parts)


def mixed(rng):
    return "".join(pick_char(rng) for _ in range(rng.randint(1, 60)))


def spaces(rng):
    parts = []
    for _ in range(rng.randint(1, 20)):
        if rng.random() < 0.7:
            parts.append(rng.choice(SPACES) * rng.choice([1, 1, 1, 2, 3, 9]))
        else:
            parts.append(rng.choice("ab1.,!\u00e9\u4e2d"))
    return "".join(parts)


def ascii_spaces(rng):
    return "".join(
        rng.choice(["  ", " ", "\n", "\r\n", "\t", "\n\n", "x", ".", "7", "\r"])
        for _ in range(rng.randint(1, 30))
    )


def marks(rng):
    parts = []
    for _ in range(rng.randint(1, 15)):
        parts.append(rng.choice(LETTERS))
        parts += rng.choices(MARKS, k=rng.choice([0, 1, 1, 2, 3, 8]))
    return "".join(parts)


def emoji(rng):
    return "".join(rng.choices(EMOJI, k=rng.randint(1, 25)))


def controls(rng):
    return "".join(
        chr(rng.choice([*range(0, 32), *range(127, 160), 65, 32, 49]))
        for _ in range(rng.randint(1, 30))
    )


def prose(rng):
    parts = []
    for _ in range(rng.randint(1, 60)):
        word = rng.choice(WORDS)
        form = rng.random()
        if form < 0.1:
            word = word.upper()
        elif form < 0.25:
            word = word.capitalize()
        if rng.random() < 0.15:
            word += rng.choice(TAILS)
        parts.append(word)
        parts.append(rng.choice([" "] * 12 + [", ", ". ", ".\n", "-", "  "]))
        if rng.random() < 0.05:
            parts.append(str(rng.randint(0, 10 ** rng.randint(1, 12))))
    return "".join(parts)


def code(rng):
    return "".join(
        rng.choice(CODE) + rng.choice(["", " ", "", "\n"])
        for _ in range(rng.randint(1, 25))
    )


def long_run(rng):
    unit = rng.choice(
        ["a", " ", "\n", "0", "-", "=", "A", "\u00e9", "\u4e2d", "ab", "\t",
         "\u0301", "\U0001f600", "the ", "!?", "\x00", "\u2581", "\r\n", "xX"]
    )
    return unit * rng.choice([30, 64, 100, 257, 1000, 3000]) + rng.choice(
        ["", "b", " ", ".", "\n"]
    )


def long_word(rng):
    size = rng.choice([31, 41, 100, 400, 2000])
    alphabet = rng.choice(
        ["abcdefghijklmnopqrstuvwxyz", "etaoinshrdlu", "01", "ACGT",
         "\u043e\u0435\u0430\u0438\u043d\u0442", "\u0e01\u0e02\u0e34\u0e49"]
    )
    return "".join(rng.choices(alphabet, k=size))


def broken(rng):
    source = bytearray(rng.choice([mixed, emoji, prose, marks])(rng).encode())
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(source) + 1)
        what = rng.random()
        if what < 0.4 and source:
            del source[place % len(source)]
        elif what < 0.7:
            source.insert(place, rng.randrange(128, 256))
        else:
            source[place:place] = rng.choice(
                [b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff",
                 b"\xe2\x82", b"\xf0\x9f\x98", b"\xe0\x80", b"\xf8\x88"]
            )
    return bytes(source)


def any_bytes(rng):
    return bytes(rng.randrange(256) for _ in range(rng.randint(0, 40)))


def with_tokens(rng, tokens):
    parts = []
    for _ in range(rng.randint(1, 8)):
        token = rng.choice(tokens)
        cut = rng.random()
        if cut < 0.15:
            token = token[: rng.randint(0, len(token))]
        elif cut < 0.25:
            token = token[rng.randint(0, len(token)) :]
        parts.append(token)
        parts.append(
            rng.choice(["", "", " ", "  ", "\n", "hi", "a b", "\u00e9", "_"])
        )
    return "".join(parts)


KINDS = [
    script_words, script_words, mixed, mixed, spaces, ascii_spaces, marks,
    emoji, controls, prose, prose, code, long_run, long_word, broken, any_bytes,
]


def make(seed, count, tokens):
    """`count` texts; `tokens` are added tokens to weave in."""
    rng = random.Random(seed)
    texts = [b"", b" ", b"  ", b"\n", b"a", b" a", b"\xff", b"\xe2\x96\x81"]
    while len(texts) < count:
        kind = rng.random()
        if kind < 0.15 and tokens:
            text = with_tokens(rng, tokens)
        elif kind < 0.25:
            pieces = [rng.choice(KINDS)(rng) for _ in range(3)]
            text = b"".join(
                p if isinstance(p, bytes) else p.encode() for p in pieces
            )
        else:
            text = rng.choice(KINDS)(rng)
        texts.append(text if isinstance(text, bytes) else text.encode())
    return texts[:count]
