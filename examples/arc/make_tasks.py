#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tasks.jsonl beside this file: 24 tasks in the public form of the Abstraction and Reasoning Corpus, each a rule that
turns small grids of colours 0 to 9 into others, with a few examples and one test. The same file every time."""

import json
import pathlib
import random

RULES = {
    "mirror": lambda g: [row[::-1] for row in g],
    "flip": lambda g: g[::-1],
    "transpose": lambda g: [list(column) for column in zip(*g)],
    "turn": lambda g: [list(column) for column in zip(*g)][::-1],
    "shift": lambda g: [row[1:] + row[:1] for row in g],
    "double": lambda g: [[c for c in row for _ in range(2)] for row in g for _ in range(2)],
    "frame": lambda g: [[5] * (len(g[0]) + 2), *([5, *row, 5] for row in g), [5] * (len(g[0]) + 2)],
    "next-colour": lambda g: [[(c + 1) % 10 if c else 0 for c in row] for row in g],
}


def grid(draw):
    height, width = draw.randint(2, 6), draw.randint(2, 6)
    return [[draw.choice((0, 0, draw.randint(1, 9))) for _ in range(width)] for _ in range(height)]


def main():
    draw = random.Random(7)
    lines = []
    for number in range(3):
        for name, rule in RULES.items():
            grids = [grid(draw) for _ in range(draw.randint(2, 4) + 1)]
            train = [{"input": g, "output": rule(g)} for g in grids[1:]]
            task = {"task_id": f"{name}-{number}", "train": train, "test": [{"input": grids[0]}]}
            lines.append(json.dumps(task, separators=(",", ":")))
    path = pathlib.Path(__file__).with_name("tasks.jsonl")
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
