#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains BERT for masked-language modelling with Equinox and optax, and prints its speed.

--model filter_jit  model and optimizer state go through eqx.filter_jit, the usual way
--model manual      arrays are split off once with eqx.partition, and the step is a plain jax.jit

The head works on labelled positions only, so the peer does the same work as Espalier. --attention fused takes
jax.nn.dot_product_attention, which has no kernel of its own on CPUs and no dropout; with --dropout it needs --attention eager.
bfloat16 computes in bfloat16 from float32 parameters; norms, softmax and the loss are computed in float32.
"""

import bert_peer
import peer

parser = bert_peer.options(__doc__, ("filter_jit", "manual"))


def build(args, key):
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    compute = jnp.dtype(args.dtype)
    heads = max(1, args.hidden // 64)
    size = args.hidden // heads

    def dropout(x, key):
        if args.dropout == 0:
            return x
        keep = jax.random.bernoulli(key, 1 - args.dropout, x.shape)
        return jnp.where(keep, x / (1 - args.dropout), 0).astype(x.dtype)

    class Linear(eqx.Module):
        weight: jax.Array
        bias: jax.Array

        def __init__(self, inputs, outputs, key):
            self.weight = 0.02 * jax.random.normal(key, (outputs, inputs))
            self.bias = jnp.zeros(outputs)

        def __call__(self, x):
            return x.astype(compute) @ self.weight.astype(compute).T + self.bias.astype(compute)

    class Norm(eqx.Module):
        weight: jax.Array
        bias: jax.Array

        def __init__(self):
            self.weight = jnp.ones(args.hidden)
            self.bias = jnp.zeros(args.hidden)

        def __call__(self, x):
            x = x.astype(jnp.float32)
            mean = x.mean(-1, keepdims=True)
            variance = jnp.square(x - mean).mean(-1, keepdims=True)
            return (x - mean) * jax.lax.rsqrt(variance + 1e-12) * self.weight + self.bias

    class Layer(eqx.Module):
        query: Linear
        key: Linear
        value: Linear
        output: Linear
        output_norm: Norm
        up: Linear
        down: Linear
        down_norm: Norm

        def __init__(self, key):
            keys = jax.random.split(key, 6)
            square = [Linear(args.hidden, args.hidden, k) for k in keys[:4]]
            self.query, self.key, self.value, self.output = square
            self.up = Linear(args.hidden, 4 * args.hidden, keys[4])
            self.down = Linear(4 * args.hidden, args.hidden, keys[5])
            self.output_norm, self.down_norm = Norm(), Norm()

        def attend(self, x, key):
            by_head = (*x.shape[:2], heads, size)
            q, k, v = (linear(x).reshape(by_head) for linear in (self.query, self.key, self.value))
            if args.attention == "fused":
                return jax.nn.dot_product_attention(q, k, v).reshape(x.shape)
            scores = jnp.einsum("bqhd,bkhd->bhqk", q * size**-0.5, k).astype(jnp.float32)
            weights = dropout(jax.nn.softmax(scores, -1), key).astype(compute)
            return jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape)

        def __call__(self, x, key):
            keys = jax.random.split(key, 3)
            mixed = self.output(self.attend(x, keys[0]))
            x = self.output_norm(x + dropout(mixed, keys[1]))
            inner = jax.nn.gelu(self.up(x), approximate=False)
            return self.down_norm(x + dropout(self.down(inner), keys[2]))

    class Bert(eqx.Module):
        words: jax.Array
        positions: jax.Array
        types: jax.Array
        norm: Norm
        layers: list
        transform: Linear
        transform_norm: Norm
        bias: jax.Array

        def __init__(self, key):
            keys = jax.random.split(key, 4 + args.layers)
            self.words = 0.02 * jax.random.normal(keys[0], (bert_peer.VOCAB, args.hidden))
            self.positions = 0.02 * jax.random.normal(keys[1], (max(512, args.seq), args.hidden))
            self.types = 0.02 * jax.random.normal(keys[2], (2, args.hidden))
            self.transform = Linear(args.hidden, args.hidden, keys[3])
            self.layers = [Layer(k) for k in keys[4:]]
            self.norm, self.transform_norm = Norm(), Norm()
            self.bias = jnp.zeros(bert_peer.VOCAB)

        def loss(self, ids, rows, labels, key):
            keys = jax.random.split(key, 1 + args.layers)
            x = self.norm(self.words[ids] + self.positions[: args.seq] + self.types[0])
            x = dropout(x, keys[0])
            for layer, k in zip(self.layers, keys[1:]):
                x = layer(x, k)
            x = x.reshape(-1, args.hidden)[rows]
            x = self.transform_norm(jax.nn.gelu(self.transform(x), approximate=False))
            logits = x.astype(compute) @ self.words.astype(compute).T + self.bias.astype(compute)
            log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
            return -jnp.take_along_axis(log_p, labels[:, None], -1).mean()

    return Bert(key)


def main():
    args = parser.parse_args()
    if not args.compile:
        raise SystemExit("[options] the Equinox peer has no --compile 0")
    if args.dropout and args.attention == "fused":
        raise SystemExit("[options] jax.nn.dot_product_attention has no dropout; take --attention eager")
    peer.limit_threads(args.threads)

    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_default_prng_impl", "rbg")
    schedule = optax.warmup_cosine_decay_schedule(0.0, bert_peer.PEAK_RATE, bert_peer.WARMUP, bert_peer.TOTAL)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.01))
    model = eqx.filter_jit(lambda key: build(args, key))(jax.random.key(args.seed))
    arrays, static = eqx.partition(model, eqx.is_inexact_array)
    state = optimizer.init(arrays)

    def update(model, state, ids, rows, labels, key):
        loss, grads = eqx.filter_value_and_grad(lambda m: m.loss(ids, rows, labels, key))(model)
        updates, state = optimizer.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state, loss

    if args.model == "filter_jit":
        step_of = eqx.filter_jit(update, donate="all")
        carried = model
    else:

        def split(arrays, state, ids, rows, labels, key):
            model, state, loss = update(eqx.combine(arrays, static), state, ids, rows, labels, key)
            return eqx.filter(model, eqx.is_inexact_array), state, loss

        step_of = jax.jit(split, donate_argnums=(0, 1))
        carried = arrays

    key = jax.random.key(args.seed)

    def step(batch):
        nonlocal carried, state, key
        key, now = jax.random.split(key)
        ids, rows, labels = (jnp.asarray(part, "int32") for part in batch)
        carried, state, loss = step_of(carried, state, ids, rows, labels, now)
        return float(jax.block_until_ready(loss))

    bert_peer.run(args, "equinox", f"{eqx.__version__}, jax {jax.__version__}", step)


if __name__ == "__main__":
    main()
