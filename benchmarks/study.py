"""Measure a whole study of shape A beside the textbook GPT run cell by cell.

    python -m benchmarks.study [--arms 8] [--seeds 5] [--steps 50] [--write]

The harness trains arms x seeds on all cores, one thread a cell; the textbook trains a few cells of
as many steps one after the other in fresh processes with PyTorch's own number of threads, and its
mean time stands for all. It saves nothing, samples nothing and validates nothing: what the harness
does of these is counted against it. Needs an idle machine: this is wall-clock time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.report import machine, table, write_section

ARMS = (
    "baseline",
    "no_dropout",
    "qkv_bias",
    "weight_tying",
    "gradient_clipping",
    "higher_lr",
    "scheduled_lr",
    "weight_decay_gpt2",
)
N_TEXTBOOK, N_SWEEPS = 3, 3
TEST_SEQUENCES = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arms", type=int, default=len(ARMS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    parser.add_argument("--textbook-cell", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.textbook_cell:
        textbook_cell(options.steps)
        return
    n_cells = options.arms * options.seeds
    sweep_seconds(1, 1, 1)  # prepares the corpus
    n_few = os.cpu_count() or 1  # as many as run at once
    few, many = one_step_sweeps(n_few, options.arms, options.seeds)
    with_step = (many - few) / max(1, n_cells - n_few)
    ours = sweep_seconds(options.arms, options.seeds, options.steps)
    step = (ours - many) / (max(1, options.steps - 1) * n_cells)
    command = [sys.executable, "-m", "benchmarks.study", "--textbook-cell"]
    theirs = wall([*command, "--steps", str(options.steps)], N_TEXTBOOK) * n_cells
    rows = [
        {"what": f"{n_cells} cells of {options.steps} steps", "figure": f"{ours:.0f} s"},
        {"what": "the textbook's, extrapolated", "figure": f"{theirs:.0f} s"},
        {"what": "ratio", "figure": f"**{theirs / ours:.2f}**"},
        {"what": "start-up of the sweep", "figure": f"{few - n_few * with_step:.1f} s"},
        {"what": "and of each cell", "figure": f"{with_step - step:.2f} s"},
        {"what": f"start-up of all {n_cells}", "figure": f"{many - n_cells * step:.1f} s"},
    ]
    text = (
        f"{table(rows)}\n\n{machine('torch')}. Wall-clock time on {os.cpu_count()} cores. "
        f"Start-up is the line through sweeps of {n_few} and of {n_cells} cells with one step, "
        f"medians of {N_SWEEPS}; the {step:.2f} s of that step (measured over {options.steps}, "
        "with the longer sweep's test in it) are taken off, while a rehearsal of each arm, a "
        "completion, a validation and a test of one sequence are part of it."
    )
    print(text)
    if options.write:
        write_section("study", text)


def one_step_sweeps(n_few: int, n_arms: int, n_seeds: int) -> tuple[float, float]:
    """Return the median seconds of a sweep of a few cells, and of all, with one step each."""
    pairs = [
        (sweep_seconds(1, n_few, 1), sweep_seconds(n_arms, n_seeds, 1)) for _ in range(N_SWEEPS)
    ]
    few, many = zip(*pairs, strict=True)
    return statistics.median(few), statistics.median(many)


def sweep_seconds(n_arms: int, n_seeds: int, steps: int) -> float:
    """Return the seconds of a sweep in a fresh folder."""
    overrides = [
        "model.n_layer=4",
        "model.block_size=128",
        "model.vocab_size=512",
        f"train.tokens={steps * 2048}",
        f"eval.test_sequences={TEST_SEQUENCES if steps > 1 else 1}",
        "eval.n_val=1",
        "eval.val_sequences=1",
        f"seed=range({n_seeds})",
        f"+intervention={','.join(ARMS[:n_arms])}",
        "hardware=cpu",
    ]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "harness", "-m", *overrides, f"runs_dir={folder}"]
        return wall(command, 1)


def wall(command: list[str], times: int) -> float:
    """Return seconds per call."""
    start = time.perf_counter()
    for _ in range(times):
        subprocess.run(command, check=True, capture_output=True)
    return (time.perf_counter() - start) / times


def textbook_cell(steps: int) -> None:
    """Train and test the textbook GPT on random tokens."""
    import torch

    from benchmarks.contestants import SHAPES, Contestant, textbook

    batch_size, config = SHAPES["A"]
    ids = torch.randint(config.vocab_size, (batch_size, config.block_size + 1))
    x_BT, y_BT = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
    step = Contestant("textbook", config, {"device": "cpu", "autocast": False}).step
    for _ in range(steps):
        step(x_BT, y_BT)
    model, loss_of = textbook(config)
    model.eval()
    with torch.no_grad():
        for _ in range(TEST_SEQUENCES // batch_size):
            loss_of(model, x_BT, y_BT)


if __name__ == "__main__":
    main()
