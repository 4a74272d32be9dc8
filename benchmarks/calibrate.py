"""Simulated studies with known truth, which show whether the analysis keeps its promises.

``python -m benchmarks.calibrate`` writes docs/calibration.md, in about five minutes on two cores.

Every study has T arms; half of them truly differ from the baseline, each by so many standard errors
of its own difference that the *pooled* rule (`--variance pooled`: all arms are equally noisy) finds
it with power 0.8 where that is true; the others do not differ. *moderated* is the default. All
methods see the same runs; seeds are shared. Family error: any arm that does not differ is called
better or worse. Coverage: all intervals of a study hold at once (Welch's at alpha / T each).
"""

from __future__ import annotations

import argparse
import math
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.stats.linear import FEWEST_DF
from analysis.stats.spending import spending
from analysis.text import markdown_table
from benchmarks.simulate import ALPHA, OURS, POOLED, WELCH, Cell, Studies, draw, judge, judge_one
from harness.records.files import write_atomic

KINDS = {
    "equal": "all runs equally noisy",
    "two arms": "two arms of fourfold variance",
    "wide": "sd of the differences log-uniform over a factor of 67",
    "baseline": "baseline of fourfold variance",
}
LOOKS = ((8, (2, 3, 4, 6, 8), 0.4), (4, (2, 3, 4), 0.8))
"""Arms, looks and correlation of the simulated sequential studies."""


def grid() -> Iterator[Cell]:
    """Yield the cells of the full calibration."""
    for n_arms in (4, 8):
        for n in (2, 3, 4, 6):
            for rho in (0.0, 0.4, 0.8):
                yield Cell(n_arms, n, rho)
            for noise in ("two arms", "wide"):
                yield Cell(n_arms, n, 0.8, noise)
        for n in (2, 4):
            for rho in (0.0, 0.8):
                yield Cell(n_arms, n, rho, "baseline")
    for rho in (0.0, 0.4, 0.8):
        yield Cell(4, 3, rho, n_baseline=8)


def run_cell(cell: Cell, n_studies: int, seed: int) -> list[dict[str, object]]:
    """Return one row a method: family error, power and coverage over many studies."""
    key = [cell.n_arms, cell.n, int(100 * cell.rho), cell.K, list(KINDS).index(cell.noise)]
    studies = draw(cell, np.random.default_rng([seed, *key]), n_studies)
    real = studies.truth[0] != 0
    shared = {"T": cell.n_arms, "n": cell.n, "K": cell.K, "rho": cell.rho, "noise": cell.noise}
    return [
        {
            **shared,
            "method": name,
            "family error": float(answer.rejected[:, ~real].any(axis=1).mean()),
            "power": float(answer.rejected[:, real].mean()),
            "coverage": float(answer.covered.all(axis=1).mean()),
        }
        for name, answer in judge(cell, studies).items()
    ]


def run_sequential(
    n_arms: int, looks: tuple[int, ...], rho: float, n_studies: int, seed: int
) -> list[dict[str, object]]:
    """Return family error, power and seeds of looking early, and of peeking without a plan."""
    cell = Cell(n_arms, looks[-1], rho)
    studies = draw(cell, np.random.default_rng([seed, n_arms, *looks]), n_studies)
    real = studies.truth[0] != 0
    rows = []
    for name, alphas in (
        ("planned looks", spending(looks)),
        ("naive peeking", [ALPHA] * len(looks)),
    ):
        decided_at = np.array([_look(studies, s, looks, alphas) for s in range(n_studies)])
        decided = decided_at <= looks[-1]
        rows.append(
            {
                "T": n_arms,
                "looks": "/".join(map(str, looks)),
                "rho": rho,
                "rule": name,
                "family error": float(decided[:, ~real].any(axis=1).mean()),
                "power": float(decided[:, real].mean()),
                "seeds of a real arm": float(np.minimum(decided_at, looks[-1])[:, real].mean()),
            }
        )
    return rows


