#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the committed numbers of the byte LM: what the model computes, in float64, written with plain PyTorch operations.

  make_byte_lm.py                 writes the fixtures below beside this script
  make_byte_lm.py --out FOLDER    writes them somewhere else
  make_byte_lm.py --compare OLD NEW [--tolerance X]
                                  compares two fixture folders: equal inputs, and results within X of each other
  make_byte_lm.py --check FOLDER  computes a fixture's results again from its own inputs and compares

A fixture is a folder of three files.
  expected.json         sizes, optimizer, number of steps
  model.safetensors     the parameters before the first step, float32
  expected.safetensors  input_bytes [steps, batch, seq] (int64); of the first batch before any update: logits, hook.* and
                        grad.*; then train.loss of every step and after.*, the parameters after the last (all float64)

The parameters are random and of ordinary size everywhere (also norms, biases and positions), so that a wrong one shows.
Needs the environment that bench/peers/setup makes; the project's tests need only the files.
"""

import argparse
import json
import math
import pathlib
import sys

import fixture
import numpy
import torch
from safetensors.numpy import load_file

ADAM = {"name": "adam", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8}
NORM_EPS = 1e-5

# The first has odd sizes (head size 6) and repeated layers. The second has the head size of real models and sequences that
# end in the middle of a third tile of 64; its vocabulary is small to keep the files small.
FIXTURES = {
    "byte_lm_tiny": dict(vocab=256, hidden=24, heads=4, ffn=48, seq=24, layers=2, batch=2, steps=10, seed=11),
    "byte_lm_head64": dict(vocab=64, hidden=64, heads=1, ffn=64, seq=150, layers=1, batch=1, steps=3, seed=12),
}


def shapes(c):
    hidden, ffn = c["hidden"], c["ffn"]
    result = {"embedding.weight": (c["vocab"], hidden), "position.weight": (c["seq"], hidden)}
    for i in range(c["layers"]):
        layer = {
            "norm1.weight": (hidden,),
            "norm1.bias": (hidden,),
            "attention.qkv.weight": (3 * hidden, hidden),
            "attention.qkv.bias": (3 * hidden,),
            "attention.out.weight": (hidden, hidden),
            "attention.out.bias": (hidden,),
            "norm2.weight": (hidden,),
            "norm2.bias": (hidden,),
            "mlp.up.weight": (ffn, hidden),
            "mlp.up.bias": (ffn,),
            "mlp.down.weight": (hidden, ffn),
            "mlp.down.bias": (hidden,),
        }
        result.update({f"layers.{i}.{name}": shape for name, shape in layer.items()})
    result["decoder.weight"] = (c["vocab"], hidden)
    result["decoder.bias"] = (c["vocab"],)
    return result


def random_inputs(c):
    # numpy promises that this generator's stream stays the same from version to version; torch does not.
    rng = numpy.random.Generator(numpy.random.PCG64(c["seed"]))
    parameters = {}
    for name, shape in shapes(c).items():
        if name.endswith("embedding.weight"):
            scale = 1.0
        elif len(shape) == 2 and not name.startswith("position"):
            scale = 1.0 / math.sqrt(shape[1])
        else:
            scale = 0.2
        center = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        # Sums of uniforms use only exact arithmetic, so that every machine makes the same bits (normal deviates use log).
        noise = rng.random(shape) + rng.random(shape) + rng.random(shape) - 1.5
        parameters[name] = (center + 2 * scale * noise).astype(numpy.float32)
    # A product of uniforms makes low bytes frequent: rows of the embedding's gradient collect several places.
    uniform = rng.random((2, c["steps"], c["batch"], c["seq"]))
    return parameters, (uniform[0] * uniform[1] * c["vocab"]).astype(numpy.int64)


def norm(x, weight, bias):
    centered = x - x.mean(-1, keepdim=True)
    variance = (centered * centered).mean(-1, keepdim=True)
    return centered / torch.sqrt(variance + NORM_EPS) * weight + bias


def attention(x, qkv_weight, qkv_bias, out_weight, out_bias, heads):
    batch, seq, hidden = x.shape
    size = hidden // heads
    q, k, v = (x @ qkv_weight.T + qkv_bias).view(batch, seq, 3, heads, size).permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-1, -2) / math.sqrt(size)
    later = torch.ones(seq, seq, dtype=torch.bool).triu(1)
    weights = torch.softmax(scores.masked_fill(later, -math.inf), -1)
    return (weights @ v).transpose(1, 2).reshape(batch, seq, hidden) @ out_weight.T + out_bias


def forward(p, tokens, c, hooks=None):
    hooks = {} if hooks is None else hooks
    embedded = p["embedding.weight"][tokens]
    x = torch.cat([torch.zeros_like(embedded[:, :1]), embedded[:, :-1]], 1) + p["position.weight"]
    hooks["embed"] = x
    for i in range(c["layers"]):
        layer = {name.split(".", 2)[2]: value for name, value in p.items() if name.startswith(f"layers.{i}.")}
        hooks[f"resid_pre.{i}"] = x
        y = attention(
            norm(x, layer["norm1.weight"], layer["norm1.bias"]),
            layer["attention.qkv.weight"],
            layer["attention.qkv.bias"],
            layer["attention.out.weight"],
            layer["attention.out.bias"],
            c["heads"],
        )
        hooks[f"attn_out.{i}"] = y
        x = x + y
        hooks[f"resid_mid.{i}"] = x
        y = norm(x, layer["norm2.weight"], layer["norm2.bias"]) @ layer["mlp.up.weight"].T + layer["mlp.up.bias"]
        y = torch.relu(y) @ layer["mlp.down.weight"].T + layer["mlp.down.bias"]
        hooks[f"mlp_out.{i}"] = y
        x = x + y
        hooks[f"resid_post.{i}"] = x
    return x @ p["decoder.weight"].T + p["decoder.bias"]


def loss_of(logits, tokens):
    log_p = logits - torch.logsumexp(logits, -1, keepdim=True)
    return -log_p.gather(-1, tokens[..., None]).mean()


def compute(parameters, input_bytes, c):
    """Every result of a fixture, from its inputs."""
    p = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in parameters.items()}
    mean = {name: torch.zeros_like(value) for name, value in p.items()}
    square = {name: torch.zeros_like(value) for name, value in p.items()}
    lr, (beta1, beta2), eps = ADAM["lr"], ADAM["betas"], ADAM["eps"]
    result, losses = {}, []
    for step, batch in enumerate(torch.tensor(input_bytes), 1):
        hooks = {}
        logits = forward(p, batch, c, hooks)
        loss = loss_of(logits, batch)
        grads = dict(zip(p, torch.autograd.grad(loss, list(p.values()))))
        losses.append(loss.item())
        if step == 1:
            result["logits"] = logits
            result.update({f"hook.{name}": value for name, value in hooks.items()})
            result.update({f"grad.{name}": value for name, value in grads.items()})
        with torch.no_grad():
            for name, grad in grads.items():
                mean[name] = beta1 * mean[name] + (1 - beta1) * grad
                square[name] = beta2 * square[name] + (1 - beta2) * grad * grad
                mean_hat = mean[name] / (1 - beta1**step)
                square_hat = square[name] / (1 - beta2**step)
                p[name] = (p[name] - lr * mean_hat / (torch.sqrt(square_hat) + eps)).requires_grad_()
    result.update({f"after.{name}": value for name, value in p.items()})
    result["train.loss"] = torch.tensor(losses, dtype=torch.float64)
    return {name: value.detach().contiguous().numpy().copy() for name, value in result.items()}


def write(folder, c):
    parameters, input_bytes = random_inputs(c)
    fixture.write_tensors(folder, parameters, {"input_bytes": input_bytes, **compute(parameters, input_bytes, c)})
    sizes = {key: c[key] for key in ("vocab", "hidden", "heads", "ffn", "seq", "layers", "batch")}
    note = (
        "step s trains on input_bytes[s]; qkv rows: q, then k, then v, each head by head; targets are the input bytes, "
        "inputs are shifted right by one with zeros at the first position; logits, hooks and gradients belong to step 0"
    )
    about = {"model_type": "byte_lm", "norm_eps": NORM_EPS, "activation": "relu", **sizes}
    about.update({"optimizer": ADAM, "steps": c["steps"], "seed": c["seed"], "note": note})
    (folder / "expected.json").write_text(json.dumps(about, indent=1) + "\n")
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"wrote {folder.name}: {size / 1000:.0f} kB")


def read(folder):
    folder = pathlib.Path(folder)
    about = json.loads((folder / "expected.json").read_text())
    return about, load_file(folder / "model.safetensors"), load_file(folder / "expected.safetensors")


def tolerance_of(name, about, tolerance):
    # Without rotary positions a key bias shifts all scores of a row alike: its true gradient is zero, and Adam turns the
    # rounding noise into steps of up to the learning rate. What the noise does to the key bias changes nothing else.
    if name.startswith("after.") and name.endswith("attention.qkv.bias"):
        key = slice(about["hidden"], 2 * about["hidden"])
        return key, about["steps"] * about["optimizer"]["lr"]
    return None, tolerance


def differences(expected, actual, about, tolerance):
    """Lines that say what differs, and the largest difference among results that agree (relative to each tensor's size)."""
    lines, largest = [], 0.0
    for name in sorted(set(expected) | set(actual)):
        if name not in expected or name not in actual:
            lines.append(f"{name}: only in the {'first' if name in expected else 'second'}")
            continue
        a, b = expected[name], actual[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            lines.append(f"{name}: {a.dtype} {a.shape} against {b.dtype} {b.shape}")
            continue
        if a.dtype != numpy.float64:
            if not numpy.array_equal(a, b):
                lines.append(f"{name}: not equal")
            continue
        difference = numpy.abs(a - b)
        loose, bound = tolerance_of(name, about, tolerance)
        if loose is not None:
            if not difference[loose].max() <= bound:
                lines.append(f"{name}: key part differs by {difference[loose].max():.3g}, more than {bound:.3g}")
            difference[loose] = 0.0
        relative = difference.max() / max(1e-3, numpy.abs(a).max())
        largest = max(largest, relative)
        if not relative <= tolerance:
            lines.append(f"{name}: differs by {relative:.3g} of its largest value, more than {tolerance:.3g}")
    return lines, largest


def report(title, lines, largest):
    for line in lines:
        print(f"  {line}")
    print(f"{title}: {'DIFFERENT' if lines else 'equal'}, largest difference {largest:.3g}")
    return not lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent)
    parser.add_argument("--compare", nargs=2, metavar=("OLD", "NEW"))
    parser.add_argument("--check", metavar="FOLDER")
    parser.add_argument("--tolerance", type=float, default=1e-12)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.compare:
        (about, model, expected), (about2, model2, expected2) = map(read, args.compare)
        lines, largest = differences(expected, expected2, about, args.tolerance)
        lines += [f"model {line}" for line in differences(model, model2, about, 0.0)[0]]
        lines += [] if about == about2 else ["expected.json: not equal"]
        sys.exit(not report(pathlib.Path(args.compare[0]).name, lines, largest))
    if args.check:
        about, model, expected = read(args.check)
        actual = {"input_bytes": expected["input_bytes"], **compute(model, expected["input_bytes"], about)}
        sys.exit(not report(pathlib.Path(args.check).name, *differences(expected, actual, about, args.tolerance)))
    for name, config in FIXTURES.items():
        write(args.out / name, config)


if __name__ == "__main__":
    main()
