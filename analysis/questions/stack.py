"""Do interventions add up? Stacks against their parts, and each part taken out of its stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison.compare import Source, compare
from analysis.comparison.result import Comparison
from analysis.comparison.table import percent
from analysis.errors import AnalysisError
from analysis.runs.frame import how_to_get
from analysis.stats.holm import holm
from analysis.stats.linear import ENOUGH_DF
from analysis.table import Item, Table, columns, document, figure, interval, p_item, words
from analysis.text import digits

ADDITIVE, SUB, SUPER, UNDECIDED = "additive", "sub-additive", "super-additive", "undecided"
HOLM = "Intervals are pointwise; p values are adjusted by Holm."
FIGURES = ["estimate", "se", "df", "ci_low", "ci_high", "p_raw", "p_adj"]


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
    decimals: int

    def tables(self) -> list[Table]:
        """Return the interactions and the parts' shares, as far as there are any."""
        figures = (percent(self.alpha), "p adj", "verdict")
        sums = [
            [
                words(row["stack"]),
                figure(row["delta"], self.decimals, sign=True),
                figure(row["sum_of_parts"], self.decimals, sign=True),
                *self._items(row),
            ]
            for row in self.interactions.to_dict("records")
        ]
        shares = [
            [words(row["stack"]), words(row["without"]), *self._items(row)]
            for row in self.leave_one_out.to_dict("records")
        ]
        text = ("stack", "part", "verdict")
        of_sums = columns("stack", "delta", "sum of parts", "interaction", *figures, text=text)
        of_shares = columns("stack", "part", "effect", *figures, text=text)
        made = (
            Table("stacks", "Stacks against the sum of their parts", of_sums, sums, (HOLM,)),
            Table(
                "stack_shares",
                "The stack minus the stack without a part",
                of_shares,
                shares,
                (HOLM,),
            ),
        )
        return [table for table in made if table.rows]

    def to_markdown(self) -> str:
        """Return both tables for a person."""
        none = "" if len(self.interactions) else "No stack has all its parts run alone."
        alone = ",".join(self.missing)
        missing = f"To judge every stack, these must run alone, as the stacks did: {alone}"
        title = "Stacks against the sum of their parts"
        return document(title, none, *self.tables(), missing if alone else "")

    def _items(self, row: Mapping[Any, Any]) -> list[Item]:
        return [
            figure(row["estimate"], self.decimals, sign=True),
            interval(row["ci_low"], row["ci_high"], self.decimals),
            p_item(row["p_adj"]),
            words(row["verdict"]),
        ]


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
    arms = result.estimate.arms
    stacks = {arm: arm.split("+") for arm in arms[1:] if "+" in arm and "[" not in arm}
    if not stacks:
        how = how_to_get(
            result.done,
            "run one, e.g. python -m harness '+intervention=[a,b]'",
            "a stack is an arm called by its parts, e.g. a+b",
        )
        raise AnalysisError(f"no stack among the complete arms {', '.join(arms)}: {how}")
    holding = [arm for arm, parts in stacks.items() if {*parts} & {*arms[0].split("+")}]
    if holding:
        raise AnalysisError(
            f"{holding[0]} has a part in common with the baseline {arms[0]}, so its parts do not "
            "add up from there: name the arm without any of them with --baseline"
        )
    missing = sorted({part for parts in stacks.values() for part in parts} - {*arms})
    return Stacking(
        _interactions(result, stacks),
        _shares(result, stacks),
        tuple(missing),
        result.alpha,
        digits(result.sd),
    )


def _interactions(result: Comparison, stacks: Mapping[str, list[str]]) -> pd.DataFrame:
    base, *others = result.estimate.arms
    whole = {arm: parts for arm, parts in stacks.items() if {*parts} <= {*others}}
    of_parts = [{**dict.fromkeys(parts, 1.0), base: -len(parts)} for parts in whole.values()]
    sums = _judged(result, of_parts)
    table = _judged(
        result,
        [
            {arm: 1.0, **dict.fromkeys(parts, -1.0), base: len(parts) - 1}
            for arm, parts in whole.items()
        ],
    )
    table.insert(0, "stack", list(whole))
    table.insert(1, "delta", table["estimate"] + sums["estimate"])
    table.insert(2, "sum_of_parts", sums["estimate"])
    table["signed"] = (sums["ci_low"] > 0) | (sums["ci_high"] < 0)
    table["verdict"] = [_additivity(row, result) for row in table.to_dict("records")]
    return table.drop(columns=["signed", "p_equal"])


def _additivity(row: Mapping[Any, Any], result: Comparison) -> str:
    """Name an interaction; where the sum of the parts has no clear sign, it has no name."""
    if row["df"] < ENOUGH_DF or not row["se"] > 0:
        return UNDECIDED
    if row["p_adj"] < result.alpha:
        if not row["signed"]:
            return UNDECIDED
        return SUPER if row["estimate"] * row["sum_of_parts"] > 0 else SUB
    return ADDITIVE if row["p_equal"] < result.alpha else UNDECIDED


def _shares(result: Comparison, stacks: Mapping[str, list[str]]) -> pd.DataFrame:
    """Return each part's share: the stack minus the stack without it, where that was run."""
    without = [
        (arm, part, "+".join(name for name in parts if name != part))
        for arm, parts in stacks.items()
        for part in parts
    ]
    found = [triple for triple in without if triple[2] in result.estimate.arms]
    table = _judged(result, [{arm: 1.0, rest: -1.0} for arm, _, rest in found])
    table = table.drop(columns="p_equal")
    table.insert(0, "stack", [arm for arm, _, _ in found])
    table.insert(1, "without", [part for _, part, _ in found])
    real = (table["df"] >= ENOUGH_DF) & (table["p_adj"] < result.alpha)
    better = (table["estimate"] > 0) == result.rules.higher_is_better
    table["verdict"] = np.where(real, np.where(better, "helps", "harms"), UNDECIDED)
    return table


def _judged(result: Comparison, contrasts: Sequence[Mapping[str, float]]) -> pd.DataFrame:
    """Judge combinations of the arms' means, each a weight by arm."""
    fitted = result.estimate
    if fitted.model is None or fitted.obstacle:
        raise AnalysisError(f"stacks cannot be judged: {fitted.why}; repeat runs with more seeds")
    if not contrasts:
        return pd.DataFrame(columns=[*FIGURES, "p_equal"], dtype=float)
    weights = pd.DataFrame(contrasts, columns=fitted.arms).fillna(0.0)
    differences = fitted.model.contrast(weights.to_numpy(dtype=float))
    found = differences.found
    table = pd.DataFrame({"estimate": found.estimate, "se": found.se, "df": found.df})
    table = table.reindex(columns=[*FIGURES, "p_equal"])
    if (found.se > 0).all():
        half = differences.half_width_each(result.alpha)
        table["ci_low"], table["ci_high"] = found.estimate - half, found.estimate + half
        table["p_raw"], table["p_adj"] = differences.p_raw, holm(differences.p_raw)
        if (size := result.practical.declared) is not None:
            table["p_equal"] = differences.equivalence(size, result.alpha).p_adj
    return table
