#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains the byte LM in PyTorch and prints its speed.

--model handcraft  basic operations; --flash 1 takes F.scaled_dot_product_attention, --flash 0 writes softmax out
--model library    nn.TransformerEncoderLayer (norm_first, ReLU), which always calls scaled_dot_product_attention: --flash 0
                   restricts that to its unfused kernel. Its attention dropout is set to 0, as the specification has none
                   there; then its dropout places are the same. Its initial weights differ (Xavier for qkv, zero biases).

bfloat16 and float16 use torch.autocast with float32 parameters; float16 scales the loss by a fixed factor. The optimizer is
torch's fused Adam. --compile 1 compiles the model with its loss (torch.compile, empty cache); the optimizer stays as it is.
"""

import contextlib
import math
import os
import tempfile

import peer

parser = peer.options(__doc__, ("handcraft", "library"), ("float32", "bfloat16", "float16"))

FLOAT16_LOSS_SCALE = 1024.0


def build(args):
    """The model; parameters of the handcraft variant have the names of Espalier's checkpoints."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(args.width, 3 * args.width)
            self.out = nn.Linear(args.width, args.width)
            later = torch.full((args.seq_len, args.seq_len), -math.inf).triu(1)
            self.register_buffer("later", later, persistent=False)

        def forward(self, x):
            batch, seq, width = x.shape
            size = width // args.heads
            q, k, v = self.qkv(x).view(batch, seq, 3, args.heads, size).permute(2, 0, 3, 1, 4)
            if args.flash:
                y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            else:
                scores = torch.matmul(q * size**-0.5, k.transpose(-1, -2)) + self.later
                y = torch.matmul(torch.softmax(scores, -1), v)
            return self.out(y.transpose(1, 2).reshape(batch, seq, width))

    class Mlp(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.Linear(args.width, args.ffn)
            self.down = nn.Linear(args.ffn, args.width)
            self.dropout = nn.Dropout(args.dropout)

        def forward(self, x):
            return self.down(self.dropout(F.relu(self.up(x))))

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1 = nn.LayerNorm(args.width)
            self.attention = Attention()
            self.norm2 = nn.LayerNorm(args.width)
            self.mlp = Mlp()
            self.dropout = nn.Dropout(args.dropout)

        def forward(self, x):
            x = x + self.dropout(self.attention(self.norm1(x)))
            return x + self.dropout(self.mlp(self.norm2(x)))

    class LibraryLayer(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(
                args.width, args.heads, args.ffn, args.dropout, "relu", norm_first=True, batch_first=True
            )
            self.layer.self_attn.dropout = 0.0
            mask = nn.Transformer.generate_square_subsequent_mask(args.seq_len)
            self.register_buffer("later", mask, persistent=False)

        def forward(self, x):
            seq = x.shape[1]
            return self.layer(x, src_mask=self.later[:seq, :seq], is_causal=True)

    class ByteLm(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(peer.VOCAB, args.width)
            self.position = nn.Embedding(args.seq_len, args.width)
            nn.init.zeros_(self.position.weight)
            self.dropout = nn.Dropout(args.dropout)
            layer = Layer if args.model == "handcraft" else LibraryLayer
            self.layers = nn.ModuleList(layer() for _ in range(args.num_layer))
            self.decoder = nn.Linear(args.width, peer.VOCAB)

        def forward(self, tokens):
            # The first place gets a zero vector, not the vector of byte 0.
            shifted = F.pad(self.embedding(tokens)[:, :-1], (0, 0, 1, 0))
            x = self.dropout(shifted + self.position.weight)
            for layer in self.layers:
                x = layer(x)
            return self.decoder(x)

        def loss(self, tokens):
            logits = self(tokens).float()
            return F.cross_entropy(logits.view(-1, logits.shape[-1]), tokens.view(-1))

    return ByteLm()


def library_state(state):
    """Parameters under Espalier's names, renamed for the library variant."""
    names = {
        "attention.qkv.weight": "self_attn.in_proj_weight",
        "attention.qkv.bias": "self_attn.in_proj_bias",
        "attention.out.": "self_attn.out_proj.",
        "mlp.up.": "linear1.",
        "mlp.down.": "linear2.",
    }
    result = {}
    for name, value in state.items():
        if name.startswith("layers."):
            _, index, rest = name.split(".", 2)
            for ours, theirs in names.items():
                rest = rest.replace(ours, theirs)
            name = f"layers.{index}.layer.{rest}"
        result[name] = value
    return result


def precision(args):
    import torch

    if args.dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast("cpu", dtype=getattr(torch, args.dtype))


def main():
    args = parser.parse_args()
    peer.limit_threads(args.threads)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        run(args)


def run(args):
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = build(args)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, betas=(0.9, 0.999), eps=1e-8, fused=True)
    scale = FLOAT16_LOSS_SCALE if args.dtype == "float16" else 1.0

    def loss_of(tokens):
        with precision(args):
            return model.loss(tokens)

    if args.compile:
        loss_of = torch.compile(loss_of)

    def step(batch):
        loss = loss_of(torch.from_numpy(batch))
        (loss * scale if scale != 1.0 else loss).backward()
        if scale != 1.0:
            torch._foreach_mul_([p.grad for p in model.parameters()], 1 / scale)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    kernels = contextlib.nullcontext()
    if args.model == "library" and not args.flash:
        kernels = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with kernels:
        measured = peer.measure(args, step)
    peer.print_result(args, "torch", torch.__version__, *measured)


if __name__ == "__main__":
    main()
