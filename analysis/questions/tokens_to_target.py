"""How many tokens, FLOPs or seconds an arm needs to reach a loss, against the baseline.

Each run's validation curve is read at the first point where it comes down to the target; the
logarithms of what it had spent by then are compared like losses, so that a difference is a factor:
0.87 is the baseline's loss with 0.87 of its tokens.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison.compare import Source, as_runs, compare
from analysis.comparison.result import Comparison
from analysis.comparison.rules import Rules
from analysis.comparison.verdict import Kind
from analysis.errors import AnalysisError
from analysis.runs.curves import COSTS, SECONDS, TOKENS, VALIDATION, Curve, read_curves
from analysis.runs.frame import Runs, is_foreign
from analysis.stats.crossing import Crossing, first_crossing
from analysis.table import Item, Table, columns, count, document, figure, p_item, words
from analysis.text import DASH
from harness.records import BASELINE

WORDS = {Kind.BETTER: "faster", Kind.WORSE: "slower"}
CREDIT_STEPS = 100
"""A credit is given in nats for so many steps."""
COARSE = 1.25
"""Points further apart than by this factor leave much to the line between them."""
LOG_COST = "log cost"
RATIO = ("token_ratio", "token_ratio_low", "token_ratio_high")
"""The columns that a table of verdicts gets."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How one run came to the target."""

    curve: Curve
    crossings: dict[str, Crossing]
    """By what training is counted in."""

    def cost(self, name: str) -> float | None:
        """Return what the run had spent; None: it never got there, or that is not known."""
        found = self.crossings.get(name)
        return found.tokens if found else None


@dataclass(frozen=True, slots=True)
class Factor:
    """An arm's cost over the baseline's, with its simultaneous interval where there is one."""

    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        text = f"{self.ratio:.2f}"
        return text if np.isnan(self.low) else f"{text} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True, slots=True)
