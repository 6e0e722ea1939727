#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The checks of tools/test-peers, one subcommand each. The last line printed says what was found."""

import argparse
import csv
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy
from safetensors.numpy import load_file

# The size of the run that tools/test-peers trains.
RUN = dict(layers=1, hidden=64, heads=2, ffn=128, seq=64, vocab=256)


def need(condition, text):
    if not condition:
        sys.exit(text)


def peer_args(module, sizes, *options):
    names = {"layers": "num_layer", "hidden": "width", "heads": "heads", "ffn": "ffn", "seq": "seq_len"}
    argv = [text for key, option in names.items() for text in (f"--{option}", str(sizes[key]))]
    return module.parser.parse_args([*argv, "--dropout", "0", *options])


def torch_model(sizes, parameters, *options):
    import torch
    import torch_byte_lm

    args = peer_args(torch_byte_lm, sizes, *options)
    model = torch_byte_lm.build(args)
    state = {name: torch.from_numpy(value) for name, value in parameters.items()}
    model.load_state_dict(torch_byte_lm.library_state(state) if args.model == "library" else state)
    return model.double()


def read_golden(folder):
    about = json.loads((folder / "expected.json").read_text())
    return about, load_file(folder / "model.safetensors"), load_file(folder / "expected.safetensors")


def relative(actual, expected):
    return float(numpy.abs(actual - expected).max() / numpy.abs(expected).max())


def check_torch(args):
    """The benchmark's models in double against the goldens: logits, loss, and gradients where names are ours."""
    import torch

    about, parameters, expected = read_golden(args.folder)
    tokens = torch.from_numpy(expected["input_bytes"][0])
    largest = 0.0
    for model_name in ("handcraft", "library"):
        for flash in ("0", "1"):
            model = torch_model(about, parameters, "--model", model_name, "--flash", flash)
            error = relative(model(tokens).detach().numpy(), expected["logits"])
            # loss() rounds the logits to float32, as training does.
            loss = torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
            loss.backward()
            error = max(error, abs(loss.item() - expected["train.loss"][0]))
            if model_name == "handcraft":
                for name, parameter in model.named_parameters():
                    grad = expected[f"grad.{name}"]
                    error = max(error, float(numpy.abs(parameter.grad.numpy() - grad).max()))
            need(error < 1e-10, f"torch {model_name} flash {flash} differs by {error:.3g}")
            largest = max(largest, error)
    print(f"largest difference {largest:.3g}")


def check_jax(args):
    import jax

    import jax_byte_lm

    jax.config.update("jax_platforms", "cpu")
    about, parameters, expected = read_golden(args.folder)
    tokens = expected["input_bytes"][0]
    largest = 0.0
    for flash in ("0", "1"):
        options = peer_args(jax_byte_lm, about, "--flash", flash)
        p = {name: jax.numpy.asarray(value) for name, value in parameters.items()}
        loss, grads = jax.value_and_grad(lambda p: jax_byte_lm.loss_of(options, p, tokens, None))(p)
        error = relative(numpy.asarray(jax_byte_lm.forward(options, p, tokens, None)), expected["logits"])
        error = max(error, abs(float(loss) - expected["train.loss"][0]))
        for name, grad in grads.items():
            error = max(error, float(numpy.abs(numpy.asarray(grad) - expected[f"grad.{name}"]).max()))
        # JAX computes in float32 here.
        need(error < 1e-5, f"jax flash {flash} differs by {error:.3g}")
        largest = max(largest, error)
    print(f"largest difference {largest:.3g}")


