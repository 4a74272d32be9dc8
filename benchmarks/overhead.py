"""Measure what the harness adds to a step of shape A: its loop, its data, its evaluation.

    python -m benchmarks.overhead [--write]

The harness's loop and a bare loop around the same model and optimiser take turns in one process,
on so few tokens that the difference of milliseconds stands out; it is compared with a whole step.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.contestants import SHAPES
from benchmarks.report import machine, table, write_section
from harness.cell.build import synthetic_training
from harness.config.compose import load
from harness.engine.batches import Batches
from harness.engine.memory import keep_memory
from harness.evaluation import sequence_losses
from harness.loop import Nobody, Training, train

ROUNDS, STEPS = 101, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    t, short = training_on_a(SHAPES["A"][0], SHAPES["A"][1].block_size), training_on_a(1, 8)
    bare_loop(t)
    step = statistics.median(timed(bare_loop, t) for _ in range(5)) / STEPS
    harness_loop(short)
    extra = [timed(harness_loop, short) - timed(bare_loop, short) for _ in range(ROUNDS)]
    low, middle, high = (x / STEPS / step for x in statistics.quantiles(extra, n=4))
    loading = time_loading() / step
    evaluation = statistics.median(relative_evaluation(t) for _ in range(9))
    rows = [
        {"what": "loop against a bare loop", "share": f"{middle:+.2%} ({low:+.2%} to {high:+.2%})"},
        {"what": "loading a batch, of a step", "share": f"{loading:.3%}"},
        {"what": "evaluating a sequence, of training on it", "share": f"{evaluation:.0%}"},
        *({"what": f"evaluation, of a cell: {s}", "share": f"{share(s, evaluation):.1%}"}
          for s in ("demo", "proxy", "gpt2_small")),
    ]  # fmt: skip
    text = f"{table(rows)}\n\n{machine('torch')}. 1 thread, processor time, median (quartiles)."
    print(text)
    if options.write:
        write_section("overhead", text)


def training_on_a(batch_size: int, block_size: int) -> Training:
    config = load(["hardware=cpu"])
    config.model = replace(SHAPES["A"][1], block_size=block_size)
    config.train.batch_size = batch_size
    config.train.tokens = STEPS * config.tokens_per_step
    return synthetic_training(config, torch.device("cpu"), batch_size)


def harness_loop(t: Training) -> None:
    train(replace(t, step=0, unread=[]), Nobody())


def bare_loop(t: Training) -> None:
    model: nn.Module = t.model
    x_BT, y_BT = t.batches(0)
    for _ in range(STEPS):
        model(x_BT, y_BT).backward()
        t.optimizer.step()
        t.optimizer.zero_grad()


def timed(function, *arguments) -> float:
    start = time.process_time()
    function(*arguments)
    return time.process_time() - start


def time_loading() -> float:
    """Return seconds per batch of shape A from a shuffled, memory-mapped file of 100M tokens."""
    batch_size, model = SHAPES["A"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.bin"
        tokens = np.memmap(path, dtype=np.uint16, mode="w+", shape=(100_000_000,))
        batches = Batches(tokens, model.block_size, batch_size, seed=0)
        batches(0)  # draws the epoch's order
        return min(timed(batches, step) for step in range(1, 100))


def relative_evaluation(t: Training) -> float:
    """Return the time to evaluate a sequence over that to train on it, one after the other."""
    n = t.config.train.batch_size
    sequences = t.batches.tokens[t.batches.pipeline.positions(np.arange(n))]
    training = timed(bare_loop, t) / STEPS
    return timed(sequence_losses, t.model, sequences, n) / training


def share(scale: str, relative_cost: float) -> float:
    """Return evaluation's share of a cell, if a sequence costs this much of training on it."""
    config = load([f"scale={scale}"])
    evaluated = config.eval.n_val * config.eval.val_sequences + config.eval.test_sequences
    seconds = evaluated * relative_cost
    return seconds / (seconds + config.n_steps * config.train.batch_size)


if __name__ == "__main__":
    main()
