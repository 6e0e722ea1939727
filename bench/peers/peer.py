# SPDX-License-Identifier: Apache-2.0
"""What the peers of the benchmarks share: options, data, the count of operations, the line they print."""

import argparse
import json
import os
import pathlib
import resource
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
VOCAB = 256


def gflop_per_sequence(layers=8, hidden=512, ffn=2048, seq=256, vocab=VOCAB):
    """Arithmetic of one training sequence: 40.47 GFLOP at the default size (38.86 in matmuls, 1.61 in attention).

    A matmul parameter costs a multiply and an add for each token, once forward and twice backward. Attention's two products
    cost seq x seq x hidden multiply-adds each, of which the causal mask leaves half. Everything else is left out.
    """
    matmul_parameters = layers * (4 * hidden * hidden + 2 * hidden * ffn) + hidden * vocab
    matmul = 3 * 2 * matmul_parameters * seq
    attention = 3 * layers * 2 * (2 * seq * seq * hidden) / 2
    return (matmul + attention) / 1e9


assert round(gflop_per_sequence(), 2) == 40.47


def options(description, models, dtypes):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=models, default=models[0])
    parser.add_argument("--dtype", choices=dtypes, default="float32", help="of the arithmetic; parameters stay float32")
    parser.add_argument("--compile", type=int, choices=(0, 1), default=1)
    parser.add_argument("--flash", type=int, choices=(0, 1), default=1, help="fused attention, where the peer has one")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10, help="measured steps")
    parser.add_argument("--warmup", type=int, default=2, help="steps before those, the first of which compiles")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--num_layer", type=int, default=8)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--ffn", type=int, default=2048)
    parser.add_argument("--seq_len", type=int, default=256)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=pathlib.Path, help="a file of bytes; default: this project's own files, joined")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a line for people")
    return parser


def limit_threads(count):
    """To be called before torch or jax is imported: XLA takes its threads from the CPUs that the process may run on."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def read_bytes(path, at_least):
    if path is not None:
        data = path.read_bytes()
        if len(data) < at_least:
            raise SystemExit(f"[data] {path} has {len(data)} bytes; this run needs {at_least}")
        return data
    skip = {"build", ".git", "__pycache__"}
    suffixes = {".h", ".cpp", ".py", ".md", ".txt", ".cmake", ".cu", ".toml"}
    files = (file for file in sorted(ROOT.rglob("*")) if file.suffix in suffixes and file.is_file())
    data = b"".join(file.read_bytes() for file in files if not skip & set(file.relative_to(ROOT).parts))
    return data * -(-at_least // len(data))


def batches(args):
    """An endless stream of [batch, seq] arrays: the bytes cut into sequences from a random offset, shuffled."""
    import numpy

    data = numpy.frombuffer(read_bytes(args.data, (args.batch + 1) * args.seq_len), dtype=numpy.uint8)
    rng = numpy.random.default_rng(args.seed)
    while True:
        offset = rng.integers(args.seq_len)
        count = (len(data) - offset) // args.seq_len
        sequences = data[offset : offset + count * args.seq_len].reshape(count, args.seq_len)
        order = rng.permutation(count)
        for start in range(0, count - args.batch + 1, args.batch):
            yield sequences[order[start : start + args.batch]].astype(numpy.int64)


def measure(args, step, stream=None):
    """Runs step(batch) -> loss as a float; returns seconds of the first step, of each measured step, and the losses.

    Reading the loss in every step costs nothing here: a CPU has no queue to run ahead of.
    """
    stream = stream or batches(args)
    seconds, losses = [], []
    for _ in range(max(1, args.warmup) + args.steps):
        batch = next(stream)
        start = time.perf_counter()
        losses.append(step(batch))
        seconds.append(time.perf_counter() - start)
    return seconds[0], seconds[-args.steps :], losses


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def print_result(args, peer, version, first_seconds, step_seconds, losses):
    per_sequence = gflop_per_sequence(args.num_layer, args.width, args.ffn, args.seq_len)
    about = {"bench": "byte-lm", "model": args.model, "peer": peer, "version": version}
    print_line(args, about, per_sequence, first_seconds, step_seconds, losses)


def print_line(args, about, gflop_of_sequence, first_seconds, step_seconds, losses):
    """`about`: bench, model, peer, version and what else describes the run."""
    typical = median(step_seconds)
    rates = [args.batch / seconds for seconds in step_seconds]
    result = {
        **about,
        "dtype": args.dtype,
        "compile": args.compile,
        "flash": args.flash,
        "batch": args.batch,
        "threads": args.threads,
        "sequences_per_second": args.batch / typical,
        "sequences_per_second_min": min(rates),
        "sequences_per_second_max": max(rates),
        "gflops": gflop_of_sequence * args.batch / typical,
        "peak_gflops": None,
        "share_of_peak": None,
        "compile_seconds_cold": max(0.0, first_seconds - typical),
        # The whole process with its interpreter and libraries: what a user has to have free.
        "memory_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "step_seconds": step_seconds,
        "loss_first": losses[0],
        "loss_last": losses[-1],
    }
    if args.json:
        print(json.dumps(result), flush=True)
    else:
        print(
            f"{result['peer']} {result['version']} {result['model']} {args.dtype} compile {args.compile} flash {args.flash} "
            f"batch {args.batch}: "
            f"{result['sequences_per_second']:.3f} sequences/s ({min(rates):.3f} to {max(rates):.3f}), "
            f"{result['gflops']:.1f} GFLOP/s, compile {result['compile_seconds_cold']:.1f} s, "
            f"{result['memory_peak_bytes'] / 1e9:.2f} GB, loss {losses[0]:.3f} to {losses[-1]:.3f}"
        )
