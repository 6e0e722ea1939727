#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The checks of tools/test-peers, one subcommand each. The last line printed says what was found."""

import argparse
import csv
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy
from safetensors.numpy import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "goldens"))

# The size of the run that tools/test-peers trains.
RUN = dict(layers=1, hidden=64, heads=2, ffn=128, seq=64, vocab=256)


def need(condition, text):
    if not condition:
        sys.exit(text)


def peer_args(module, sizes, *options):
    names = {"layers": "num_layer", "hidden": "width", "heads": "heads", "ffn": "ffn", "seq": "seq_len"}
    argv = [text for key, option in names.items() for text in (f"--{option}", str(sizes[key]))]
    return module.parser.parse_args([*argv, "--dropout", "0", *options])


def torch_model(sizes, parameters, *options):
    import torch
    import torch_byte_lm

    args = peer_args(torch_byte_lm, sizes, *options)
    model = torch_byte_lm.build(args)
    state = {name: torch.from_numpy(value) for name, value in parameters.items()}
    model.load_state_dict(torch_byte_lm.library_state(state) if args.model == "library" else state)
    return model.double()


def read_golden(folder):
    about = json.loads((folder / "expected.json").read_text())
    return about, load_file(folder / "model.safetensors"), load_file(folder / "expected.safetensors")


def check_golden(args):
    """A committed fixture of token models is what its script makes."""
    import make_byte_lm

    (about, model, expected), (about2, model2, expected2) = map(make_byte_lm.read, (args.folder, args.made))
    for results in (expected, expected2):
        for name in list(results):
            # Without rotary positions the true gradient of a key's bias is zero, and Adam moves it by rounding noise.
            if name.startswith("after.") and name.endswith("self.key.bias"):
                del results[name]
    lines, largest = make_byte_lm.differences(expected, expected2, about, 1e-12)
    lines += make_byte_lm.differences(model, model2, about, 0.0)[0] + ([] if about == about2 else ["expected.json differs"])
    need(not lines, "\n".join(lines))
    print(f"equal, largest difference {largest:.3g}")


def relative(actual, expected):
    return float(numpy.abs(actual - expected).max() / numpy.abs(expected).max())


def largest_of(errors):
    """NaN when any is, where max() would depend on their order."""
    return float(numpy.max(list(errors)))


def check_torch(args):
    """The benchmark's models in double against the goldens: logits, loss, and gradients where names are ours."""
    import torch

    about, parameters, expected = read_golden(args.folder)
    tokens = torch.from_numpy(expected["input_bytes"][0])
    largest = 0.0
    for model_name in ("handcraft", "library"):
        for flash in ("0", "1"):
            model = torch_model(about, parameters, "--model", model_name, "--flash", flash)
            error = relative(model(tokens).detach().numpy(), expected["logits"])
            # loss() rounds the logits to float32, as training does.
            loss = torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
            loss.backward()
            errors = [error, abs(loss.item() - expected["train.loss"][0])]
            if model_name == "handcraft":
                for name, parameter in model.named_parameters():
                    errors.append(numpy.abs(parameter.grad.numpy() - expected[f"grad.{name}"]).max())
            error = largest_of(errors)
            need(error < 1e-10, f"torch {model_name} flash {flash} differs by {error:.3g}")
            largest = max(largest, error)
    print(f"largest difference {largest:.3g}")


def check_jax(args):
    import jax

    import jax_byte_lm

    jax.config.update("jax_platforms", "cpu")
    about, parameters, expected = read_golden(args.folder)
    tokens = expected["input_bytes"][0]
    largest = 0.0
    for flash in ("0", "1"):
        options = peer_args(jax_byte_lm, about, "--flash", flash)
        p = {name: jax.numpy.asarray(value) for name, value in parameters.items()}
        loss, grads = jax.value_and_grad(lambda p: jax_byte_lm.loss_of(options, p, tokens, None))(p)
        error = relative(numpy.asarray(jax_byte_lm.forward(options, p, tokens, None)), expected["logits"])
        errors = [error, abs(float(loss) - expected["train.loss"][0])]
        errors += [numpy.abs(numpy.asarray(grad) - expected[f"grad.{name}"]).max() for name, grad in grads.items()]
        error = largest_of(errors)
        # JAX computes in float32 here.
        need(error < 1e-5, f"jax flash {flash} differs by {error:.3g}")
        largest = max(largest, error)
    print(f"largest difference {largest:.3g}")


