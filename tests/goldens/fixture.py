# SPDX-License-Identifier: Apache-2.0
"""What the scripts that make token models' numbers share: AdamW steps in float64, and the files of a folder."""

import fnmatch
import json
import math

import numpy
import torch
from safetensors.numpy import save_file


def mean_loss(logits, labels):
    """Cross-entropy over the positions whose label is not negative."""
    chosen = labels >= 0
    rows = logits[chosen]
    return (torch.logsumexp(rows, -1) - rows.gather(-1, labels[chosen][:, None])[:, 0]).mean()


def compute(forward, loss_of, parameters, batch, optimizer, steps):
    """forward(parameters, ids, mask, hooks) -> logits; loss_of(logits, labels) -> scalar."""
    p = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in parameters.items()}
    mean = {name: torch.zeros_like(value) for name, value in p.items()}
    square = {name: torch.zeros_like(value) for name, value in p.items()}
    lr, (beta1, beta2), eps = optimizer["lr"], optimizer["betas"], optimizer["eps"]
    ids, mask, labels = (torch.tensor(batch[name]) for name in ("input_ids", "attention_mask", "labels"))
    result, losses, norms = {}, [], []
    for step in range(1, steps + 1):
        hooks = {}
        logits = forward(p, ids, mask, hooks)
        loss = loss_of(logits, labels)
        grads = dict(zip(p, torch.autograd.grad(loss, list(p.values()))))
        norm = math.sqrt(sum((g * g).sum().item() for g in grads.values()))
        losses.append(loss.item())
        norms.append(norm)
        if step == 1:
            result["logits"] = logits
            result.update({f"hook.{name}": value for name, value in hooks.items()})
            result.update({f"grad.{name}": value for name, value in grads.items()})
        clip = min(1.0, optimizer["clip_global_norm"] / (norm + 1e-6))
        with torch.no_grad():
            for name, value in p.items():
                g = grads[name] * clip
                mean[name] = beta1 * mean[name] + (1 - beta1) * g
                square[name] = beta2 * square[name] + (1 - beta2) * g * g
                update = mean[name] / (1 - beta1**step) / (torch.sqrt(square[name] / (1 - beta2**step)) + eps)
                if not any(fnmatch.fnmatchcase(name, glob) for glob in optimizer["no_decay"]):
                    update = update + optimizer["weight_decay"] * value
                value -= lr * update
    result.update({f"after.{name}": value for name, value in p.items()})
    result["train.loss"] = torch.tensor(losses, dtype=torch.float64)
    result["train.grad_norm"] = torch.tensor(norms, dtype=torch.float64)
    return {name: numpy.ascontiguousarray(value.detach().numpy()) for name, value in result.items()}


def write_tensors(folder, parameters, results):
    """model.safetensors and expected.safetensors of a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tensors in (("model", parameters), ("expected", results)):
        file = folder / f"{name}.safetensors"
        save_file(tensors, file)
        file.chmod(0o644)  # safetensors writes files that only their owner can read


def write(folder, config, parameters, batch, about, results):
    write_tensors(folder, parameters, {**batch, **results})
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "expected.json").write_text(json.dumps(about, indent=1) + "\n")
    print(f"{folder}: {len(results)} results, loss {results['train.loss'][0]:.6f} to {results['train.loss'][-1]:.6f}")
