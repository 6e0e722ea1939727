# SPDX-License-Identifier: Apache-2.0
"""What the peers of the extraction benchmark share: options, tokens, the count of operations, the line they print."""

import argparse
import json
import os
import pathlib
import resource
import time

import peer


def layer_list(text):
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def options(description, models):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=models, default=models[0])
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the arithmetic")
    parser.add_argument("--compile", type=int, choices=(0, 1), default=0)
    parser.add_argument("--store", type=int, choices=(0, 1), default=0, help="1: write the activations of --layers")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seq", type=int, default=512)
    parser.add_argument("--layers", type=layer_list, default=layer_list("10-23"), help="whose residual stream is stored")
    parser.add_argument("--folder", type=pathlib.Path, help="Hugging Face folder; without: random values of the sizes below")
    parser.add_argument("--num-layer", type=int, default=24)
    parser.add_argument("--hidden", type=int, default=896)
    parser.add_argument("--heads", type=int, default=14)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--ffn", type=int, default=4864)
    parser.add_argument("--vocab", type=int, default=151936)
    parser.add_argument("--steps", type=int, default=3, help="measured batches")
    parser.add_argument("--warmup", type=int, default=1, help="batches before those, the first of which compiles")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a line for people")
    return parser


def config_of(args):
    """transformers' configuration of the model."""
    from transformers import AutoConfig, Qwen2Config

    if args.folder:
        return AutoConfig.from_pretrained(args.folder)
    return Qwen2Config(
        vocab_size=args.vocab,
        hidden_size=args.hidden,
        num_hidden_layers=args.num_layer,
        num_attention_heads=args.heads,
        num_key_value_heads=args.kv_heads,
        intermediate_size=args.ffn,
        max_position_embeddings=32768,
        rope_theta=1e6,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
    )


def gflop_of_batch(config, batch, seq):
    """2 FLOP per weight of the layers and token; attention 4 x seq x width a token, half of it because it is causal."""
    width = config.hidden_size
    shared = width // config.num_attention_heads * config.num_key_value_heads
    weights = 2 * width * width + 2 * width * shared + 3 * width * config.intermediate_size
    return config.num_hidden_layers * batch * seq * (2 * weights + 2 * seq * width) / 1e9


def batches(args, vocab):
    """An endless stream of token ids [batch, seq]."""
    import numpy

    rng = numpy.random.default_rng(args.seed)
    while True:
        yield rng.integers(vocab, size=(args.batch, args.seq))


def process_age():
    """Seconds since this process was started."""
    fields = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return float(pathlib.Path("/proc/uptime").read_text().split()[0]) - started


def run(args, name, version, config, read, written):
    """`read(ids, index)` runs a batch and stores it where asked; `written()` is how many bytes have been stored so far."""
    stream = batches(args, config.vocab_size)
    seconds, first = [], None
    for index in range(max(1, args.warmup) + args.steps):
        ids = next(stream)
        if index == max(1, args.warmup):
            before = written()
        start = time.perf_counter()
        read(ids, index)
        seconds.append(time.perf_counter() - start)
        first = first or process_age()
    seconds = seconds[-args.steps :]
    tokens = args.batch * args.seq
    typical = peer.median(seconds)
    result = {
        "bench": "extract",
        "model": args.model,
        "peer": name,
        "version": version,
        "dtype": args.dtype,
        "compile": args.compile,
        "store": args.store,
        "batch": args.batch,
        "seq": args.seq,
        "threads": args.threads,
        "tokens_per_second": tokens / typical,
        "tokens_per_second_min": tokens / max(seconds),
        "tokens_per_second_max": tokens / min(seconds),
        "gflops": gflop_of_batch(config, args.batch, args.seq) / typical,
        "peak_gflops": None,
        "first_batch_seconds": first,
        "bytes_written_per_second": (written() - before) / sum(seconds),
        # The whole process with its interpreter and libraries: what a user has to have free.
        "memory_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "step_seconds": seconds,
    }
    if args.json:
        print(json.dumps(result), flush=True)
        return
    print(
        f"{name} {version} {args.model} {args.dtype} compile {args.compile} store {args.store} batch {args.batch} x {args.seq}: "
        f"{result['tokens_per_second']:.0f} tokens/s ({result['tokens_per_second_min']:.0f} to "
        f"{result['tokens_per_second_max']:.0f}), {result['gflops']:.1f} GFLOP/s, first batch after {first:.1f} s, "
        f"{result['bytes_written_per_second'] / 1e6:.1f} MB/s written, {result['memory_peak_bytes'] / 1e9:.2f} GB"
    )
