#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains BERT for masked-language modelling with PyTorch and transformers, and prints its speed.

The model is transformers' BertForMaskedLM, which computes logits at all positions. --attention fused takes its "sdpa", eager its
"eager". --compile 1 compiles the model with its loss (torch.compile, empty cache); the optimizer is torch's fused AdamW after
clip_grad_norm_. bfloat16 uses torch.autocast with float32 parameters.
"""

import contextlib
import os
import tempfile

import bert_peer
import peer

parser = bert_peer.options(__doc__, ("transformers",))


def build(args):
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=bert_peer.VOCAB,
        hidden_size=args.hidden,
        num_hidden_layers=args.layers,
        num_attention_heads=max(1, args.hidden // 64),
        intermediate_size=4 * args.hidden,
        max_position_embeddings=max(512, args.seq),
        hidden_dropout_prob=args.dropout,
        attention_probs_dropout_prob=args.dropout,
        attn_implementation="sdpa" if args.attention == "fused" else "eager",
    )
    return BertForMaskedLM(config).train()


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
    optimizer = torch.optim.AdamW(model.parameters(), lr=bert_peer.PEAK_RATE, eps=1e-8, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, bert_peer.rate)

    def loss_of(ids, labels):
        precision = contextlib.nullcontext()
        if args.dtype != "float32":
            precision = torch.autocast("cpu", dtype=getattr(torch, args.dtype))
        with precision:
            return model(input_ids=ids, labels=labels).loss

    if args.compile:
        loss_of = torch.compile(loss_of)

    def step(batch):
        ids, rows, labels = (torch.from_numpy(part) for part in batch)
        everywhere = torch.full((args.batch * args.seq,), -100)
        everywhere[rows] = labels
        loss = loss_of(ids, everywhere.view(args.batch, args.seq))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        return loss.item()

    bert_peer.run(args, "torch", torch.__version__, step)


if __name__ == "__main__":
    main()
