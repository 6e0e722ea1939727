#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads activations of Qwen2 with PyTorch and transformers, and prints the speed.

The model is transformers' Qwen2Model (no head) with "sdpa" attention, in the type of the arithmetic. --store 1 asks it for all
hidden states and writes those after --layers to a safetensors file a batch; the last of them is after the final norm, as
transformers has it. --compile 1 uses torch.compile with an empty cache.
"""

import os
import pathlib
import tempfile

import extract_peer
import peer

parser = extract_peer.options(__doc__, ("transformers",))


def build(args):
    import torch
    from transformers import AutoModel

    dtype = getattr(torch, args.dtype)
    if args.folder:
        model = AutoModel.from_pretrained(args.folder, dtype=dtype, attn_implementation="sdpa")
    else:
        torch.set_default_dtype(dtype)
        model = AutoModel.from_config(extract_peer.config_of(args), attn_implementation="sdpa")
        torch.set_default_dtype(torch.float32)
    return model.eval()


def states_of(model, args):
    """ids -> the residual stream after each of --layers with --store 1, else nothing but the last output."""

    def states(ids):
        out = model(input_ids=ids, use_cache=False, output_hidden_states=bool(args.store))
        return [out.hidden_states[layer + 1] for layer in args.layers] if args.store else [out.last_hidden_state]

    return states


def main():
    args = parser.parse_args()
    peer.limit_threads(args.threads)
    with tempfile.TemporaryDirectory() as work:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = work
        run(args, pathlib.Path(work))


def run(args, work):
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = build(args)
    states = states_of(model, args)
    if args.compile:
        states = torch.compile(states)
    written = 0

    def read(ids, index):
        nonlocal written
        with torch.inference_mode():
            found = states(torch.from_numpy(ids))
        if not args.store:
            return
        file = work / f"batch-{index}.safetensors"
        save_file({f"resid_post.{layer}": s.contiguous() for layer, s in zip(args.layers, found)}, file)
        written += file.stat().st_size
        file.unlink()

    extract_peer.run(args, "torch", torch.__version__, model.config, read, lambda: written)


if __name__ == "__main__":
    main()
