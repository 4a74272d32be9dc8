"""Measure how often `analysis.speed` is wrong: its family error, and whether its factors hold.

    python -m benchmarks.speed [--studies 500] [--write]

A simulated run's curve is a power law of its tokens. Half of the arms reach every loss with nine
tenths of the tokens, the others are the baseline's equals. A run lies above or below its law by one
amount throughout, part of it its seed's; each validation adds noise of its own.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.questions.tokens_to_target import speed
from analysis.runs.curves import TOKENS as COST
from analysis.stats.linear import Array
from benchmarks.report import table, write_section

ALPHA, FACTOR = 0.05, 0.9
TOKENS = np.linspace(0.05, 1, 20) * 1e8
SD_RUN, SD_VALIDATION = 0.015, 0.003
LATE = 3.0
"""A target that every run meets well before its end, nats per token."""
PAGE = Path(__file__).parent.parent / "docs" / "statistics.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=500, help="of each kind")
    parser.add_argument("--write", action="store_true", help="into docs/statistics.md")
    options = parser.parse_args()
    rows = [
        answers(Kind(n_arms, n, rho, target), options.studies)
        for target in (LATE, None)
        for n_arms, n, rho in ((4, 3, 0.0), (4, 3, 0.8), (4, 6, 0.8), (8, 3, 0.4), (8, 6, 0.4))
    ]
    error = (ALPHA * (1 - ALPHA) / options.studies) ** 0.5
    text = (
        f"{table(rows)}\n\n{options.studies} simulated studies a row "
        f"(`python -m benchmarks.speed`), half of the arms faster by a factor of {FACTOR:g}. "
        f"Monte Carlo error of a family error near .05: {error:.3f}."
    )
    print(text)
    if options.write:
        write_section("speed", text, PAGE)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of study."""

    n_arms: int
    n: int
    """Seeds of every arm, the baseline's too."""
    rho: float
    """Correlation of same-seed runs."""
    target: float | None
    """None: the default, which the baseline's runs set."""


def law(tokens: Array) -> Array:
    """Return the loss, nats per token, that a run without noise has: 2.90 at the end."""
    return 2.0 + 0.9 * (tokens / TOKENS[-1]) ** -0.3


def curves(kind: Kind, rng: np.random.Generator) -> pd.DataFrame:
    """Draw a study, one line a validation."""
    shared = rng.normal(0, SD_RUN * kind.rho**0.5, kind.n)
    parts = []
    for arm, pace in {"baseline": 1.0, **paces(kind)}.items():
        for seed, level in enumerate(shared):
            own = rng.normal(0, SD_RUN * (1 - kind.rho) ** 0.5)
            noise = rng.normal(0, SD_VALIDATION, len(TOKENS))
            loss = law(TOKENS / pace) + level + own + noise
            columns = {"arm": arm, "seed": seed, "tokens": TOKENS, "val_loss": loss}
            parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def paces(kind: Kind) -> dict[str, float]:
    """Return the true factor of every arm; half of them are faster."""
    return {f"arm{i}": FACTOR if i < kind.n_arms // 2 else 1.0 for i in range(kind.n_arms)}


def answers(kind: Kind, studies: int) -> dict[str, str]:
    """Judge many studies; an arm that some run of never gets there is called nothing."""
    rng = np.random.default_rng([kind.n_arms, kind.n, int(10 * kind.rho)])
    truth = paces(kind)
    false, missed, found, compared = 0, 0, 0, 0
    for _ in range(studies):
        runs = curves(kind, rng)
        result = speed(runs, target=kind.target, costs=(COST,))
        known = {arm: factor for arm in truth if (factor := result.factor(arm))}
        called = [truth[arm] for arm, factor in known.items() if factor.p < ALPHA]
        false += 1.0 in called
        found += called.count(FACTOR)
        missed += any(not f.low <= truth[arm] <= f.high for arm, f in known.items())
        compared += len(known)
    return {
        "target": "the baseline's last loss" if kind.target is None else f"{kind.target:g}",
        "arms": f"{kind.n_arms}",
        "seeds": f"{kind.n}",
        "correlation": f"{kind.rho:g}",
        "family error": f"{false / studies:.3f}",
        "all intervals hold": f"{1 - missed / studies:.3f}",
        "faster ones found": f"{found / (studies * (kind.n_arms // 2)):.2f}",
        "arms compared": f"{compared / (studies * kind.n_arms):.2f}",
    }


if __name__ == "__main__":
    main()
