"""Do interventions add up? Stacks against their parts, and each part taken out of its stack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from analysis.comparison.compare import Source, compare
from analysis.comparison.result import Comparison
from analysis.errors import AnalysisError
from analysis.stats.dunnett import two_sided_p
from analysis.stats.linear import DF_ROUNDING, FEWEST_DF, Fit
from analysis.stats.textbook_tests import holm
from analysis.text import markdown_table, number, p_value

ADDITIVE, SUB, SUPER, UNDECIDED = "additive", "sub-additive", "super-additive", "undecided"
COLUMNS = ["estimate", "se", "df", "ci_low", "ci_high", "p_raw", "p_adj"]


@dataclass(frozen=True, slots=True)
class Stacking:
    """What stacks add up to; nats per token.

    ``interactions``: one row a stack whose parts were all run alone; ``estimate`` is the stack's
    delta minus the sum of the parts' deltas. ``leave_one_out``: one row a part that was also left
    out; ``estimate`` is the stack minus the stack without it. Intervals are pointwise, p values
    adjusted by Holm over the rows.
    """

    interactions: pd.DataFrame
    leave_one_out: pd.DataFrame
    missing: tuple[str, ...]
    """Single interventions to run before all stacks can be judged."""
    alpha: float
    rope: float | None

    def to_markdown(self) -> str:
        """Return both tables for a person."""
        percent = f"{100 * (1 - self.alpha):g}% CI"
        parts = ["## Stacks against the sum of their parts\n"]
        header = ["stack", "delta", "sum of parts", "interaction", percent, "p adj", "verdict"]
        rows = [
            [
                row["stack"],
                number(row["delta"], 4, sign=True),
                number(row["sum_of_parts"], 4, sign=True),
                *_cells(row),
                row["verdict"],
            ]
            for row in self.interactions.to_dict("records")
        ]
        parts.append(
            markdown_table(header, rows) if rows else "No stack has all its parts run alone."
        )
        if len(self.leave_one_out):
            head = ["stack", "part", "effect", percent, "p adj", "verdict"]
            rows = [
                [row["stack"], row["without"], *_cells(row), row["verdict"]]
                for row in self.leave_one_out.to_dict("records")
            ]
            parts += [
                "",
                "### Each part's share: the stack minus the stack without it\n",
                markdown_table(head, rows),
            ]
        parts.append("\nIntervals are pointwise; p values are adjusted by Holm.")
        if self.missing:
            arms = ",".join(self.missing)
            parts.append(f"To judge every stack, these must run alone, as the stacks did: {arms}")
        return "\n".join(parts) + "\n"


def stack(runs: Source | Comparison, **changes: Any) -> Stacking:
    """Compare stacks with the sum of their parts, as contrasts of the comparison's own model.

    Parameters
    ----------
    runs
        As for `analysis.compare`, or its result. A stack is an arm named ``a+b``.
    **changes
        Fields of `analysis.Rules`.

    Raises
    ------
    AnalysisError
        No stack among the complete arms, one with a part of the baseline, or nothing to judge by.

    Examples
    --------
    >>> frame = pd.DataFrame({
    ...     "arm": ["baseline"] * 3 + ["a"] * 3 + ["b"] * 3 + ["a+b"] * 3,
    ...     "test_loss": [3.70, 3.71, 3.69, 3.60, 3.61, 3.59, 3.62, 3.60, 3.61, 3.58, 3.59, 3.60]})
    >>> stack(frame).interactions[["stack", "verdict"]].values.tolist()
    [['a+b', 'sub-additive']]
    """
    result = runs if isinstance(runs, Comparison) else compare(runs, **changes)
    fitted, arms = result.estimate, result.estimate.arms
    stacks = [arm for arm in arms[1:] if "+" in arm]
    if not stacks:
        raise AnalysisError(
            f"no stack among the complete arms {', '.join(arms)}: run one, e.g. "
            "python -m harness '+intervention=[a,b]'"
        )
    holding = [arm for arm in stacks if {*arm.split("+")} & {*arms[0].split("+")}]
    if holding:
        raise AnalysisError(
            f"{holding[0]} has a part in common with the baseline {arms[0]}, so its parts do not "
            "add up from there: name the arm without any of them with --baseline"
        )
    if fitted.fit is None or fitted.obstacle:
        raise AnalysisError(f"stacks cannot be judged: {fitted.why}; repeat runs with more seeds")
    missing = sorted({part for arm in stacks for part in arm.split("+")} - set(arms))
    context = _Context(fitted.fit, arms, result.alpha, result.rope)
    return Stacking(
        _interactions(context, stacks),
        _left_out(context, stacks, result),
        tuple(missing),
        result.alpha,
        result.rope,
    )


@dataclass(frozen=True, slots=True)
class _Context:
    fit: Fit
    arms: tuple[str, ...]
    alpha: float
    rope: float | None


def _interactions(context: _Context, stacks: list[str]) -> pd.DataFrame:
    at = {arm: i for i, arm in enumerate(context.arms)}
    whole = [arm for arm in stacks if all(part in at for part in arm.split("+"))]
    weights = np.zeros((len(whole), len(at)))
    for row, arm in enumerate(whole):
        parts = [at[part] for part in arm.split("+")]
        weights[row, at[arm]], weights[row, 0] = 1.0, len(parts) - 1.0
        weights[row, parts] = -1.0
    table = _contrast_table(context, weights)
    deltas = context.fit.means - context.fit.means[0]
    table.insert(0, "stack", whole)
    table.insert(1, "delta", [deltas[at[arm]] for arm in whole])
    table.insert(2, "sum_of_parts", table["delta"] - table["estimate"])
    alone = np.zeros_like(weights)
    alone[:, 1:] = weights[:, 1:] < 0
    alone[:, 0] = -alone.sum(axis=1)
    sums = _contrast_table(context, alone)
    signed = (sums["ci_low"] > 0) | (sums["ci_high"] < 0)
    rows = zip(table.to_dict("records"), signed, strict=True)
    table["verdict"] = [_additivity(row, context, sign) for row, sign in rows]
    return table


def _additivity(row: dict[object, float], context: _Context, signed: bool) -> str:
    """Name an interaction; `signed` where the sum of the parts is clearly on one side of 0."""
    if row["df"] < FEWEST_DF - DF_ROUNDING or not row["se"] > 0:
        return UNDECIDED
    if row["p_adj"] < context.alpha:
        if not signed:
            return UNDECIDED
        return SUPER if row["estimate"] * row["sum_of_parts"] > 0 else SUB
    half = float(special.stdtrit(row["df"], 1 - context.alpha)) * row["se"]
    within = context.rope is not None and abs(row["estimate"]) + half < context.rope
    return ADDITIVE if within else UNDECIDED


def _left_out(context: _Context, stacks: list[str], result: Comparison) -> pd.DataFrame:
    at = {arm: i for i, arm in enumerate(context.arms)}
    pairs = []
    for arm in stacks:
        parts = arm.split("+")
        for part in parts:
            rest = "+".join(name for name in parts if name != part)
            if rest in at:
                pairs.append((arm, part, rest))
    weights = np.zeros((len(pairs), len(at)))
    for row, (arm, _, rest) in enumerate(pairs):
        weights[row, at[arm]], weights[row, at[rest]] = 1.0, -1.0
    table = _contrast_table(context, weights)
    table.insert(0, "stack", [arm for arm, _, _ in pairs])
    table.insert(1, "without", [part for _, part, _ in pairs])
    higher = result.rules.higher_is_better
    table["verdict"] = [_share(row, context, higher) for row in table.to_dict("records")]
    return table


def _share(row: dict[object, float], context: _Context, higher_is_better: bool) -> str:
    decided = row["df"] >= FEWEST_DF - DF_ROUNDING and row["p_adj"] < context.alpha
    if not decided:
        return UNDECIDED
    return "helps" if (row["estimate"] > 0) == higher_is_better else "harms"


def _contrast_table(context: _Context, weights: np.ndarray) -> pd.DataFrame:
    if not len(weights):
        return pd.DataFrame(columns=COLUMNS, dtype=float)
    found = context.fit.contrast(weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = two_sided_p(found.estimate / found.se, found.df)
        half = special.stdtrit(found.df, 1 - context.alpha / 2) * found.se
    adjusted = holm(p) if np.isfinite(p).all() else p
    figures = (
        found.estimate,
        found.se,
        found.df,
        found.estimate - half,
        found.estimate + half,
        p,
        adjusted,
    )
    return pd.DataFrame(dict(zip(COLUMNS, figures, strict=True)))


def _cells(row: dict[object, float]) -> list[str]:
    interval = f"[{number(row['ci_low'], 4, sign=True)}, {number(row['ci_high'], 4, sign=True)}]"
    return [number(row["estimate"], 4, sign=True), interval, p_value(row["p_adj"])]
