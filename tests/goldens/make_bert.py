#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the committed numbers of BERT for masked-language modelling, in float64, from plain PyTorch operations.

  make_bert.py                 writes the fixture bert_tanh beside this script
  make_bert.py --out FOLDER    writes it somewhere else

A fixture is a folder of four files.
  config.json           as Hugging Face's BertForMaskedLM has it
  expected.json         optimizer, number of steps
  model.safetensors     the parameters before the first step, float32
  expected.safetensors  input_ids, attention_mask, labels [batch, seq] (int64; label -100: none); before any update logits,
                        hook.* and grad.*; then train.loss and train.grad_norm of every step and after.*, the parameters
                        after the last (all float64)

The tanh form of GELU, sizes that no vector width divides, rows padded at the end. Needs the environment that
bench/peers/setup makes; the project's tests need only the files.
"""

import argparse
import math
import pathlib

import fixture
import numpy
import torch

CONFIG = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "vocab_size": 53,
    "hidden_size": 18,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 37,
    "max_position_embeddings": 21,
    "type_vocab_size": 2,
    "hidden_act": "gelu_new",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "layer_norm_eps": 1e-12,
    "initializer_range": 0.02,
    "pad_token_id": 0,
    "tie_word_embeddings": True,
}
OPTIMIZER = {
    "name": "adamw",
    "lr": 1e-3,
    "betas": [0.9, 0.999],
    "eps": 1e-8,
    "weight_decay": 0.01,
    "clip_global_norm": 1.0,
    "no_decay": ["*bias", "*LayerNorm*"],
}
STEPS, BATCH, SEQ, LENGTHS, SEED = 3, 2, 19, (19, 12), 21


def shapes():
    hidden, ffn, vocab = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["vocab_size"]
    result = {}

    def linear(path, rows, columns):
        result[f"{path}.weight"] = (rows, columns)
        result[f"{path}.bias"] = (rows,)

    def norm(path):
        result[f"{path}.LayerNorm.weight"] = result[f"{path}.LayerNorm.bias"] = (hidden,)

    result["bert.embeddings.word_embeddings.weight"] = (vocab, hidden)
    result["bert.embeddings.position_embeddings.weight"] = (CONFIG["max_position_embeddings"], hidden)
    result["bert.embeddings.token_type_embeddings.weight"] = (CONFIG["type_vocab_size"], hidden)
    norm("bert.embeddings")
    for i in range(CONFIG["num_hidden_layers"]):
        layer = f"bert.encoder.layer.{i}"
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{part}", hidden, hidden)
        linear(f"{layer}.attention.output.dense", hidden, hidden)
        norm(f"{layer}.attention.output")
        linear(f"{layer}.intermediate.dense", ffn, hidden)
        linear(f"{layer}.output.dense", hidden, ffn)
        norm(f"{layer}.output")
    result["cls.predictions.bias"] = (vocab,)
    linear("cls.predictions.transform.dense", hidden, hidden)
    norm("cls.predictions.transform")
    return result


def random_inputs():
    rng = numpy.random.Generator(numpy.random.PCG64(SEED))
    parameters = {}
    for name, shape in shapes().items():
        scale = 1 / math.sqrt(shape[1]) if len(shape) == 2 and "embeddings" not in name else 0.3
        center = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        # Sums of uniforms are exact, so that every machine makes the same bits.
        noise = rng.random(shape) + rng.random(shape) + rng.random(shape) - 1.5
        parameters[name] = (center + 2 * scale * noise).astype(numpy.float32)
    ids = rng.integers(1, CONFIG["vocab_size"], (BATCH, SEQ))
    mask = (numpy.arange(SEQ) < numpy.array(LENGTHS)[:, None]).astype(numpy.int64)
    labels = numpy.where((rng.random((BATCH, SEQ)) < 0.4) & (mask == 1), rng.integers(0, CONFIG["vocab_size"], (BATCH, SEQ)), -100)
    return parameters, ids * mask, mask, labels


def forward(p, ids, mask, hooks):
    heads, hidden = CONFIG["num_attention_heads"], CONFIG["hidden_size"]

    def dense(path, x):
        return x @ p[f"{path}.weight"].T + p[f"{path}.bias"]

    def norm(path, x):
        centered = x - x.mean(-1, keepdim=True)
        scaled = centered / torch.sqrt((centered * centered).mean(-1, keepdim=True) + CONFIG["layer_norm_eps"])
        return scaled * p[f"{path}.LayerNorm.weight"] + p[f"{path}.LayerNorm.bias"]

    def gelu(x):
        return x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    def by_head(x):
        return x.view(BATCH, SEQ, heads, hidden // heads).transpose(1, 2)

    tables = "bert.embeddings.{}_embeddings.weight".format
    x = p[tables("word")][ids] + p[tables("token_type")][0] + p[tables("position")][:SEQ]
    x = hooks["embed"] = norm("bert.embeddings", x)
    unseen = torch.where(mask == 1, 0.0, -math.inf)[:, None, None, :]
    for i in range(CONFIG["num_hidden_layers"]):
        layer = f"bert.encoder.layer.{i}"
        hooks[f"resid_pre.{i}"] = x
        q, k, v = (by_head(dense(f"{layer}.attention.self.{part}", x)) for part in ("query", "key", "value"))
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(hidden // heads) + unseen, -1)
        mixed = (weights @ v).transpose(1, 2).reshape(BATCH, SEQ, hidden)
        y = hooks[f"attn_out.{i}"] = dense(f"{layer}.attention.output.dense", mixed)
        x = hooks[f"resid_mid.{i}"] = norm(f"{layer}.attention.output", x + y)
        y = hooks[f"mlp_out.{i}"] = dense(f"{layer}.output.dense", gelu(dense(f"{layer}.intermediate.dense", x)))
        x = hooks[f"resid_post.{i}"] = norm(f"{layer}.output", x + y)
    x = norm("cls.predictions.transform", gelu(dense("cls.predictions.transform.dense", x)))
    return x @ p[tables("word")].T + p["cls.predictions.bias"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    folder = parser.parse_args().out / "bert_tanh"
    parameters, ids, mask, labels = random_inputs()
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    results = fixture.compute(forward, fixture.mean_loss, parameters, batch, OPTIMIZER, STEPS)
    fixture.write(folder, CONFIG, parameters, batch, {"model_type": "bert", "optimizer": OPTIMIZER, "steps": STEPS}, results)


if __name__ == "__main__":
    main()