def check_events(args):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = sorted(args.folder.glob("events.out.tfevents.*"))
    need(len(files) == 1, f"want one event file in {args.folder}, found {len(files)}")
    # A wrong checksum ends the reader's stream early, and the counts below differ.
    events = EventAccumulator(str(files[0]), size_guidance={"scalars": 0})
    events.Reload()
    tags = events.Tags()["scalars"]
    need("train/loss" in tags, f"no scalar train/loss; there are {tags}")
    scalars = events.Scalars("train/loss")
    with open(args.folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    need(rows and "loss" in rows[0], f"metrics.csv has no column loss: {list(rows[0]) if rows else 'it is empty'}")
    rows = [row for row in rows if row["loss"] not in ("", None)]
    need(len(scalars) == len(rows), f"{len(scalars)} events, but {len(rows)} rows with a loss")
    need(all(a.step < b.step for a, b in zip(scalars, scalars[1:])), "the events' steps do not rise")
    need(all(1e9 < event.wall_time < 1e11 for event in scalars), "an event's time is no time of day")
    for event, row in zip(scalars, rows):
        loss = float(row["loss"])
        need(math.isfinite(loss), f"step {event.step}: loss is {loss}")
        # The event holds a float32.
        need(abs(event.value - loss) <= 2e-6 * abs(loss), f"step {event.step}: {event.value} against {loss} in the CSV")
        need(int(row.get("step", event.step)) == event.step, f"step {row.get('step')} in the CSV is {event.step} there")
    print(f"{len(scalars)} losses equal those in metrics.csv; scalars: {', '.join(tags)}")


def find_checkpoint(folder):
    from safetensors import safe_open

    found = []
    for file in folder.rglob("*.safetensors"):
        with safe_open(file, "numpy") as tensors:
            if "decoder.weight" in tensors.keys():
                found.append(file)
    need(found, f"no file under {folder} holds decoder.weight: {[str(f) for f in folder.rglob('*')]}")
    return max(found, key=lambda file: (file.stat().st_mtime_ns, file))


def expected_shapes(sizes):
    import torch_byte_lm

    return {name: tuple(p.shape) for name, p in torch_byte_lm.build(peer_args(torch_byte_lm, sizes)).state_dict().items()}


def check_checkpoint(args):
    parameters = load_file(find_checkpoint(args.folder))
    shapes = expected_shapes(RUN)
    missing, surplus = sorted(set(shapes) - set(parameters)), sorted(set(parameters) - set(shapes))
    need(not missing and not surplus, f"missing: {missing}; not known: {surplus}")
    for name, value in parameters.items():
        need(value.shape == shapes[name], f"{name} is {value.shape}, want {shapes[name]}")
        need(value.dtype == numpy.float32, f"{name} is {value.dtype}")
        need(numpy.isfinite(value).all(), f"{name} has a value that is not finite")
        need(value.size == 1 or value.std() > 0, f"{name} is constant: was it trained?")
    print(f"{len(parameters)} tensors with the right names and shapes")


def check_eval(args):
    import torch

    checkpoint = find_checkpoint(args.folder)
    model = torch_model(RUN, load_file(checkpoint), "--flash", "0").eval()
    # Whole sequences and whole batches, so that there is one way to cut them.
    text = (b"An espalier is a tree trained along a plan. " * 100)[: 32 * RUN["seq"]]
    tokens = torch.frombuffer(bytearray(text), dtype=torch.uint8).long().view(-1, RUN["seq"])
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).item()
    want = loss / math.log(2)
    with tempfile.NamedTemporaryFile(suffix=".bin") as data:
        data.write(text)
        data.flush()
        output = run_program(args.espalier, "eval", args.folder, "--data", data.name, "--batch_size", "4", "--json")
    number = re.search(r'"bits_per_byte"\s*:\s*([-+.\deE]+)', output)
    need(number, f"no bits_per_byte in what the program printed:\n{output}")
    got = float(number[1])
    need(abs(got - want) < 1e-4, f"espalier eval says {got}, PyTorch {want}")
    print(f"{got:.6f} against PyTorch's {want:.6f}")