class Speed:
    """What every arm spent to reach the target."""

    target: float
    """Nats per token."""
    why: str
    """Where the target comes from."""
    runs: dict[str, list[Reached]]
    """By arm, the baseline first."""
    compared: dict[str, Comparison]
    """By what is counted: the arms of which every run got there, on the log of their costs."""
    credit: float | None = None
    """Nats for a hundred steps that a run's last loss is worth, instead of crossings."""

    @property
    def baseline(self) -> str:
        """The arm that the others are compared with."""
        return next(iter(self.runs))

    def n_reached(self, arm: str) -> int:
        """Return how many of the arm's runs came to the target."""
        return sum(run.cost(TOKENS) is not None for run in self.runs[arm])

    def factor(self, arm: str, cost: str = TOKENS) -> Factor | None:
        """Return the arm's cost over the baseline's; None: some run of it never got there."""
        result = self.compared.get(cost)
        if result is None or arm not in result.arms or arm == self.baseline:
            return None
        row = _row_of(result, arm)
        return Factor(*(exp(row[name]) for name in ("delta", "ci_low", "ci_high")))

    def tokens(self, arm: str) -> float | None:
        """Return the geometric mean of the tokens of the arm's runs."""
        spent = [run.cost(TOKENS) for run in self.runs[arm]]
        known = [value for value in spent if value is not None]
        return exp(sum(map(log, known)) / len(known)) if len(known) == len(spent) else None

    def sentence(self, arm: str) -> str:
        """Return what was found of the arm, in words."""
        factor, n = self.factor(arm), len(self.runs[arm])
        if factor is None:
            lowest = min(float(np.nanmin(run.curve.loss)) for run in self.runs[arm])
            return f"{self.n_reached(arm)} of {n} runs reach it (lowest loss {lowest:.4f})"
        return f"reaches it with {factor} of the {self.baseline}'s tokens"

    def to_table(self) -> Table:
        """Return one row an arm, the fastest first, those that never get there last."""
        labels = ["arm", "n", "reached", "tokens to target", *self.compared, "p adj", "verdict"]
        ratio = {arm: factor.ratio for arm in self.runs if (factor := self.factor(arm))}
        order = sorted(self.runs, key=lambda arm: ratio.get(arm, 1.0 if arm == BASELINE else 9e9))
        caption = f"Cost to reach a {VALIDATION.replace('val', 'validation').replace('_', ' ')}"
        return Table(
            "speed",
            f"{caption} of {self.target:.4f}, as a factor of {self.baseline}'s",
            columns(*labels, text=("arm", "verdict")),
            [self._row(arm) for arm in order],
            tuple(self.notes()),
        )

    def _row(self, arm: str) -> list[Item]:
        first = [words(arm), count(len(self.runs[arm])), count(self.n_reached(arm))]
        first.append(figure(self.tokens(arm), 0))
        if arm == self.baseline:
            ones = [Item("1", 1.0)] * len(self.compared)
            return [*first, *ones, Item(DASH), words("(baseline)")]
        factors = [self.factor(arm, cost) for cost in self.compared]
        shown = [Item(str(f), f.ratio) if f else Item(DASH) for f in factors]
        if factors[0] is None:
            return [*first, *shown, Item(DASH), words("not reached by all its runs")]
        result = self.compared[TOKENS]
        kind = result.verdicts[arm].kind
        p = p_item(_row_of(result, arm)["p_adj"])
        return [*first, *shown, p, words(WORDS.get(kind, str(kind)))]

    def notes(self) -> list[str]:
        """Return what to know when reading the figures."""
        found = [
            f"Target: {self.target:.4f} nats per token, {self.why}. {self._how()} The factors are "
            f"of geometric means, with simultaneous {self._percent()} intervals: 0.87 is the same "
            "loss with 0.87 of the tokens."
        ]
        if not all(run.curve.has_tokens for runs in self.runs.values() for run in runs):
            found.append("Steps stand for tokens: the runs do not say how many a step has.")
        if SECONDS in self.compared:
            found.append(
                "FLOPs: tokens by what a token costs the arm. Seconds: by the clock of the "
                "machines that trained them, whatever else ran there."
            )
        late = [arm for arm in self.runs if self.n_reached(arm) < len(self.runs[arm])]
        if late:
            said = "; ".join(f"{arm}: {self.sentence(arm)}" for arm in late)
            found.append(f"Not compared, since some of their runs never get there: {said}.")
        return found

    def _percent(self) -> str:
        return f"{100 * (1 - self.compared[TOKENS].alpha):g}%"

    def _how(self) -> str:
        if self.credit is not None:
            return (
                f"A run's last loss counts for its steps: {self.credit:g} nats are worth "
                f"{CREDIT_STEPS} of them."
            )
        crossed = [run.crossings[TOKENS] for runs in self.runs.values() for run in runs]
        widest = max((c.grid for c in crossed if c.tokens is not None), default=1.0)
        coarse = " That is coarse: more validations (eval.n_val) would say more." * (
            widest > COARSE
        )
        return (
            "Between two validations a curve is a straight line over the logarithm of the tokens; "
            f"around a crossing they lie up to a factor of {widest:.2f} apart.{coarse}"
        )

    def to_markdown(self) -> str:
        """Return the answer for a person."""
        others = [arm for arm in self.runs if arm != self.baseline]
        said = [f"- {arm} {self.sentence(arm)}." for arm in others if self.factor(arm)]
        return document("Tokens to a target", self.to_table(), "\n".join(said))


