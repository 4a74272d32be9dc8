"""Time a training step of this engine against another version of it.

    python -m benchmarks.versions CHECKOUT [--shapes A,B,C] [--pairs 200] [--write]

Both live in one process and take turns, in random order, so that a busy host and the layout of
memory meet both alike: between two processes the same code differs by 1 to 7%. A pair of steps
gives a ratio of processor times; the table has the median with its 95% confidence interval (from
ranks). `CHECKOUT` of this same version is the control.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch

from benchmarks.report import machine, table, write_section

HERE = Path(__file__).parent.parent
OURS = ("analysis", "benchmarks", "harness", "interventions")
WARM_UP = 3
SHARE = {"A": 1, "B": 4, "C": 20}
"""A shape's steps are so many times dearer, and its pairs so many times fewer."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="a local checkout of the other version")
    parser.add_argument("--shapes", default="A,B,C")
    parser.add_argument("--pairs", type=int, default=200, help="of shape A; fewer of B and C")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for shape in options.shapes.split(","):
        pairs = max(options.pairs // SHARE[shape], 5)
        rows.append(compare(shape, options.checkout.resolve(), pairs))
        print(" ".join(rows[-1].values()), flush=True)
    text = (
        f"{table(rows)}\n\n{machine('torch')}. Above 1: this version is faster. Float32, "
        "1 thread, dropout 0.1; processor time of one process, in which both take turns."
    )
    print(f"\n{text}")
    if options.write:
        write_section("versions cpu", text)


def compare(shape: str, other: Path, pairs: int) -> dict[str, str]:
    """Return a row: the other version's time for a step over this one's."""
    theirs, ours = step_of(other, shape), step_of(HERE, shape)
    order = random.Random(0)
    ratios = []
    for _ in range(pairs):
        turns = [ours, theirs]
        order.shuffle(turns)
        seconds = {step: timed(step) for step in turns}
        ratios.append(seconds[theirs] / seconds[ours])
    low, high = interval_of_median(sorted(ratios))
    return {
        "shape": shape,
        "pairs": str(pairs),
        "other / this": f"**{statistics.median(ratios):.3f}** [{low:.3f}, {high:.3f}]",
    }


def step_of(checkout: Path, shape: str) -> Callable[[], float]:
    """Import a checkout's harness apart from any other; return a warm step of its model."""
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    sys.path.insert(0, str(checkout))
    import_module("harness")
    sys.path[0] = str(HERE)  # how a step is taken is the same for both
    contestants = import_module("benchmarks.contestants")
    import_module("harness.engine.memory").keep_memory()
    batch_size, config = contestants.SHAPES[shape]
    torch.manual_seed(0)
    step = contestants.Contestant("ours", config, {"device": "cpu", "autocast": False}).step
    ids = torch.randint(config.vocab_size, (batch_size, config.block_size + 1))
    x_BT, y_BT = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
    for _ in range(WARM_UP):  # what is imported late comes from the same checkout
        step(x_BT, y_BT)
    del sys.path[0]
    return lambda: step(x_BT, y_BT)


def timed(step: Callable[[], float]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def interval_of_median(ordered: list[float]) -> tuple[float, float]:
    """Return the order statistics between which the median lies with probability 0.95."""
    n = len(ordered)
    below = max(math.floor(n / 2 - 1.96 * math.sqrt(n) / 2), 0)
    return ordered[below], ordered[n - 1 - below]


if __name__ == "__main__":
    main()
