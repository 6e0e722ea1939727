#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares `espalier tokenize` with the library `tokenizers` on random texts over the characters of Unicode 14.

Exit status 1 when any list of ids or any decoded text differs. Characters of later versions are compared one by one; their
differences are listed by range, not counted: the two programs may know different versions of Unicode.

  tokenizers_fuzz.py PROGRAM [--count 120000] [--tokenizer FOLDER ...]
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "goldens"))

import make_tokenizers  # noqa: E402
import strings  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

SHOWN = 5


def ask(program, folder, values, *flags):
    lines = "".join(json.dumps(value) + "\n" for value in values)
    command = [program, "tokenize", "--tokenizer", str(folder), *flags]
    done = subprocess.run(command, input=lines, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}")
    answers = [json.loads(line) for line in done.stdout.split("\n")[:-1]]
    assert len(answers) == len(values), f"{len(answers)} answers to {len(values)} lines"
    return answers


def compare(what, texts, got, want):
    bad = [(text, a, b) for text, a, b in zip(texts, got, want) if a != b]
    for text, a, b in bad[:SHOWN]:
        print(f"{what}: {text!r}\n  ours {a}\n  want {b}")
    return len(bad)


def ranges(code_points):
    runs = []
    for c in code_points:
        if runs and runs[-1][1] == c - 1:
            runs[-1][1] = c
        else:
            runs.append([c, c])
    return " ".join(f"{a:04X}" if a == b else f"{a:04X}-{b:04X}" for a, b in runs)


def check(program, name, folder, tokenizer, texts, later):
    encoded = [e.ids for e in tokenizer.encode_batch(texts)]
    plain = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    bad = compare(f"{name} ids", texts, ask(program, folder, texts), encoded)
    bad += compare(f"{name} ids without special tokens", texts, ask(program, folder, texts, "--no-special"), plain)
    decoded = [tokenizer.decode(ids, skip_special_tokens=False) for ids in encoded]
    bad += compare(f"{name} text", encoded, ask(program, folder, encoded, "--decode"), decoded)
    decoded = [tokenizer.decode(ids) for ids in encoded]
    bad += compare(f"{name} text without special tokens", encoded, ask(program, folder, encoded, "--decode", "--no-special"), decoded)

    frames = ("a{}b", "\u0345{}\u0334")
    differ = set()
    for frame in frames:
        framed = [frame.format(chr(c)) for c in later]
        want = [e.ids for e in tokenizer.encode_batch(framed)]
        differ |= {c for c, a, b in zip(later, ask(program, folder, framed), want) if a != b}
    if differ:
        print(f"{name}: {len(differ)} characters later than Unicode 14 differ: {ranges(sorted(differ))}")
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--count", type=int, default=120000, help="texts in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokenizer", type=pathlib.Path, action="append", default=[], help="folder with a tokenizer.json")
    args = parser.parse_args()
    known = set(strings.ASSIGNED)
    # What is in no version yet lies mostly in planes 4 to 13.
    later = [c for c in range(0x110000) if c not in known and not 0xD800 <= c < 0xE000 and (c < 0x40000 or c >= 0xE0000)]
    with tempfile.TemporaryDirectory() as work:
        folders = []
        for name, tokenizer in make_tokenizers.tokenizers(8).items():
            folder = pathlib.Path(work) / name
            folder.mkdir()
            tokenizer.save(str(folder / "tokenizer.json"))
            folders.append(folder)
        folders += args.tokenizer
        each = -(-args.count // len(folders))
        bad = 0
        for number, folder in enumerate(folders):
            source = random.Random(args.seed * 1000 + number)
            texts = strings.FIXED + [strings.random_string(source) for _ in range(each)]
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            bad += check(args.program, folder.name, folder, tokenizer, texts, later if folder.name in ("bert", "qwen2") else [])
        sys.stdout.flush()
    print(f"{each * len(folders)} random texts, {len(folders)} tokenizers, {bad} differences")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
