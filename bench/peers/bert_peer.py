# SPDX-License-Identifier: Apache-2.0
"""What the peers of the BERT benchmark share: options, data, the count of operations."""

import argparse
import math
import os

import peer

VOCAB = 30522
PEAK_RATE, WARMUP, TOTAL = 5e-5, 10, 100


def options(description, models):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=models, default=models[0])
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the arithmetic")
    parser.add_argument("--compile", type=int, choices=(0, 1), default=1)
    parser.add_argument("--attention", choices=("fused", "eager"), default="fused")
    parser.add_argument("--dropout", type=float, default=0.0, help="of activations and of attention's probabilities")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seq", type=int, default=512)
    parser.add_argument("--steps", type=int, default=5, help="measured steps")
    parser.add_argument("--warmup", type=int, default=1, help="steps before those, the first of which compiles")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a line for people")
    return parser


def labelled(args):
    """Labels in a batch: 15 % of the positions."""
    return max(1, args.batch * args.seq * 15 // 100)


def gflop_per_sequence(args):
    """Essential arithmetic: 6 FLOP per weight and token, attention in full, the head for labelled positions only."""
    width, tokens = args.hidden, args.batch * args.seq
    weights = args.layers * 12 * width * width
    head = width * width + width * VOCAB
    flop = 6 * weights * tokens + 12 * args.layers * args.seq * width * tokens + 6 * head * labelled(args)
    return flop / args.batch / 1e9


def batches(args):
    """An endless stream of (input_ids [batch, seq], rows [labels], labels [labels]): random ids, labels evenly spread."""
    import numpy

    rng = numpy.random.default_rng(args.seed)
    count = labelled(args)
    rows = numpy.arange(count) * (args.batch * args.seq) // count
    while True:
        yield rng.integers(VOCAB, size=(args.batch, args.seq)), rows, rng.integers(VOCAB, size=count)


def rate(update):
    """Linear warmup, then a cosine to 0, as a factor of PEAK_RATE."""
    if update < WARMUP:
        return update / WARMUP
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (update - WARMUP) / (TOTAL - WARMUP))))


def run(args, name, version, step):
    args.flash = int(args.attention == "fused")
    about = {
        "bench": "bert",
        "model": args.model,
        "peer": name,
        "version": version,
        "attention": args.attention,
        "dropout": args.dropout,
        "layers": args.layers,
        "hidden": args.hidden,
        "seq": args.seq,
    }
    measured = peer.measure(args, step, batches(args))
    peer.print_line(args, about, gflop_per_sequence(args), *measured)
