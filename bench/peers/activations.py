#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks of extracted activations for tools/test-peers, one subcommand each. The last line printed says what was found."""

import argparse
import json
import pathlib
import random
import re
import subprocess
import sys
import warnings

import numpy
from safetensors import safe_open
from safetensors.numpy import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKENIZER = ROOT / "tests/goldens/tokenizers/qwen2"
PAGE = ROOT / "docs/from-prompts-to-a-sparse-autoencoder.md"
HOOK, WIDTH, SAMPLES = "resid_post.1", 32, 60
# Of each run, its dtype and compression.
RUNS = {"f32": ("float32", "none"), "bf16": ("bfloat16", "none"), "zstd": ("bfloat16", "zstd")}


def need(condition, text):
    if not condition:
        sys.exit(text)


def call(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    need(done.returncode == 0, f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def check_runs(args):
    """Makes a small model, samples, and a run of each kind."""
    folder, espalier = args.folder, args.espalier
    folder.mkdir(parents=True)
    vocab = 1 + max(json.loads((TOKENIZER / "tokenizer.json").read_text())["model"]["vocab"].values())
    call(espalier, "init", "qwen2", folder / "model", "--vocab-size", vocab + 64, "--hidden", WIDTH, "--num-layer", 2,
         "--heads", 4, "--kv-heads", 2, "--ffn", 48, "--dtype", "float32", "--seed", 3)
    draw = random.Random(7)
    with open(folder / "tokens.jsonl", "w") as file:
        for index in range(SAMPLES):
            tokens = [draw.randrange(vocab) for _ in range(draw.randint(1, 100))]
            file.write(json.dumps({"id": f"sample-{index}", "tokens": tokens}) + "\n")
    ratios = {}
    for name, (dtype, compress) in RUNS.items():
        call(espalier, "extract", "--model", folder / "model", "--tokenizer", TOKENIZER, "--dataset", folder / "tokens.jsonl",
             "--format", "tokens", "--max-seq-length", 128, "--dtype", "float32", "--store-dtype", dtype, "--compress", compress,
             "--activation", "resid_post.*", "--shard-tokens", 700, "--output", folder / name)
        about = json.loads(call(espalier, "inspect", folder / name, "--json"))
        need(about["complete"] and about["samples"] == SAMPLES, f"{name} is not complete: {about}")
        need(json.loads(call(espalier, "verify", folder / name, "--json"))["pass"], f"{name} is not right")
        ratios[name] = about["ratio"]
    print(f"{SAMPLES} samples in runs {', '.join(RUNS)}; zstd saves {ratios['zstd']:.2f}x")


def shards(run):
    return sorted((run / "shards").glob("shard-*.safetensors"))


def programs():
    """The page's tested programs by name, each run in a namespace of its own."""
    found = re.findall(r"<!-- tested: (\w+) -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    result = {}
    for name, text in found:
        result[name] = {}
        exec(compile(text, f"{PAGE.name}: {name}", "exec"), result[name])
    return result


def whole(run, name):
    import torch
    from safetensors.torch import load_file as load_torch

    return torch.cat([load_torch(path)[name] for path in shards(run)])


def names_of(run):
    names = []
    for path in shards(run):
        with safe_open(path, framework="numpy") as file:
            names += json.loads(file.metadata()["sample_ids"])
    return names


def check_shards(args):
    """Shards open in safetensors' own readers, and the page's programs read them."""
    import torch

    f32, bf16, zstd = (args.folder / name for name in RUNS)
    need(len(shards(f32)) > 3, f"{len(shards(f32))} shards are not several")
    # numpy as it is, where numpy has the dtype.
    values = numpy.concatenate([load_file(path)[HOOK] for path in shards(f32)])
    need(numpy.array_equal(values, whole(f32, HOOK).numpy()), "numpy and torch read different values")
    need(torch.equal(whole(f32, HOOK).bfloat16(), whole(bf16, HOOK)), "bf16 is not f32, rounded")
    tokens_of = {sample["id"]: sample["tokens"] for sample in map(json.loads, open(args.folder / "tokens.jsonl"))}
    names = names_of(f32)  # in the order of the run, which packs samples that fit together
    need(sorted(names) == sorted(tokens_of), f"the run has samples {names}")
    samples = [tokens_of[name] for name in names]
    need(whole(f32, "token_ids").tolist() == sum(samples, []), "token_ids are not those of the dataset")

    page = programs()
    need(set(page) == {"shuffled", "sample", "compressed"}, f"the page's programs are {sorted(page)}")
    want = whole(bf16, HOOK)
    batches = list(page["shuffled"]["batches"](bf16, HOOK, rows=100, seed=1, window=4, block=64))
    need(all(len(batch) == 100 for batch in batches[:-1]), "a batch before the last is not full")
    got = torch.cat(batches)
    need(got.shape == want.shape and not torch.equal(got, want), "batches are not shuffled")

    def sort(rows):
        return sorted(rows.float().tolist())

    need(sort(got) == sort(want), "batches are not every row once")
    name, tokens, rows = page["sample"]["sample"](bf16, 37, HOOK)
    begin = sum(map(len, samples[:37]))
    need(name == names[37] and tokens.tolist() == samples[37], f"sample 37 is {name}")
    need(torch.equal(rows, want[begin : begin + len(tokens)]), "sample 37 has other rows")

    done = 0
    for path in shards(zstd):
        with safe_open(path, framework="pt") as file:
            count = len(file.get_tensor("token_ids"))
            for first, last in ((0, count), (1, 2), (count // 3, count - 1)):
                rows = page["compressed"]["rows"](file, HOOK, first, last)
                need(torch.equal(rows, want[done + first : done + last]), f"{path.name}: rows {first} to {last} differ")
            done += count
    need(done == len(want), f"{done} rows are compressed, not {len(want)}")
    print(f"{len(want)} rows of {len(shards(f32))} shards, in numpy, torch and the page's {len(page)} programs")


def check_sae_lens(args):
    """SAELens' loader of cached activations reads what export writes: all rows, the right tokens."""
    import datasets
    import torch
    from sae_lens.training.activations_store import ActivationsStore

    datasets.disable_progress_bars()
    warnings.simplefilter("ignore")
    run, context, column = args.folder / "bf16", 16, "blocks.1.hook_resid_post"
    about = json.loads(call(args.espalier, "export", run, args.folder / "exported", "--to", "sae-lens", "--context", context,
                            "--json"))
    want, ids = whole(run, HOOK).float(), whole(run, "token_ids")
    rows = len(want) // context
    need(about["rows"] == rows and about["left_over"] == len(want) % context, f"the report is {about}")
    data = datasets.load_from_disk(str(args.folder / "exported"))
    need(data.column_names == ["blocks.0.hook_resid_post", column, "token_ids"] and len(data) == rows, f"it is {data}")
    need(data.features[column].shape == (context, WIDTH), f"the column is {data.features[column]}")
    data.set_format("torch")
    need(torch.equal(data[:][column].view(-1, WIDTH), want[: rows * context]), "datasets reads other values")

    def store(folder, batch):
        return ActivationsStore(
            model=None, dataset=None, streaming=False, hook_name=column, hook_head_index=None, context_size=context, d_in=WIDTH,
            n_batches_in_buffer=4, total_training_tokens=1, store_batch_size_prompts=batch, train_batch_size_tokens=64,
            prepend_bos=False, normalize_activations="none", device=torch.device("cpu"), dtype="float32",
            cached_activations_path=str(folder))

    loader = store(args.folder / "exported", 5)
    for start in range(0, rows // 5 * 5, 5):
        values, tokens = loader.get_raw_llm_batch()
        part = slice(start * context, (start + 5) * context)
        need(torch.equal(values, want[part]), f"SAELens reads other values from row {start} on")
        need(torch.equal(tokens, ids[part]), f"SAELens reads other tokens from row {start} on")
    need(next(loader).shape == (64, WIDTH), "SAELens makes no batch for training")

    call(args.espalier, "export", run, args.folder / "mixed", "--to", "sae-lens", "--context", context, "--shuffle", "--dtype",
         "float16", "--hook", HOOK)
    mixed, tokens = store(args.folder / "mixed", rows).get_raw_llm_batch()
    by_token = {}
    for token, row in zip(ids.tolist(), want.half().float()):
        by_token.setdefault(token, []).append(row)
    need(all(any(torch.equal(row, other) for other in by_token[token]) for token, row in zip(tokens.tolist(), mixed)),
         "a shuffled row is not of its token")
    need(not torch.equal(tokens, ids[: len(tokens)]), "--shuffle left the order")
    print(f"{rows} rows of {context} tokens, in datasets {datasets.__version__} and SAELens")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, function in (("runs", check_runs), ("shards", check_shards), ("sae-lens", check_sae_lens)):
        command = commands.add_parser(name, help=function.__doc__)
        command.add_argument("folder", type=pathlib.Path)
        if name != "shards":
            command.add_argument("espalier")
        command.set_defaults(function=function)
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
