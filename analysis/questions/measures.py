"""Several measures of one study side by side, and what a lower loss was worth in each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import special, stats

from analysis.comparison.result import Comparison
from analysis.comparison.verdict import Kind
from analysis.table import Item, Table, columns, figure, interval, words

LOSS_STEP = 0.05
"""Nats per token that an exchange rate is said for."""
FEWEST_ARMS = 3
"""Arms besides the baseline below which a line through them says nothing."""


@dataclass(frozen=True, slots=True)
class Effect:
    """An arm's difference to the baseline in one measure, with its simultaneous interval."""

    delta: float
    low: float
    high: float
    verdict: str = ""

    @classmethod
    def around(cls, delta: float, half_width: float, verdict: str) -> Effect:
        """Return an effect with a symmetric interval."""
        return cls(delta, delta - half_width, delta + half_width, verdict)


@dataclass(frozen=True, slots=True)
class Measure:
    """One way to say how good an arm is."""

    name: str
    unit: str
    higher_is_better: bool
    effects: dict[str, Effect]
    """By arm, the baseline left out."""
    digits: int
    references: dict[str, Effect] = field(default_factory=dict)
    """Other models, which are shown and take no part in what a lower loss was worth."""

    @property
    def shown(self) -> dict[str, Effect]:
        """Arms and other models."""
        return self.effects | self.references


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a lower loss was worth in another measure, over the arms of this study."""

    measure: Measure
    gain: float
    """In the measure's unit for a loss lower by `LOSS_STEP`."""
    low: float
    high: float
    """95% interval; NaN with too few arms."""
    tau: float
    """Kendall's rank correlation of the two measures over the arms, 1: the same order."""
    n_arms: int

    def sentence(self) -> str:
        """Return it in words."""
        digits, arms = self.measure.digits, f"{self.n_arms} arm{'s' * (self.n_arms != 1)}"
        said = f"{LOSS_STEP:g} nats were worth {self.gain:+.{digits}f}"
        said += f" [{self.low:+.{digits}f}, {self.high:+.{digits}f}]" * bool(np.isfinite(self.low))
        said += f" {self.measure.unit} in this study, over {arms} beside the baseline"
        said += f" (no interval below {FEWEST_ARMS} arms)" * bool(np.isnan(self.low))
        tau = f"; rank agreement (Kendall's tau) {self.tau:+.2f}" if np.isfinite(self.tau) else ""
        return f"{said}{tau}."


def loss_measure(comparison: Comparison) -> Measure:
    """Return the test loss as a measure."""
    rows = comparison.table.to_dict("records")
    effects = {
        str(row["arm"]): Effect(
            row["delta"], row["ci_low"], row["ci_high"], str(comparison.verdicts[row["arm"]])
        )
        for row in rows
        if row["arm"] != comparison.rules.baseline and np.isfinite(row["delta"])
    }
    others = {a for a in effects if comparison.verdicts[a].kind is Kind.REFERENCE}
    return Measure(
        "test loss",
        "nats per token",
        comparison.rules.higher_is_better,
        {arm: effect for arm, effect in effects.items() if arm not in others},
        4,
        {arm: effect for arm, effect in effects.items() if arm in others},
    )


def exchange(loss: Measure, other: Measure) -> Exchange:
    """Fit the other measure's difference to the loss's by a line through the baseline.

    Plain least squares: the losses of a study are far surer than what they are compared with. Its
    interval is by the arms' scatter around the line.
    """
    arms = [arm for arm in loss.effects if arm in other.effects]
    x = np.array([loss.effects[arm].delta for arm in arms])
    y = np.array([other.effects[arm].delta for arm in arms])
    gained = LOSS_STEP if loss.higher_is_better else -LOSS_STEP
    square = float(x @ x)
    slope = float(x @ y) / square if square > 0 else math.nan
    low = high = math.nan
    if len(arms) >= FEWEST_ARMS and square > 0:
        df = len(arms) - 1
        se = float(np.sqrt(((y - slope * x) ** 2).sum() / df / square))
        half = float(special.stdtrit(df, 0.975)) * se * LOSS_STEP
        low, high = slope * gained - half, slope * gained + half
    sign = 1 if loss.higher_is_better == other.higher_is_better else -1
    few = len(arms) + 1 < FEWEST_ARMS
    tau = math.nan if few else sign * stats.kendalltau([*x, 0.0], [*y, 0.0]).statistic
    return Exchange(other, slope * gained, low, high, tau, len(arms))


def side_by_side(loss: Measure, others: Sequence[Measure], worth: Sequence[Measure] = ()) -> Table:
    """Return one row an arm: each measure's difference, interval and verdict.

    The notes say what a lower loss was worth in the others, and in what is only `worth` saying so.
    """
    measures = [loss, *others]
    arms = sorted(loss.shown, key=lambda arm: loss.shown[arm].delta)
    arms += [arm for other in others for arm in other.shown if arm not in arms]
    labels = [label for m in measures for label in (m.name, f"{m.name} CI", f"by {m.name}")]
    heads = columns("arm", *labels, text=("arm", *(f"by {m.name}" for m in measures)))
    rows = [
        [words(arm), *(item for m in measures for item in _items(m, m.shown.get(arm)))]
        for arm in dict.fromkeys(arms)
    ]
    notes = tuple(exchange(loss, other).sentence() for other in (*others, *worth))
    caption = "Measures side by side, each against the baseline"
    return Table("measures", caption, heads, rows, notes)


def _items(measure: Measure, effect: Effect | None) -> list[Item]:
    if effect is None:
        return [figure(None, 1), interval(None, None, 1), words("–")]
    return [
        figure(effect.delta, measure.digits, sign=True),
        interval(effect.low, effect.high, measure.digits),
        words(effect.verdict),
    ]