def check_events(args):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = sorted(args.folder.glob("events.out.tfevents.*"))
    need(len(files) == 1, f"want one event file in {args.folder}, found {len(files)}")
    # A wrong checksum ends the reader's stream early, and the counts below differ.
    events = EventAccumulator(str(files[0]), size_guidance={"scalars": 0})
    events.Reload()
    tags = events.Tags()["scalars"]
    need("train/loss" in tags, f"no scalar train/loss; there are {tags}")
    scalars = events.Scalars("train/loss")
    with open(args.folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    need(rows and "loss" in rows[0], f"metrics.csv has no column loss: {list(rows[0]) if rows else 'it is empty'}")
    rows = [row for row in rows if row["loss"] not in ("", None)]
    need(len(scalars) == len(rows), f"{len(scalars)} events, but {len(rows)} rows with a loss")
    need(all(a.step < b.step for a, b in zip(scalars, scalars[1:])), "the events' steps do not rise")
    need(all(1e9 < event.wall_time < 1e11 for event in scalars), "an event's time is no time of day")
    for event, row in zip(scalars, rows):
        loss = float(row["loss"])
        need(math.isfinite(loss), f"step {event.step}: loss is {loss}")
        # The event holds a float32.
        need(abs(event.value - loss) <= 2e-6 * abs(loss), f"step {event.step}: {event.value} against {loss} in the CSV")
        need(int(row.get("step", event.step)) == event.step, f"step {row.get('step')} in the CSV is {event.step} there")
    print(f"{len(scalars)} losses equal those in metrics.csv; scalars: {', '.join(tags)}")


def find_checkpoint(folder):
    from safetensors import safe_open

    found = []
    for file in folder.rglob("*.safetensors"):
        with safe_open(file, "numpy") as tensors:
            if "decoder.weight" in tensors.keys():
                found.append(file)
    need(found, f"no file under {folder} holds decoder.weight: {[str(f) for f in folder.rglob('*')]}")
    return max(found, key=lambda file: (file.stat().st_mtime_ns, file))


def expected_shapes(sizes):
    import torch_byte_lm

    return {name: tuple(p.shape) for name, p in torch_byte_lm.build(peer_args(torch_byte_lm, sizes)).state_dict().items()}


def check_checkpoint(args):
    parameters = load_file(find_checkpoint(args.folder))
    shapes = expected_shapes(RUN)
    missing, surplus = sorted(set(shapes) - set(parameters)), sorted(set(parameters) - set(shapes))
    need(not missing and not surplus, f"missing: {missing}; not known: {surplus}")
    for name, value in parameters.items():
        need(value.shape == shapes[name], f"{name} is {value.shape}, want {shapes[name]}")
        need(value.dtype == numpy.float32, f"{name} is {value.dtype}")
        need(numpy.isfinite(value).all(), f"{name} has a value that is not finite")
        need(value.size == 1 or value.std() > 0, f"{name} is constant: was it trained?")
    print(f"{len(parameters)} tensors with the right names and shapes")


def check_eval(args):
    import torch

    checkpoint = find_checkpoint(args.folder)
    model = torch_model(RUN, load_file(checkpoint), "--flash", "0").eval()
    # Whole sequences and whole batches, so that there is one way to cut them.
    text = (b"An espalier is a tree trained along a plan. " * 100)[: 32 * RUN["seq"]]
    tokens = torch.frombuffer(bytearray(text), dtype=torch.uint8).long().view(-1, RUN["seq"])
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).item()
    want = loss / math.log(2)
    with tempfile.NamedTemporaryFile(suffix=".bin") as data:
        data.write(text)
        data.flush()
        command = [args.espalier, "eval", str(args.folder), "--data", data.name, "--batch_size", "4", "--json"]
        done = subprocess.run(command, capture_output=True, text=True)
    output = done.stdout + done.stderr
    need(done.returncode == 0, f"{' '.join(command)}: exit status {done.returncode}\n{output}")
    number = re.search(r'"bits_per_byte"\s*:\s*([-+.\deE]+)', output)
    need(number, f"no bits_per_byte in what the program printed:\n{output}")
    got = float(number[1])
    need(abs(got - want) < 1e-4, f"espalier eval says {got}, PyTorch {want}")
    print(f"{got:.6f} against PyTorch's {want:.6f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, function in (
        ("torch", check_torch),
        ("jax", check_jax),
        ("events", check_events),
        ("checkpoint", check_checkpoint),
        ("eval", check_eval),
    ):
        command = commands.add_parser(name, help=function.__doc__)
        command.add_argument("folder", type=pathlib.Path)
        if name == "eval":
            command.add_argument("espalier")
        command.set_defaults(function=function)
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
