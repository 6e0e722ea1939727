#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the committed numbers of Qwen2 for causal language modelling, in float64, from plain PyTorch operations.

  make_qwen2.py                 writes the fixtures qwen2_grouped and qwen2_tied beside this script
  make_qwen2.py --out FOLDER    writes them somewhere else

A fixture is a folder of the four files that make_bert.py describes; labels are those of the positions themselves, and the
loss compares each with the logits one position before. qwen2_grouped has three query heads to a key head, a head of its own
and padded rows; qwen2_tied has one key head to each query head and uses the embedding as its head. Needs the environment that
bench/peers/setup makes; the project's tests need only the files.
"""

import argparse
import math
import pathlib

import fixture
import numpy
import torch

OPTIMIZER = {
    "name": "adamw",
    "lr": 1e-3,
    "betas": [0.9, 0.999],
    "eps": 1e-8,
    "weight_decay": 0.01,
    "clip_global_norm": 1.0,
    "no_decay": ["*bias", "*norm*"],
}
COMMON = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_act": "silu",
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "initializer_range": 0.02,
    "attention_dropout": 0.0,
    "use_sliding_window": False,
    "num_hidden_layers": 2,
}
FIXTURES = {
    "qwen2_grouped": (
        {"vocab_size": 61, "hidden_size": 36, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 45,
         "rope_theta": 10000.0, "tie_word_embeddings": False},
        {"batch": 2, "lengths": (23, 14), "seed": 31},
    ),
    "qwen2_tied": (
        {"vocab_size": 47, "hidden_size": 20, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 33,
         "rope_theta": 1000000.0, "tie_word_embeddings": True},
        {"batch": 3, "lengths": (17, 17, 5), "seed": 32},
    ),
}
STEPS = 3


def shapes(config):
    hidden, ffn, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head = hidden // config["num_attention_heads"]
    shared = config["num_key_value_heads"] * head
    result = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,)}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        for part, rows in (("q", hidden), ("k", shared), ("v", shared)):
            result[f"{layer}.self_attn.{part}_proj.weight"] = (rows, hidden)
            result[f"{layer}.self_attn.{part}_proj.bias"] = (rows,)
        result[f"{layer}.self_attn.o_proj.weight"] = (hidden, hidden)
        result[f"{layer}.mlp.gate_proj.weight"] = result[f"{layer}.mlp.up_proj.weight"] = (ffn, hidden)
        result[f"{layer}.mlp.down_proj.weight"] = (hidden, ffn)
        result[f"{layer}.input_layernorm.weight"] = result[f"{layer}.post_attention_layernorm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        result["lm_head.weight"] = (vocab, hidden)
    return result


def random_inputs(config, sizes):
    rng = numpy.random.Generator(numpy.random.PCG64(sizes["seed"]))
    parameters = {}
    for name, shape in shapes(config).items():
        scale = 1 / math.sqrt(shape[1]) if len(shape) == 2 else 0.3
        center = 1.0 if "norm" in name else 0.0
        # Sums of uniforms are exact, so that every machine makes the same bits.
        noise = rng.random(shape) + rng.random(shape) + rng.random(shape) - 1.5
        parameters[name] = (center + 2 * scale * noise).astype(numpy.float32)
    lengths = numpy.array(sizes["lengths"])
    shape = (sizes["batch"], max(lengths))
    mask = (numpy.arange(shape[1]) < lengths[:, None]).astype(numpy.int64)
    ids = rng.integers(1, config["vocab_size"], shape) * mask
    labels = numpy.where((rng.random(shape) < 0.8) & (mask == 1), ids, -100)
    return parameters, {"input_ids": ids, "attention_mask": mask, "labels": labels}


def make_forward(config):
    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
    head = config["hidden_size"] // heads

    def forward(p, ids, mask, hooks):
        batch, seq = ids.shape

        def norm(path, x):
            return x / torch.sqrt((x * x).mean(-1, keepdim=True) + config["rms_norm_eps"]) * p[f"{path}.weight"]

        def by_head(x, count):
            return x.view(batch, seq, count, head).transpose(1, 2)

        turns = torch.arange(seq, dtype=torch.float64)[:, None] * config["rope_theta"] ** (
            -torch.arange(0, head, 2, dtype=torch.float64) / head
        )
        turn = torch.polar(torch.ones_like(turns), turns)

        def rotate(x):
            low, high = x.chunk(2, -1)
            turned = torch.complex(low, high) * turn
            return torch.cat((turned.real, turned.imag), -1)

        hidden = torch.full((seq, seq), -math.inf, dtype=torch.float64).triu(1)
        hidden = hidden + torch.where(mask == 1, 0.0, -math.inf)[:, None, None, :]
        x = hooks["embed"] = p["model.embed_tokens.weight"][ids]
        for i in range(config["num_hidden_layers"]):
            layer = f"model.layers.{i}"
            hooks[f"resid_pre.{i}"] = x
            y = norm(f"{layer}.input_layernorm", x)
            q, k, v = (y @ p[f"{layer}.self_attn.{n}_proj.weight"].T + p[f"{layer}.self_attn.{n}_proj.bias"] for n in "qkv")
            q, k = rotate(by_head(q, heads)), rotate(by_head(k, shared))
            k, v = (t.repeat_interleave(heads // shared, 1) for t in (k, by_head(v, shared)))
            mixed = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(head) + hidden, -1) @ v
            mixed = mixed.transpose(1, 2).reshape(batch, seq, heads * head)
            y = hooks[f"attn_out.{i}"] = mixed @ p[f"{layer}.self_attn.o_proj.weight"].T
            x = hooks[f"resid_mid.{i}"] = x + y
            y = norm(f"{layer}.post_attention_layernorm", x)
            gate, up = (y @ p[f"{layer}.mlp.{n}_proj.weight"].T for n in ("gate", "up"))
            y = hooks[f"mlp_out.{i}"] = (gate * torch.sigmoid(gate) * up) @ p[f"{layer}.mlp.down_proj.weight"].T
            x = hooks[f"resid_post.{i}"] = x + y
        x = hooks["final_norm"] = norm("model.norm", x)
        return x @ p["model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"].T

    return forward


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    out = parser.parse_args().out
    about = {"model_type": "qwen2", "arithmetic": "float64", "optimizer": OPTIMIZER, "steps": STEPS}
    for name, (sizes, inputs) in FIXTURES.items():
        config = {**COMMON, **sizes}
        parameters, batch = random_inputs(config, inputs)
        shifted = lambda logits, labels: fixture.mean_loss(logits[:, :-1], labels[:, 1:])
        results = fixture.compute(make_forward(config), shifted, parameters, batch, OPTIMIZER, STEPS)
        fixture.write(out / name, config, parameters, batch, about, results)


if __name__ == "__main__":
    main()
