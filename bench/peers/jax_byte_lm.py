#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains the byte LM in plain JAX, the whole step in one jit, and prints its speed.

--flash 1 takes jax.nn.dot_product_attention(is_causal=True), which has no fused kernel on CPUs; --flash 0 writes softmax out.
bfloat16 computes in bfloat16 from float32 parameters; norms, softmax and the loss are computed in float32. Random numbers for
dropout come from JAX's "rbg" generator by default, its faster one. There is no --compile 0: op by op, JAX is no peer.
"""

import math

import peer

parser = peer.options(__doc__, ("handcraft",), ("float32", "bfloat16"))
parser.add_argument("--prng", choices=("rbg", "threefry2x32"), default="rbg")


def init(args, key):
    """Parameters under the names of Espalier's checkpoints, with PyTorch's default distributions."""
    import jax
    import jax.numpy as jnp

    keys = iter(jax.random.split(key, 4 + 8 * args.num_layer))
    p = {
        "embedding.weight": jax.random.normal(next(keys), (peer.VOCAB, args.width)),
        "position.weight": jnp.zeros((args.seq_len, args.width)),
    }

    def linear(name, outputs, inputs):
        bound = 1 / math.sqrt(inputs)
        p[f"{name}.weight"] = jax.random.uniform(next(keys), (outputs, inputs), minval=-bound, maxval=bound)
        p[f"{name}.bias"] = jax.random.uniform(next(keys), (outputs,), minval=-bound, maxval=bound)

    for i in range(args.num_layer):
        for norm in ("norm1", "norm2"):
            p[f"layers.{i}.{norm}.weight"] = jnp.ones(args.width)
            p[f"layers.{i}.{norm}.bias"] = jnp.zeros(args.width)
        linear(f"layers.{i}.attention.qkv", 3 * args.width, args.width)
        linear(f"layers.{i}.attention.out", args.width, args.width)
        linear(f"layers.{i}.mlp.up", args.ffn, args.width)
        linear(f"layers.{i}.mlp.down", args.width, args.ffn)
    linear("decoder", peer.VOCAB, args.width)
    return p


def forward(args, p, tokens, key):
    """Logits in float32. Without a key there is no dropout."""
    import jax
    import jax.numpy as jnp

    compute = jnp.dtype(args.dtype)
    keys = None if key is None else iter(jax.random.split(key, 1 + 3 * args.num_layer))
    size = args.width // args.heads

    def dropout(x):
        if keys is None or args.dropout == 0:
            return x
        keep = jax.random.bernoulli(next(keys), 1 - args.dropout, x.shape)
        return jnp.where(keep, x / (1 - args.dropout), 0).astype(x.dtype)

    def linear(name, x):
        return x @ p[f"{name}.weight"].astype(compute).T + p[f"{name}.bias"].astype(compute)

    def norm(name, x):
        mean = x.mean(-1, keepdims=True)
        variance = jnp.square(x - mean).mean(-1, keepdims=True)
        y = (x - mean) * jax.lax.rsqrt(variance + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]
        return y.astype(compute)

    def attention(name, x):
        batch, seq, width = x.shape
        qkv = linear(f"{name}.qkv", x).reshape(batch, seq, 3, args.heads, size)
        q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        if args.flash:
            y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = jnp.einsum("bqhd,bkhd->bhqk", q * size**-0.5, k).astype(jnp.float32)
            causal = jnp.tril(jnp.ones((seq, seq), bool))
            weights = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf), -1).astype(compute)
            y = jnp.einsum("bhqk,bkhd->bqhd", weights, v)
        return linear(f"{name}.out", y.reshape(batch, seq, width))

    # The residual stream stays in float32, as under PyTorch's autocast.
    embedded = p["embedding.weight"][tokens]
    shifted = jnp.pad(embedded[:, :-1], ((0, 0), (1, 0), (0, 0)))
    x = dropout(shifted + p["position.weight"])
    for i in range(args.num_layer):
        name = f"layers.{i}"
        x = x + dropout(attention(f"{name}.attention", norm(f"{name}.norm1", x)))
        y = dropout(jax.nn.relu(linear(f"{name}.mlp.up", norm(f"{name}.norm2", x))))
        x = x + dropout(linear(f"{name}.mlp.down", y))
    return linear("decoder", x.astype(compute)).astype(jnp.float32)


def loss_of(args, p, tokens, key):
    import jax
    import jax.numpy as jnp

    log_p = jax.nn.log_softmax(forward(args, p, tokens, key))
    return -jnp.take_along_axis(log_p, tokens[..., None], -1).mean()


def main():
    args = parser.parse_args()
    if not args.compile:
        raise SystemExit("[options] the JAX peer has no --compile 0")
    peer.limit_threads(args.threads)

    import jax
    import jax.numpy as jnp

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_default_prng_impl", args.prng)

    def train_step(state, tokens):
        p, mean, square, key, count = state
        key, dropout_key = jax.random.split(key)
        count = count + 1
        loss, grads = jax.value_and_grad(lambda p: loss_of(args, p, tokens, dropout_key))(p)
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, grads)
        square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g * g, square, grads)
        mean_scale, square_scale = 1 / (1 - 0.9**count), 1 / (1 - 0.999**count)
        p = jax.tree.map(
            lambda p, m, s: p - args.lr * m * mean_scale / (jnp.sqrt(s * square_scale) + 1e-8), p, mean, square
        )
        return (p, mean, square, key, count), loss

    train_step = jax.jit(train_step, donate_argnums=0)
    key = jax.random.key(args.seed)
    parameters = jax.jit(lambda key: init(args, key))(key)
    zeros = lambda: jax.tree.map(jnp.zeros_like, parameters)
    state = (parameters, zeros(), zeros(), key, jnp.float32(0))

    def step(batch):
        nonlocal state
        state, loss = train_step(state, batch.astype("int32"))
        return float(jax.block_until_ready(loss))

    peer.print_result(args, "jax", jax.__version__, *peer.measure(args, step))


if __name__ == "__main__":
    main()
