"""The main effects of a screening design, from its runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from analysis.comparison.compare import Source, read
from analysis.comparison.rules import Rules, check_rules
from analysis.comparison.table import percent
from analysis.comparison.verdict import Kind
from analysis.errors import AnalysisError
from analysis.runs.frame import complete, named
from analysis.stats.dunnett import two_sided_p
from analysis.stats.factorial import aliases
from analysis.stats.holm import holm
from analysis.stats.linear import FEWEST_DF, Array, clear_rounding, least_squares
from analysis.table import Table, columns, document, figure, interval, p_item, words
from harness.records import BASELINE


@dataclass(frozen=True, slots=True)
class ScreenResult:
    """Main effects of a screening design, sorted by size."""

    effects: pd.DataFrame
    """Columns intervention, effect, se, df, ci_low, ci_high (nats per token), p_raw, p_adj (Holm),
    verdict."""
    sd: float
    n: int
    alpha: float
    note: str
    warnings: tuple[str, ...]

    def tables(self) -> list[Table]:
        """Return the effects."""
        rows = [
            [
                words(row["intervention"]),
                figure(row["effect"], 4, sign=True),
                interval(row["ci_low"], row["ci_high"], 4),
                p_item(row["p_adj"]),
                words(row["verdict"]),
            ]
            for row in self.effects.to_dict("records")
        ]
        labels = ("intervention", "effect", percent(self.alpha), "p adj", "verdict")
        heads = columns(*labels, text=("intervention", "verdict"))
        return [Table("effects", "Main effects", heads, rows, (self.note,))]

    def to_markdown(self) -> str:
        """Return the effects for a person."""
        warnings = (f"**Warning:** {warning}" for warning in self.warnings)
        return document("Main effects", *warnings, *self.tables())


def analyse(runs: Source, rules: Rules | None = None, **changes: Any) -> ScreenResult:
    """Estimate the main effect of every intervention in a design's runs.

    Least squares of the loss on what each run turned on; the residual holds the noise and all
    interactions, so the test is careful where interventions interact. Intervals are pointwise.

    Parameters
    ----------
    runs
        As for `analysis.compare`; each arm's name says what was on.
    rules
        Metric and its direction, baseline (the arm that turns nothing on), and alpha (the family
        error of Holm's adjustment, 0.05 by default).
    **changes
        Single fields of `analysis.Rules`.

    Raises
    ------
    AnalysisError
        Too few runs, or interventions that were always on together.
    """
    rules = check_rules(rules, {**changes, "allow_reruns": True})
    done, baseline = complete(read(runs, rules).frame), rules.baseline
    if baseline != BASELINE and baseline not in set(done["arm"]):
        raise AnalysisError(
            f"no complete run of baseline {baseline!r}: the arms are {named(done['arm'].unique())}"
        )
    sets = [set(arm.split("+")) - {BASELINE} if arm != baseline else set() for arm in done["arm"]]
    names = sorted(set().union(*sets))
    on = np.array([[float(name in turned_on) for name in names] for turned_on in sets])
    blocks, alone = _blocks(done)
    X = np.column_stack([np.ones(len(done)), on, blocks])
    _check_design(X, names)
    y = done["loss"].to_numpy(dtype=float)
    c, inverse, variance, df = least_squares(X, y - y.mean())
    if not clear_rounding(variance, float(y.mean())):
        raise AnalysisError("the residual is zero: there is no noise to judge the effects by")
    se = np.sqrt(variance * np.diag(inverse))
    own, alpha = slice(1, 1 + len(names)), rules.alpha or 0.05
    table = pd.DataFrame({"intervention": names, "effect": c[own], "se": se[own], "df": df})
    effects = _judged(table, alpha, higher_is_better=rules.higher_is_better)
    note = _note(len(done), variance**0.5, df, alone)
    warnings = (*_one_seed(done), *_no_design(names, on))
    return ScreenResult(effects, variance**0.5, len(done), alpha, note, warnings)


def _check_design(X: Array, names: list[str]) -> None:
    n, n_columns = X.shape
    if n <= n_columns or not names:
        raise AnalysisError(
            f"{n} complete runs cannot tell {len(names)} interventions apart from noise: "
            f"at least {n_columns + 1} are needed"
        )
    if np.linalg.matrix_rank(X) < n_columns:
        raise AnalysisError(
            "some interventions were always on together: their effects cannot be told apart; run "
            "the design as printed by python -m analysis design"
        )


def _blocks(done: pd.DataFrame) -> tuple[Array, int]:
    """Return a column for each seed but one, and how many runs are alone at theirs.

    Where most runs are, seeds make no blocks.
    """
    none = np.zeros((len(done), 0))
    if "init_seed" not in done:
        return none, 0
    seeds = done["init_seed"].astype(str)
    counts = seeds.value_counts()
    alone = int((counts == 1).sum())
    if 2 * alone > len(done):
        return none, 0
    return np.column_stack([none, *((seeds == seed) * 1.0 for seed in counts.index[1:])]), alone


def _judged(table: pd.DataFrame, alpha: float, *, higher_is_better: bool) -> pd.DataFrame:
    """Add intervals, p values and verdicts to effects, se and df; sort by effect."""
    effect, se, df = (table[name].to_numpy() for name in ("effect", "se", "df"))
    half = special.stdtrit(df, 1 - alpha / 2) * se
    p = two_sided_p(effect / se, df)
    adjusted = holm(p)
    real = (adjusted < alpha) & (df >= FEWEST_DF)
    better = np.where((effect > 0) == higher_is_better, Kind.BETTER, Kind.WORSE)
    return table.assign(
        ci_low=effect - half,
        ci_high=effect + half,
        p_raw=p,
        p_adj=adjusted,
        verdict=np.where(real, better, Kind.UNDECIDED),
    ).sort_values("effect", ignore_index=True)


def _note(n: int, sd: float, df: float, alone: int) -> str:
    note = (
        f"{n} runs, residual sd {sd:.4g} on {df:g} df (noise and interactions). Holm's p, "
        "pointwise intervals. Effects are averages over the other interventions on and off: "
        "confirm each alone against the baseline, at 2 new seeds or more."
    )
    if df < FEWEST_DF:
        note += f" All are undecided: {df:g} df, and a verdict needs {FEWEST_DF:g}; run more seeds."
    if alone:
        note += f" {alone} run(s) that are the only one at their seed add no information."
    return note


def _one_seed(done: pd.DataFrame) -> list[str]:
    seeds = list(done["init_seed"].drop_duplicates()) if "init_seed" in done else []
    if len(seeds) != 1 or seeds[0] is None:
        return []
    return [
        f"all runs have seed {seeds[0]}, so the intervals leave out how the effects vary with the "
        "seed: every verdict holds for this seed alone."
    ]


def _no_design(names: list[str], on: Array) -> list[str]:
    """Return a warning where the runs are not those of a screening design."""
    matrix = np.unique(on, axis=0)
    if matrix.sum(axis=1).max() < 2:
        return [
            "no screening design: no run turns on two interventions. Compare each with the "
            "baseline: python -m analysis RUNS."
        ]
    found = aliases(matrix)
    if not found:
        return []
    effect, first, second = (names[i] for i in found[0])
    return [
        "incomplete screening design: main effects are aliased with interactions "
        f"(e.g. {effect} of {first} x {second}; {len(found)} in all). Run every arm that "
        "python -m analysis design prints."
    ]
