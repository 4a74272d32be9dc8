"""Simulated studies with known truth, which show whether the analysis keeps its promises.

    python -m benchmarks.calibrate [--studies 1000] [--seed 20261128] [--out docs/calibration.md]

Half of a study's arms truly differ, each by so many standard errors of its own difference as the
pooled rule would find with power .8 were all arms equally noisy; the others by nothing. Methods see
the same runs. No constant of the analysis may be chosen on these cells.
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.comparison.compare import decide
from analysis.table import Item, Table, columns
from benchmarks.simulate import ALPHA, OURS, POOLED, SD, Cell, Studies, draw, judge
from harness.records import StudyPlan
from harness.records.files import write_atomic

SEEDS, RHOS = (2, 3, 4, 6), (0.0, 0.4, 0.8)
NOISES = {
    "equal": "all arms equally noisy",
    "two arms": "two arms of fourfold variance",
    "wide": "differences' sd log-uniform over a factor of 67",
    "baseline": "baseline of fourfold variance",
}

PAGE = """# Calibration

`{command}` on {machine}. Monte Carlo error of a family error near .05: {error:.4f}.

Half of the arms truly differ, each by so many standard errors of its own difference as the pooled
rule would find with power .8 were all arms equally noisy; the others by nothing. *moderated* is the
default, *pooled* takes all arms to be equally noisy (`--variance pooled`). Promised is a family
error of .05; a baseline of fourfold variance is known to break it
([statistics.md](statistics.md)), and a study's table warns of it.

## Summary

{summary}

## Looking early

{few} studies each; power .8 would be the pooled rule's at the last look alone.

{looks}

## Every cell

T arms, n seeds each, K baseline runs, rho the correlation of same-seed runs; coverage is that of
all intervals together (for Welch+Holm, Bonferroni's).

{cells}
"""


def grid() -> Iterator[Cell]:
    """Yield the cells of the full calibration."""
    for n_arms in (4, 8):
        for n in SEEDS:
            for rho in RHOS:
                yield Cell(n_arms, n, rho)
            yield Cell(n_arms, n, 0.8, "two arms")
            yield Cell(n_arms, n, 0.8, "wide")
        for n in (2, 4):
            yield Cell(n_arms, n, 0.4, "baseline")
    yield Cell(4, 3, 0.4, n_baseline=8)


def run_cell(cell: Cell, n_studies: int, seed: int) -> list[dict[str, object]]:
    """Return one row a method: family error, simultaneous coverage and power over many studies."""
    key = [cell.n_arms, cell.n, round(100 * cell.rho), cell.K, list(NOISES).index(cell.noise)]
    studies = draw(cell, np.random.default_rng([seed, *key]), n_studies)
    real = studies.truth[0] != 0
    return [
        {
            "noise": cell.noise,
            "T": cell.n_arms,
            "n": cell.n,
            "K": cell.K,
            "rho": cell.rho,
            "method": name,
            "family error": float(answer.rejected[:, ~real].any(axis=1).mean()),
            "coverage": float(answer.covered.all(axis=1).mean()),
            "power": float(answer.rejected[:, real].mean()),
        }
        for name, answer in judge(cell, studies).items()
    ]


def run_sequential(cell: Cell, looks: list[int], n_studies: int, seed: int) -> dict[str, object]:
    """Return family error, power and average seeds of the sequential rule."""
    rng = np.random.default_rng([seed, 7, cell.n_arms, cell.n, round(100 * cell.rho)])
    plan = StudyPlan(study="simulated", looks=looks, alpha=ALPHA, rope=SD)
    wrong, hits, used = 0, [], []
    studies = draw(cell, rng, n_studies)
    real = studies.truth[0] != 0
    for loss in studies.loss:
        decision = decide(_frame(studies, loss), plan)
        table = decision.table.sort_values("arm")
        found = np.array([decision.verdicts[arm].kind.real for arm in table["arm"]])
        wrong += int(found[~real].any())
        hits.append(found[real].mean())
        used.append(np.array([looks[look - 1] for look in table["look"]])[real].mean())
    return {
        "T": cell.n_arms,
        "looks": "/".join(map(str, looks)),
        "rho": cell.rho,
        "family error": wrong / n_studies,
        "power": float(np.mean(hits)),
        "seeds until decided": float(np.mean(used)),
    }


def _frame(studies: Studies, loss: np.ndarray) -> pd.DataFrame:
    names = np.array(["baseline", *[f"arm{t:02d}" for t in range(studies.truth.shape[1])]])
    return pd.DataFrame({"arm": names[studies.arm], "init_seed": studies.seed, "test_loss": loss})


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row a kind of noise: the range of family error and power of each method."""
    found = []
    for noise, words in NOISES.items():
        here = rows[rows["noise"] == noise]
        row: dict[str, object] = {"noise": words, "cells": int((here["method"] == OURS).sum())}
        for method in (OURS, POOLED):
            own = here[here["method"] == method]
            row[f"family error, {method}"] = _range(own["family error"])
            row[f"power, {method}"] = _range(own["power"])
        found.append(row)
    return pd.DataFrame(found)


def _range(values: pd.Series) -> str:
    return f"{values.min():.3f} to {values.max():.3f}"


def table_of(frame: pd.DataFrame) -> str:
    """Return a frame as markdown."""
    text = [str(name) for name in frame if frame[name].dtype == object]
    items = [[Item(f"{v:.3f}" if isinstance(v, float) else str(v)) for v in row]
             for row in frame.itertuples(index=False)]  # fmt: skip
    return Table("t", "", columns(*map(str, frame), text=text), items).to_text()


def main(arguments: list[str] | None = None) -> int:
    """Run the calibration and write its page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibrate", description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=20261128)
    parser.add_argument("--out", type=Path, default=Path("docs/calibration.md"))
    options = parser.parse_args(arguments)
    start = time.monotonic()
    rows = pd.DataFrame(
        [row for cell in grid() for row in run_cell(cell, options.studies, options.seed)]
    )
    few = max(options.studies // 5, 2)
    looks = pd.DataFrame(
        [
            run_sequential(Cell(n_arms, looks[-1], 0.4), looks, few, options.seed)
            for n_arms, looks in ((4, [2, 3, 4]), (8, [2, 3, 4]), (8, [2, 3, 4, 6, 8]))
        ]
    )
    minutes = (time.monotonic() - start) / 60
    page = PAGE.format(
        command=f"python -m benchmarks.calibrate --studies {options.studies} --seed {options.seed}",
        machine=f"{platform.machine()}, Python {platform.python_version()}, {minutes:.1f} minutes",
        error=math.sqrt(ALPHA * (1 - ALPHA) / options.studies),
        summary=table_of(summary(rows)),
        few=few,
        looks=table_of(looks),
        cells=table_of(rows),
    )
    write_atomic(options.out, page)
    print(table_of(summary(rows)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
