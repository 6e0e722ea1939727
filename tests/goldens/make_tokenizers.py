#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the tokenizers of tests/goldens/tokenizers with the library `tokenizers`, and what it says about a few hundred texts.

Every tokenizer is trained on this project's own pages. What is compared is texts.json: ids with and without special tokens, and
the text that the ids decode to. The same tokenizers, made larger, serve the differential test bench/peers/tokenizers_fuzz.py.

  make_tokenizers.py --out FOLDER            makes them
  make_tokenizers.py --compare FOLDER        exit 1 when the library says something else now
"""

import argparse
import json
import pathlib
import random
import sys

import strings
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = f"(?i:{CONTRACTIONS})|" + WORDS.replace("DIGITS", r"\p{N}")
LLAMA3 = f"(?i:{CONTRACTIONS})|" + WORDS.replace("DIGITS", r"\p{N}{1,3}")
BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def corpus():
    pages = sorted(ROOT.glob("docs/*.md")) + [ROOT / "CONTRIBUTING.md"]
    return [line for page in pages for line in page.read_text().splitlines()] + strings.SENTENCES * 20


def bert(size, **options):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=options.pop("longest", 100)))
    tokenizer.normalizer = normalizers.BertNormalizer(**options)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=BERT_SPECIAL, show_progress=False, limit_alphabet=300)
    tokenizer.train_from_iterator(corpus(), trainer)
    ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    return tokenizer


def bpe(size, regex, nfc):
    tokenizer = Tokenizer(models.BPE())
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    if regex:
        split = pre_tokenizers.Split(Regex(regex), "isolated")
        levels = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, levels])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    return tokenizer


def with_added(tokenizer):
    """Tokens of every kind of matching."""
    tokenizer.add_tokens(
        [
            AddedToken("<left>", lstrip=True, normalized=False),
            AddedToken("<right>", rstrip=True, normalized=False),
            AddedToken("word", single_word=True, normalized=False),
            AddedToken("Caf\u00e9", normalized=True),
            AddedToken("<both>", lstrip=True, rstrip=True, normalized=True),
            AddedToken("<tool_call>", normalized=False),
        ]
    )
    return tokenizer


def tokenizers(scale):
    """Name -> tokenizer; `scale` 1 for the goldens."""
    return {
        "bert": bert(500 * scale),
        "bert_cased": bert(500 * scale, lowercase=False),
        "bert_plain": with_added(
            bert(500 * scale, clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=True, longest=12)
        ),
        "gpt2": bpe(500 * scale, None, False),
        "llama3": with_added(bpe(500 * scale, LLAMA3, False)),
        "qwen2": bpe(600 * scale, QWEN2, True),
        "qwen2_added": with_added(bpe(500 * scale, QWEN2, True)),
    }


def cases(tokenizer, texts):
    result = []
    for text in texts:
        ids = tokenizer.encode(text).ids
        result.append(
            {
                "text": text,
                "ids": ids,
                "plain": tokenizer.encode(text, add_special_tokens=False).ids,
                "decoded": tokenizer.decode(ids, skip_special_tokens=False),
                "decoded_plain": tokenizer.decode(ids),
            }
        )
    return result


def make(out):
    source = random.Random(1)
    texts = strings.FIXED + [strings.random_string(source) for _ in range(150)]
    for name, tokenizer in tokenizers(1).items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        with open(folder / "texts.json", "w", encoding="ascii") as file:
            json.dump(cases(tokenizer, texts), file, separators=(",", ":"))
            file.write("\n")


def compare(stored):
    """Asks the stored tokenizers again. They are not trained again: their vocabularies depend on this project's pages of that day."""
    bad = 0
    for folder in sorted(path for path in stored.iterdir() if path.is_dir()):
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        for number, case in enumerate(json.loads((folder / "texts.json").read_text())):
            if cases(tokenizer, [case["text"]])[0] != case:
                print(f"{folder.name}: text {number} {case['text']!r} differs")
                bad += 1
    print(f"{bad} differences")
    return 1 if bad else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--compare", type=pathlib.Path)
    args = parser.parse_args()
    if args.out:
        make(args.out)
    if args.compare:
        sys.exit(compare(args.compare))


if __name__ == "__main__":
    main()