def speed(
    runs: Source,
    rules: Rules | None = None,
    *,
    target: float | None = None,
    credit: float | None = None,
) -> Speed:
    """Compare what the arms spend to reach a validation loss.

    Parameters
    ----------
    runs
        As for `analysis.compare`; a table has one line a step here (`analysis.runs.curves`).
    rules
        Baseline, alpha and variance; the metric is the curve's, ``val_loss`` by default.
    target
        Nats per token; None: the highest last loss of the baseline's runs, which all of them reach.
    credit
        Nats that a hundred steps are worth: then no crossing is looked for, and each run's last
        loss is turned into steps (0.0045 in modded-nanogpt's track 3).

    Raises
    ------
    AnalysisError
        No curves, a target that the baseline does not reach, a credit that is not above 0.
    """
    rules = rules or Rules()
    metric = VALIDATION if rules.metric == Rules().metric else rules.metric
    curves = read_curves(as_runs(runs), metric)
    base = [curve for curve in curves if curve.run["arm"] == rules.baseline]
    if not base:
        raise AnalysisError(
            f"no complete run of {rules.baseline!r} has logged {metric}: set eval.n_val above 0, "
            "or name the baseline with --baseline"
        )
    if credit is not None and not credit > 0:
        raise AnalysisError(f"--credit {credit:g}: nats for {CREDIT_STEPS} steps, above 0")
    given, why = target, "as asked for"
    if given is None:
        given = max(_last(curve) for curve in base)
        why = f"the highest last loss of the {len(base)} runs of {rules.baseline}"
    reached: dict[str, list[Reached]] = {rules.baseline: []}
    for curve in curves:
        crossings = _credited(curve, given, credit) if credit else _crossings(curve, given)
        reached.setdefault(curve.run["arm"], []).append(Reached(curve, crossings))
    _refuse_late_baseline(reached[rules.baseline], given, rules.baseline)
    compared = {cost: _compare(reached, cost, rules) for cost in COSTS if _known(reached, cost)}
    return Speed(given, why, reached, compared, credit)


def with_speed(result: Comparison, found: Speed | None) -> Comparison:
    """Return the comparison with the arms' token factors in its table."""
    if found is None:
        return result
    nothing = (np.nan,) * len(RATIO)
    factors = {arm: found.factor(arm) for arm in found.runs}
    ends = [
        (factor.ratio, factor.low, factor.high) if (factor := factors.get(arm)) else nothing
        for arm in result.table["arm"]
    ]
    table = result.table.copy()
    table[list(RATIO)] = ends
    return replace(result, table=table)


def compare_with_speed(runs: Runs, rules: Rules) -> Comparison:
    """Return the comparison, with token factors where the runs have curves and losses compared."""
    result = compare(runs, rules)
    if is_foreign(runs.frame) or rules.metric != Rules().metric:
        return result
    try:
        return with_speed(result, speed(runs, replace(rules, alpha=result.alpha)))
    except AnalysisError:  # no validations, or none that the baseline comes down to
        return result


def _row_of(result: Comparison, arm: str) -> dict[Hashable, Any]:
    return next(row for row in result.table.to_dict("records") if row["arm"] == arm)


def _last(curve: Curve) -> float:
    return float(curve.loss[np.isfinite(curve.loss)][-1])


def _crossings(curve: Curve, target: float) -> dict[str, Crossing]:
    return {cost: first_crossing(x, curve.loss, target) for cost, x in curve.costs.items()}


def _credited(curve: Curve, target: float, credit: float) -> dict[str, Crossing]:
    """Return the cost at which the run would have met the target, by its last loss."""
    steps = CREDIT_STEPS * (_last(curve) - target) / credit
    share = 1 + steps / curve.step[-1]
    return {
        cost: Crossing(float(share * x[-1]) if share > 0 else None, float(x[-1]), 1.0)
        for cost, x in curve.costs.items()
    }


def _refuse_late_baseline(runs: Sequence[Reached], target: float, baseline: str) -> None:
    late = [run for run in runs if run.cost(TOKENS) is None]
    if late:
        lowest = max(float(np.nanmin(run.curve.loss)) for run in late)
        raise AnalysisError(
            f"{len(late)} of {len(runs)} runs of {baseline} never reach {target:g}: choose a "
            f"--target of {lowest:.4f} or more"
        )


def _known(reached: dict[str, list[Reached]], cost: str) -> bool:
    return all(cost in run.crossings for runs in reached.values() for run in runs)


def _compare(reached: dict[str, list[Reached]], cost: str, rules: Rules) -> Comparison:
    """Compare the log costs of the arms of which every run came to the target."""
    rows = [
        run.curve.run | {LOG_COST: log(spent)}
        for runs in reached.values()
        if all(run.cost(cost) is not None for run in runs)
        for run in runs
        if (spent := run.cost(cost))
    ]
    frame = pd.DataFrame(rows).drop(columns=["loss", "folder", "published_delta"], errors="ignore")
    return compare(
        frame, replace(rules, metric=LOG_COST, rope=None, references=(), higher_is_better=False)
    )
