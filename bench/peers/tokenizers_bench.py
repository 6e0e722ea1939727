#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Speed of `espalier bench tokenizer` beside the library `tokenizers`, taking turns on one core each.

  tokenizers_bench.py PROGRAM --tokenizer FOLDER --data FILE [--rounds 5]

Both tokenize the file line by line without special tokens, from an empty cache. FOLDER holds tokenizer.json, or vocab.json and
merges.txt of Qwen2. Prints the median of both in MB/s and their ratio; exit 1 when the numbers of tokens differ.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "goldens"))

import make_tokenizers  # noqa: E402
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers  # noqa: E402


def load(folder):
    if (folder / "tokenizer.json").exists():
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(make_tokenizers.QWEN2), "isolated")
    levels = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, levels])
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for _, token in sorted(config["added_tokens_decoder"].items(), key=lambda item: int(item[0])):
        tokenizer.add_special_tokens([AddedToken(token["content"], normalized=False)])
    return tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    data = args.data.read_bytes()
    lines = [line.decode("utf-8", errors="replace") for line in data.splitlines(keepends=True)]
    command = [args.program, "bench", "tokenizer", "--tokenizer", str(args.tokenizer), "--data", str(args.data)]
    ours, theirs = [], []
    for _ in range(args.rounds):
        done = subprocess.run([*command, "--rounds", "1", "--json"], capture_output=True, text=True, check=True)
        result = json.loads(done.stdout)
        ours.append(result["megabytes_per_second"])
        tokenizer = load(args.tokenizer)  # its cache is empty again
        start = time.perf_counter()
        count = sum(len(tokenizer.encode(line, add_special_tokens=False).ids) for line in lines)
        theirs.append(len(data) / (time.perf_counter() - start) / 1e6)
        if count != result["tokens"]:
            sys.exit(f"{result['tokens']} tokens, tokenizers has {count}")
    a, b = statistics.median(ours), statistics.median(theirs)
    print(f"{count} tokens: espalier {a:.1f} MB/s, tokenizers {b:.2f} MB/s, ratio {a / b:.1f}")


if __name__ == "__main__":
    main()
