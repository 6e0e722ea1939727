#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads activations of Qwen2 the way JAX programs for it usually do, and prints the speed.

One jitted function runs the whole model, final norm included, on rows of one length and returns the residual stream after each
layer. Weights are float32 NumPy arrays that every call takes in; scores are whole [seq, seq] matrices in float32. --store 1 fetches
the activations layer by layer, files them as one dictionary a sample and layer, padding and all, and pickles a shard whenever
--shard-mb have come together, through gzip at level 9, all in the thread that computes.
"""

import functools
import gzip
import os
import pathlib
import pickle
import tempfile

import extract_peer
import peer

parser = extract_peer.options(__doc__, ("pickle+gzip",))
parser.add_argument("--shard-mb", type=float, default=40.0, help="so small that every batch pays for its part")


def random_weights(args, config):
    import numpy

    rng = numpy.random.default_rng(args.seed)
    width, ffn = config.hidden_size, config.intermediate_size
    shared = width // config.num_attention_heads * config.num_key_value_heads

    def normal(*shape):
        return rng.standard_normal(shape, dtype=numpy.float32) * numpy.float32(0.02)

    weights = {"embed_tokens.weight": normal(config.vocab_size, width), "norm.weight": numpy.ones(width, "float32")}
    for i in range(config.num_hidden_layers):
        at = f"layers.{i}."
        for name, size in (("q", width), ("k", shared), ("v", shared)):
            weights[f"{at}self_attn.{name}_proj.weight"] = normal(size, width)
            weights[f"{at}self_attn.{name}_proj.bias"] = numpy.zeros(size, "float32")
        weights[at + "self_attn.o_proj.weight"] = normal(width, width)
        weights[at + "mlp.gate_proj.weight"] = normal(ffn, width)
        weights[at + "mlp.up_proj.weight"] = normal(ffn, width)
        weights[at + "mlp.down_proj.weight"] = normal(width, ffn)
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{at}{name}.weight"] = numpy.ones(width, "float32")
    return weights


def load_weights(folder):
    """All tensors in float32 under the names of the bare decoder, without the head."""
    import torch
    from safetensors.torch import load_file

    weights = {}
    for file in sorted(folder.glob("*.safetensors")):
        for name, value in load_file(file).items():
            if name != "lm_head.weight":
                weights[name.removeprefix("model.")] = value.to(torch.float32).numpy()
    return weights


def forward(weights, ids, config, compute):
    """-> (the residual stream after each layer, the final norm)."""
    import jax
    import jax.numpy as jnp

    compute = jnp.dtype(compute)
    heads, kv_heads = config["heads"], config["kv_heads"]
    batch, seq = ids.shape
    size = config["hidden"] // heads

    def norm(x, name):
        x = x.astype(jnp.float32)
        x = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + config["eps"])
        return (x * weights[name]).astype(compute)

    def linear(x, name):
        y = x @ weights[name + ".weight"].astype(compute).T
        return y + weights[name + ".bias"].astype(compute) if name + ".bias" in weights else y

    frequencies = config["theta"] ** (-jnp.arange(0, size, 2, dtype=jnp.float32) / size)
    angles = jnp.arange(seq, dtype=jnp.float32)[:, None] * frequencies
    cos, sin = (jnp.concatenate([f(angles)] * 2, -1)[:, None, :] for f in (jnp.cos, jnp.sin))

    def rotated(x):
        x = x.astype(jnp.float32)
        low, high = jnp.split(x, 2, -1)
        return x * cos + jnp.concatenate([-high, low], -1) * sin

    mask = jnp.where(jnp.tril(jnp.ones((seq, seq), bool)), 0.0, -1e9)
    x = weights["embed_tokens.weight"].astype(compute)[ids]
    residual = []
    for i in range(config["layers"]):
        at = f"layers.{i}."
        y = norm(x, at + "input_layernorm.weight")
        q = rotated(linear(y, at + "self_attn.q_proj").reshape(batch, seq, heads, size))
        k = rotated(linear(y, at + "self_attn.k_proj").reshape(batch, seq, kv_heads, size))
        v = linear(y, at + "self_attn.v_proj").reshape(batch, seq, kv_heads, size)
        k, v = (jnp.repeat(part, heads // kv_heads, axis=2) for part in (k, v))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * size**-0.5 + mask
        probabilities = jax.nn.softmax(scores, -1).astype(compute)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", probabilities, v).reshape(batch, seq, -1)
        x = x + linear(mixed, at + "self_attn.o_proj")
        y = norm(x, at + "post_attention_layernorm.weight")
        gated = jax.nn.silu(linear(y, at + "mlp.gate_proj")) * linear(y, at + "mlp.up_proj")
        x = x + linear(gated, at + "mlp.down_proj")
        residual.append(x)
    return residual, norm(x, "norm.weight")


def sizes_of(config):
    rope = getattr(config, "rope_theta", None) or config.rope_parameters["rope_theta"]
    return {
        "layers": config.num_hidden_layers,
        "hidden": config.hidden_size,
        "heads": config.num_attention_heads,
        "kv_heads": config.num_key_value_heads,
        "theta": rope,
        "eps": config.rms_norm_eps,
    }


class Shards:
    """Buffers {layer: [sample, ...]} and writes them when they are large enough."""

    def __init__(self, folder, limit, written=pathlib.Path.unlink):
        self.folder, self.limit, self.after = folder, limit, written
        self.buffer, self.bytes, self.count, self.written = {}, 0, 0, 0

    def add(self, layer, sample, activation):
        entry = {"sample_idx": sample, "activation": activation, "shape": activation.shape, "text_preview": f"Task: {sample}"}
        self.buffer.setdefault(layer, []).append(entry)
        self.bytes += activation.nbytes
        if self.bytes >= self.limit:
            self.flush()

    def flush(self):
        self.count += 1
        file = self.folder / f"shard_{self.count:04d}.pkl.gz"
        with gzip.open(file, "wb", compresslevel=9) as out:
            pickle.dump(self.buffer, out, protocol=4)
        self.written += file.stat().st_size
        self.after(file)
        self.buffer, self.bytes = {}, 0


def main():
    args = parser.parse_args()
    args.compile = 1  # jax.jit
    peer.limit_threads(args.threads)
    with tempfile.TemporaryDirectory() as work:
        run(args, pathlib.Path(work))


def run(args, work):
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax
    import numpy

    config = extract_peer.config_of(args)
    weights = load_weights(args.folder) if args.folder else random_weights(args, config)
    step = jax.jit(functools.partial(forward, config=sizes_of(config), compute=args.dtype))
    shards = Shards(work, args.shard_mb * 1e6)

    def read(ids, index):
        residual, _ = jax.block_until_ready(step(weights, ids.astype("int32")))
        if not args.store:
            return
        for layer in args.layers:
            values = numpy.asarray(jax.device_get(residual[layer]))
            for row in range(args.batch):
                shards.add(layer, index * args.batch + row, values[row])

    extract_peer.run(args, "jax", jax.__version__, config, read, lambda: shards.written)


if __name__ == "__main__":
    main()
