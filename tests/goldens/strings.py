# SPDX-License-Identifier: Apache-2.0
"""Texts that hunt for mistakes in tokenizers: chosen ones, and random ones over the characters of Unicode 14."""

import unicodedata

SENTENCES = [
    "The quick brown fox doesn't jump over 12,345 lazy dogs; they've seen it (twice).",
    "Stra\u00dfe, na\u00efve caf\u00e9, \u00c5ngstr\u00f6m, fa\u00e7ade, \u0141\u00f3d\u017a, \u0130stanbul.",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u039a\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1 \u03ba\u03cc\u03c3\u03bc\u03b5.",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3002\ud55c\uad6d\uc5b4 \ud14d\uc2a4\ud2b8.",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea \u0e44\u0e17\u0e22",
    "if (x >= 0) { return x * 2; }  // done\n\tfor i in range(10):\r\n\r\n    pass\n",
]

FIXED = SENTENCES + [
    "",
    " ",
    "  ",
    "\n",
    " \n \r\n\t x",
    "a  b   c    ",
    "I'm you're HE'LL we'VE it'\u017f 'tis don't' 'RE'",
    "'\u017f'S'd'D'",
    "1 22 333 4444 55555 \u0661\u0662\u0663 \u00bd \u2167",
    "x" * 120,
    "ab" * 200 + " " + "\u00e9" * 99 + " " + "\u00e9" * 101,
    " " * 50 + "end",
    "[CLS] a [MASK] b[SEP][PAD] [mask]",
    "<|im_start|>system\nhi<|im_end|>\n<|endoftext|><|endoftext",
    "a <left> b <right>  c <both>  d\u00a0<both>",
    "word words sword word. word_ word\u0301 (word)",
    "Caf\u00e9 Cafe\u0301 cafe\u0301 CAF\u00c9",
    "a\u0300\u0323b \u0345\u0300 q\u0307\u0323 \u1e69 s\u0323\u0307",
    "\u0301start \u200d \ufeff\u00ad \u2028\u2029\u0085\u00a0\u3000",
    "\u212b \u2126 \u1100\u1161\u11a8 \uac01 \uac00\u11a8 \uf900 \U0002f800",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",
    "\x00\x01\x7f\x80\x9f\ufffd\ue000\U000f0000\U0010ffff",
    "\u302e\u302f\u1d165 \U0001d165\U0001d16d\U00016ff0 a\u302e\u0300",
    "\u037e \u1fef \u226e \u2260 \u00b7 \u166d \U000111c9 \u1885 \u1734",
    "\u0898\u0345\u0301 \U00011938 \U00011935\U00011930 \U00010eab\u0300",
    "\t\t\tif(a){\n\n\n\n  }\r\r\n \n",
    "https://example.org/a?b=c&d=%20#e __init__ a.b.c ... !!!\n\n???",
]

ASSIGNED = [c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
MARKS = [c for c in ASSIGNED if unicodedata.category(chr(c))[0] == "M"]
COMPOSING = [c for c in ASSIGNED if unicodedata.decomposition(chr(c)) and not unicodedata.decomposition(chr(c)).startswith("<")]
SPACES = [c for c in ASSIGNED if chr(c).isspace()]
BMP = [c for c in ASSIGNED if c < 0x3000]
WORDS = "the of to tokens Training model's can't 2024 3.14 -> == caf\u00e9 na\u00efve \u4f60\u597d \u043c\u0438\u0440 ##ing ...".split()
PIECES = ["[MASK]", "[SEP]", "<|im_end|>", "<|im", "<left>", "<right>", "<both>", "word", "Caf\u00e9", "Cafe\u0301", "<tool_call>"]
PIECES += ["'s", "'S", "'ll", "'\u017f", "'Re", "\r\n", "\n\n", "  ", "\t", " '", "\u00a0", "\u3000"]


def piece(source):
    kind = source.randrange(12)
    if kind == 0:
        return source.choice(WORDS)
    if kind == 1:
        return source.choice(PIECES)
    if kind == 2:
        return " " * source.choice((1, 1, 1, 2, 5))
    if kind == 3:
        return chr(source.choice(SPACES))
    if kind == 4:
        return "".join(chr(source.randrange(32, 127)) for _ in range(source.randrange(1, 8)))
    if kind == 5:
        return "".join(chr(source.choice(MARKS)) for _ in range(source.randrange(1, 5)))
    if kind == 6:
        return chr(source.choice(COMPOSING))
    if kind == 7:
        return unicodedata.normalize("NFD", chr(source.choice(COMPOSING)))
    if kind == 8:
        return chr(source.randrange(0x1100, 0x1200)) + chr(source.randrange(0xAC00, 0xD7A4))
    if kind == 9:
        start = source.randrange(len(ASSIGNED))
        return "".join(chr(c) for c in ASSIGNED[start : start + source.randrange(1, 6)])
    if kind == 10:
        return chr(source.choice(BMP))
    return chr(source.choice(ASSIGNED))


def random_string(source):
    return "".join(piece(source) for _ in range(source.choice((1, 2, 3, 5, 8, 20))))
