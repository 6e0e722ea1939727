#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Extraction to other people's object stores: moto's S3, and an emulator of Google Cloud Storage. The last line printed
says what was found."""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request

PART = 8 << 20  # of an upload
SAMPLES = 60


def need(condition, text):
    if not condition:
        sys.exit(text)


class Job:
    """A small model, token ids for it, and the command that reads its activations. Its shards are larger than a part."""

    def __init__(self, program, tokenizer, folder):
        self.program, self.tokenizer, self.folder = program, tokenizer, folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GOOGLE_"))}
        sizes = "--num-layer 4 --hidden 256 --heads 4 --kv-heads 2 --ffn 256 --vocab-size 512".split()
        self.run("init", "qwen2", str(folder / "model"), *sizes)
        ids = random.Random(1)
        with open(folder / "tokens.jsonl", "w") as file:
            for _ in range(SAMPLES):
                file.write(json.dumps({"tokens": [ids.randrange(512) for _ in range(ids.randrange(40, 120))]}) + "\n")

    def run(self, *arguments):
        done = subprocess.run([self.program, *arguments], capture_output=True, text=True, env=self.environment)
        need(done.returncode == 0, f"{' '.join(arguments)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def extract(self, output, workers):
        command = [self.program, "extract", "--model", str(self.folder / "model"), "--tokenizer", str(self.tokenizer)]
        command += ["--dataset", str(self.folder / "tokens.jsonl"), "--max-seq-length", "128", "--shard-tokens", "2000"]
        command += ["--activation", "residual,mlp,attn", "--threads", "1", "--output", output]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started = [subprocess.Popen(command, env=self.environment, **pipes) for _ in range(workers)]
        for process in started:
            said = process.communicate()[0]
            need(process.returncode == 0, f"extract to {output}: exit status {process.returncode}\n{said}")

    def reference(self):
        """Key to bytes of the same run in a folder."""
        here = self.folder / "here"
        self.extract(str(here), 1)
        return {str(path.relative_to(here)): path.read_bytes() for path in here.rglob("*") if path.is_file()}


def compare(job, want, url, read):
    """Runs `job` to `url` with two workers, and compares what `read` then finds there with a folder's."""
    from safetensors.torch import load

    shards = sorted(key for key in want if key.startswith("shards/"))
    need(len(shards) > 2 and len(want[shards[0]]) > PART, f"{len(shards)} shards of {len(want[shards[0]])} bytes are too small")
    job.extract(url, 2)
    job.run("verify", url)
    got = read()
    need(sorted(got) == sorted(want), f"there are {sorted(got)}, want {sorted(want)}")
    for key, data in want.items():
        need(got[key] == data, f"{key} differs from the folder's")
    for line in got["manifest.jsonl"].splitlines():
        entry = json.loads(line)
        data = got[f"shards/shard-{entry['shard']:08}.safetensors"]
        need(hashlib.sha256(data).hexdigest() == entry["sha256"], f"shard {entry['shard']}: wrong checksum")
        need(load(data)["token_ids"].shape == (entry["tokens"],), f"shard {entry['shard']}: wrong number of tokens")
    return f"{len(shards)} shards by two workers, {sum(map(len, want.values()))} bytes as in the folder"


def check_s3(job):
    """moto, read by boto3."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    job.environment |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1"}
    job.environment["AWS_ENDPOINT_URL"] = endpoint
    keys = dict(aws_access_key_id="testing", aws_secret_access_key="testing")
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
    client.create_bucket(Bucket="bucket")

    def read():
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix="run/")
        found = [item["Key"] for page in pages for item in page["Contents"]]
        return {key.removeprefix("run/"): client.get_object(Bucket="bucket", Key=key)["Body"].read() for key in found}

    want = job.reference()
    # A worker died in the middle of its upload.
    first = "shards/shard-00000000.safetensors"
    dead = client.create_multipart_upload(Bucket="bucket", Key=f"run/{first}")
    client.upload_part(Bucket="bucket", Key=f"run/{first}", UploadId=dead["UploadId"], PartNumber=1, Body=want[first][:PART])
    try:
        found = compare(job, want, "s3://bucket/run", read)
        left = client.list_multipart_uploads(Bucket="bucket").get("Uploads", [])
        need(not left, f"uploads are left: {left}")
    finally:
        server.stop()
    return found


def check_gcs(job):
    """The emulator, read over its own protocol."""
    from gcp_storage_emulator.server import create_server

    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    server.start()
    job.environment["STORAGE_EMULATOR_HOST"] = f"127.0.0.1:{port}"
    objects = f"http://127.0.0.1:{port}/storage/v1/b/bucket/o"

    def fetch(url):
        with urllib.request.urlopen(url) as answer:
            return answer.read()

    def read():
        keys = [item["name"] for item in json.loads(fetch(f"{objects}?prefix=run/"))["items"]]
        return {key.removeprefix("run/"): fetch(f"{objects}/{urllib.parse.quote(key, safe='')}?alt=media") for key in keys}

    try:
        return compare(job, job.reference(), "gs://bucket/run", read)
    finally:
        server.stop()  # its thread would keep the process


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", choices=("s3", "gcs"))
    parser.add_argument("tokenizer", type=pathlib.Path)
    parser.add_argument("espalier")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        job = Job(args.espalier, args.tokenizer, pathlib.Path(folder))
        print({"s3": check_s3, "gcs": check_gcs}[args.store](job))


if __name__ == "__main__":
    main()