def opened(kind_of_model, folder, dtype):
    """transformers' model, which must find every tensor that it has in the folder and know every one that is there."""
    import transformers

    loader = getattr(transformers, kind_of_model)
    model, report = loader.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        need(not report.get(kind), f"{folder}: {kind} {report.get(kind)}")
    return model.eval()


def masked_lm(folder, dtype):
    return opened("BertForMaskedLM", folder, dtype)


def run_program(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    need(done.returncode == 0, f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def newest_checkpoint(run):
    found = sorted(run.glob("step-*"))
    need(found, f"no checkpoint in {run}")
    return found[-1]


def check_bert_run(args):
    """A checkpoint of `train bert` opens in transformers, and what transformers saves is a start for `train bert`."""
    import torch
    import transformers

    checkpoint = newest_checkpoint(args.folder)
    model = masked_lm(checkpoint, torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    text = "A tree, trained along the plan: [MASK] (1234) unbelievably."
    ours = json.loads(subprocess.run(
        [args.espalier, "tokenize", "--tokenizer", str(checkpoint)], input=json.dumps(text) + "\n", capture_output=True, text=True
    ).stdout)
    need(tokenizer(text)["input_ids"] == ours, f"ids of {text!r}: {tokenizer(text)['input_ids']} there, {ours} here")
    with tempfile.TemporaryDirectory() as made:
        made = pathlib.Path(made)
        model.save_pretrained(made / "theirs")
        run_program(
            args.espalier, "train", "bert", "--from", made / "theirs", "--tokenizer", checkpoint, "--data", "builtin", "--steps", 1,
            "--lr", 0, "--batch-size", 2, "--eval-every", 0, "--peak-gflops", 1, "--save-dir", made / "run",
        )
        again = load_file(newest_checkpoint(made / "run") / "model.safetensors")
        for name, value in load_file(checkpoint / "model.safetensors").items():
            need(numpy.array_equal(again[name], value), f"{name} has changed on the way through transformers")
    print(f"{len(again)} tensors there and back, {len(ours)} equal ids")


def check_qwen2_run(args):
    """A checkpoint of `train qwen2` opens in transformers, with the same ids and the same loss of a text."""
    import torch
    import transformers

    checkpoint = newest_checkpoint(args.folder)
    model = opened("Qwen2ForCausalLM", checkpoint, torch.float64)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    documents = [part + "\n" for part in args.data.read_text().rstrip("\n").split("\n\n")]
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    nats = tokens = 0
    for document in documents:
        # The end of the text before is what the first token is guessed from.
        row = torch.tensor([[end, *tokenizer(document, add_special_tokens=False)["input_ids"], end]])
        with torch.no_grad():
            nats += model(input_ids=row, labels=row).loss.item() * (row.numel() - 1)
        tokens += row.numel() - 1
    ours = json.loads(run_program(args.espalier, "eval", args.folder, "--data", args.data, "--json"))
    need(ours["tokens"] == tokens, f"{ours['tokens']} tokens here, {tokens} there")
    need(abs(ours["loss"] - nats / tokens) < 1e-5, f"loss {ours['loss']} here, {nats / tokens} there")
    print(f"loss {ours['loss']:.6f} of {tokens} tokens, transformers {nats / tokens:.6f}")


def masked_lm_logits(model, expected):
    import torch

    with torch.no_grad():
        ids, mask = (torch.from_numpy(expected[name]) for name in ("input_ids", "attention_mask"))
        return model(input_ids=ids, attention_mask=mask).logits.double().numpy(), expected["attention_mask"] != 0


def check_folders(args):
    """Folders that we save open in transformers, with the logits of the original; and those of transformers open here."""
    import torch

    expected = load_file(args.folder / "expected.safetensors")
    with tempfile.TemporaryDirectory() as made:
        made = pathlib.Path(made)

        def convert(source, name, *options):
            run_program(args.espalier, "convert", source, made / name, *options)
            return made / name

        convert(args.folder, "single")
        convert(args.folder, "shards", "--max-shard-size", "4KB")
        convert(args.folder, "half", "--dtype", "bfloat16")
        convert(args.folder, "half-shards", "--dtype", "bfloat16", "--max-shard-size", "2KB")
        need(len(list((made / "shards").glob("model-*.safetensors"))) > 2, "4 KB shards are not several files")
        errors = []
        for name in ("single", "shards"):
            logits, seen = masked_lm_logits(masked_lm(made / name, torch.float64), expected)
            errors.append(relative(logits[seen], expected["logits"][seen]))
        largest = largest_of(errors)
        need(largest < 1e-6, f"logits in float64 differ by {largest:.3g}")

        original = masked_lm(made / "single", torch.float32).state_dict()
        rounded = {name: value.bfloat16() for name, value in original.items() if value.is_floating_point()}
        for name in ("half", "half-shards"):
            model = masked_lm(made / name, "auto")
            need(model.dtype == torch.bfloat16, f"{name} opens as {model.dtype}")
            for tensor, value in rounded.items():
                need(torch.equal(model.state_dict()[tensor], value), f"{name}: {tensor} is not the rounded original")

        # What transformers writes comes back unchanged.
        model = masked_lm(made / "single", torch.float32)
        for name, size in (("theirs", "5GB"), ("their-shards", "4KB")):
            model.save_pretrained(made / name, max_shard_size=size)
            again = load_file(convert(made / name, name + "-again") / "model.safetensors")
            for tensor, value in again.items():
                need(numpy.array_equal(value, original[tensor].numpy()), f"{name}: {tensor} has changed")
    print(f"single, sharded, bfloat16; logits differ by {largest:.3g}")


def check_bert(args):
    """The BERT benchmark's peers: transformers and Equinox have the same loss on the same weights."""
    import jax
    import jax.numpy as jnp
    import torch

    import bert_peer
    import equinox_bert
    import torch_bert

    jax.config.update("jax_platforms", "cpu")
    sizes = ["--layers", "2", "--hidden", "64", "--batch", "2", "--seq", "24", "--attention"]
    ids, rows, labels = next(bert_peer.batches(torch_bert.parser.parse_args([*sizes, "eager"])))
    everywhere = numpy.full(ids.size, -100)
    everywhere[rows] = labels
    losses = {}
    for attention in ("eager", "fused"):
        theirs = torch_bert.build(torch_bert.parser.parse_args([*sizes, attention]))
        if losses:
            theirs.load_state_dict(state)
        state = theirs.state_dict()
        with torch.no_grad():
            ids_there, labels_there = torch.from_numpy(ids), torch.from_numpy(everywhere.reshape(ids.shape))
            losses[f"torch {attention}"] = theirs(input_ids=ids_there, labels=labels_there).loss.item()
        model = equinox_bert.build(equinox_bert.parser.parse_args([*sizes, attention]), jax.random.key(0))
        model = equinox_weights(model, {name: value.numpy() for name, value in state.items()})
        batch = (jnp.asarray(part, "int32") for part in (ids, rows, labels))
        losses[f"equinox {attention}"] = float(model.loss(*batch, jax.random.key(1)))
    spread = largest_of(losses.values()) - min(losses.values())
    need(spread < 1e-4, f"losses differ: {losses}")
    print(f"losses {', '.join(f'{name} {loss:.5f}' for name, loss in losses.items())}")


def equinox_weights(model, state):
    """The Equinox peer's model with the weights of transformers'."""
    import dataclasses

    import jax.numpy as jnp

    def copy(module, **names):
        fields = {f.name: getattr(module, f.name) for f in dataclasses.fields(module)}
        made = object.__new__(type(module))
        for field, value in {**fields, **names}.items():
            object.__setattr__(made, field, value)
        return made

    def filled(module, name):
        return copy(module, weight=jnp.asarray(state[f"{name}.weight"]), bias=jnp.asarray(state[f"{name}.bias"]))

    layers = []
    for i, layer in enumerate(model.layers):
        at = f"bert.encoder.layer.{i}"
        layers.append(
            copy(
                layer,
                query=filled(layer.query, f"{at}.attention.self.query"),
                key=filled(layer.key, f"{at}.attention.self.key"),
                value=filled(layer.value, f"{at}.attention.self.value"),
                output=filled(layer.output, f"{at}.attention.output.dense"),
                output_norm=filled(layer.output_norm, f"{at}.attention.output.LayerNorm"),
                up=filled(layer.up, f"{at}.intermediate.dense"),
                down=filled(layer.down, f"{at}.output.dense"),
                down_norm=filled(layer.down_norm, f"{at}.output.LayerNorm"),
            )
        )
    embeddings, head = "bert.embeddings", "cls.predictions"
    return copy(
        model,
        words=jnp.asarray(state[f"{embeddings}.word_embeddings.weight"]),
        positions=jnp.asarray(state[f"{embeddings}.position_embeddings.weight"]),
        types=jnp.asarray(state[f"{embeddings}.token_type_embeddings.weight"]),
        norm=filled(model.norm, f"{embeddings}.LayerNorm"),
        layers=layers,
        transform=filled(model.transform, f"{head}.transform.dense"),
        transform_norm=filled(model.transform_norm, f"{head}.transform.LayerNorm"),
        bias=jnp.asarray(state[f"{head}.bias"]),
    )


def check_extract(args):
    """The extraction benchmark's peers: transformers and the JAX program read the same activations, and what they store opens."""
    import functools
    import gzip
    import pickle

    import jax
    import torch

    import jax_extract
    import torch_extract

    jax.config.update("jax_platforms", "cpu")
    sizes = ["--num-layer", "3", "--hidden", "64", "--heads", "4", "--kv-heads", "2", "--ffn", "96", "--vocab", "100"]
    options = torch_extract.parser.parse_args([*sizes, "--layers", "0-2", "--store", "1"])
    torch.manual_seed(1)
    model = torch_extract.build(options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    ids = numpy.random.default_rng(2).integers(100, size=(2, 24))
    with torch.inference_mode():
        theirs = [state.numpy() for state in torch_extract.states_of(model, options)(torch.from_numpy(ids))]
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    config = jax_extract.sizes_of(model.config)
    step = jax.jit(functools.partial(jax_extract.forward, config=config, compute="float32"))
    residual, last = step(weights, ids.astype("int32"))
    largest = largest_of(relative(numpy.asarray(a), b) for a, b in zip([*residual[:2], last], theirs))
    need(largest < 1e-4, f"the residual streams differ by {largest:.3g}")

    found = []
    with tempfile.TemporaryDirectory() as made:
        read = lambda file: found.append(pickle.loads(gzip.decompress(file.read_bytes())))
        shards = jax_extract.Shards(pathlib.Path(made), 2 * residual[0][0].nbytes, read)
        for row in range(2):
            shards.add(0, row, numpy.asarray(residual[0][row]))
    need(len(found) == 1 and [entry["sample_idx"] for entry in found[0][0]] == [0, 1], f"the shard holds {found}")
    print(f"residual streams differ by {largest:.2g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, function in (
        ("torch", check_torch),
        ("jax", check_jax),
        ("events", check_events),
        ("checkpoint", check_checkpoint),
        ("eval", check_eval),
        ("folders", check_folders),
        ("bert", check_bert),
        ("extract", check_extract),
        ("golden", check_golden),
        ("bert-run", check_bert_run),
        ("qwen2-run", check_qwen2_run),
    ):
        command = commands.add_parser(name, help=function.__doc__)
        if name not in ("bert", "extract"):
            command.add_argument("folder", type=pathlib.Path)
        if name == "golden":
            command.add_argument("made", type=pathlib.Path)
        if name == "qwen2-run":
            command.add_argument("data", type=pathlib.Path)
        if name in ("eval", "folders", "bert-run", "qwen2-run"):
            command.add_argument("espalier")
        command.set_defaults(function=function)
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