def _look(studies: Studies, s: int, looks: tuple[int, ...], alphas: Sequence[float]) -> np.ndarray:
    """Return the seeds at which each arm of one study was decided; more than there are: never."""
    n_arms = studies.truth.shape[1]
    decided_at = np.full(n_arms, looks[-1] + 1)
    for n, alpha in zip(looks, alphas, strict=True):
        limit = np.append(n, np.minimum(decided_at, n))
        now = studies.seed < limit[studies.arm]
        found = judge_one(studies.loss[s, now], studies.arm[now], studies.seed[now])
        hit = (found.p_adj < alpha) & (found.found.df >= FEWEST_DF) & (decided_at > looks[-1])
        decided_at[hit] = n
    return decided_at


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row a kind of noise: ranges of family error, power and coverage over its cells."""
    found = []
    for noise, of_kind in rows.groupby("noise", sort=False):
        row = {"runs": KINDS[str(noise)]}
        for method in (OURS, POOLED, WELCH):
            mine = of_kind[of_kind["method"] == method]
            row[f"family error, {method}"] = _range(mine["family error"])
        for n in sorted(set(of_kind["n"])):
            for method in (OURS, POOLED, WELCH):
                mine = of_kind[(of_kind["method"] == method) & (of_kind["n"] == n)]
                row[f"power, n {n}, {method}"] = _range(mine["power"])
        row["coverage, moderated"] = _range(of_kind.loc[of_kind["method"] == OURS, "coverage"])
        found.append(row)
    return pd.DataFrame(found).set_index("runs").T.reset_index(names="")


def _range(values: pd.Series) -> str:
    if not len(values):
        return ""
    low, high = f"{values.min():.3f}", f"{values.max():.3f}"
    return low if low == high else f"{low} – {high}"


def too_many_errors(rows: pd.DataFrame, n_studies: int) -> pd.DataFrame:
    """Return the cells where the default's family error is above 0.05 by more than chance."""
    limit = ALPHA + 2 * monte_carlo_error(n_studies)
    return rows[(rows["method"] == OURS) & (rows["family error"] > limit)]


def monte_carlo_error(n_studies: int) -> float:
    """Return the standard error of a share near 0.05."""
    return math.sqrt(ALPHA * (1 - ALPHA) / n_studies)


def main(arguments: list[str] | None = None) -> int:
    """Run the calibration and write its page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.calibrate", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--studies", type=int, default=1000, help="a cell (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=20261123, help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/calibration.md"))
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    rows: list[dict[str, object]] = []
    for cell in grid():
        rows += run_cell(cell, options.studies, options.seed)
        print(f"{time.perf_counter() - start:5.0f} s  {cell}", file=sys.stderr)
    looks: list[dict[str, object]] = []
    for design in LOOKS:
        looks += run_sequential(*design, max(options.studies // 4, 20), options.seed)
    write_atomic(options.out, report(pd.DataFrame(rows), pd.DataFrame(looks), options, start))
    print(f"Written: {options.out}")
    return 0


def report(
    rows: pd.DataFrame, looks: pd.DataFrame, options: argparse.Namespace, start: float
) -> str:
    """Return the calibration as markdown: the summary, what falls short, and every cell."""
    short = too_many_errors(rows, options.studies)
    elsewhere = short[short["noise"] != "baseline"]
    lines = [
        "# Calibration\n",
        " ".join((__doc__ or "").split("\n\n")[-1].split()) + "\n",
        _table(summary(rows)),
        f"\nMonte Carlo error of a family error near 0.05: {monte_carlo_error(options.studies):.4f}"
        f". Above 0.05 by more than twice that: {len(short)} of {(rows['method'] == OURS).sum()} "
        f"cells, {len(elsewhere)} of them without a noisier baseline. Such a baseline is in every "
        "difference, and few seeds cannot show it: the comparison tests for it and warns.\n",
        "## Looking early\n",
        "A quarter of the studies. Planned looks spend alpha, naive peeking tests at 0.05 each "
        "time; an arm stops when it is decided.\n",
        _table(looks),
        "\n## Every cell\n",
        "`noise` as in the table above, in the same order: "
        + "; ".join(f"*{name}*, {text}" for name, text in KINDS.items())
        + ". K baseline runs.\n",
        _table(rows),
        f"\n`python -m benchmarks.calibrate --studies {options.studies} --seed {options.seed}` on "
        f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"{(time.perf_counter() - start) / 60:.1f} minutes.",
    ]
    return "\n".join(lines) + "\n"


def _table(frame: pd.DataFrame) -> str:
    def cell(value: object) -> str:
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    rows = [[cell(value) for value in row] for row in frame.itertuples(index=False)]
    return markdown_table([str(name) for name in frame.columns], rows)


if __name__ == "__main__":
    sys.exit(main())
