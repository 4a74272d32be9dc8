"""Does an effect survive scale? Studies of the same arms at several sizes, and a line through them.

Every arm's difference from its baseline is drawn against the logarithm of the compute of one
baseline run, by random-effects meta-regression (`analysis.stats.meta`), up to a target size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import exp, log10

import numpy as np
import pandas as pd
from scipy import stats

from analysis.comparison.compare import Source, as_runs, compare
from analysis.comparison.result import Comparison
from analysis.comparison.rules import Rules
from analysis.errors import AnalysisError
from analysis.questions.speed import Speed
from analysis.questions.tokens_to_target import speed_if_known
from analysis.runs.curves import TOKENS
from analysis.runs.frame import Runs
from analysis.stats.meta import FEWEST, Line, fit_line
from analysis.stats.seed_correlation import CONFIDENCE
from analysis.table import Column, Item, Table, document, figure, interval, words
from analysis.text import DASH, digits

FLOPS_PER_WEIGHT = 6.0
"""Of a training token (Kaplan et al. 2020, section 2.1), where FLOPs are not given."""


@dataclass(frozen=True, slots=True)
class Difference:
    """An arm's difference from the baseline, with its standard error."""

    delta: float
    se: float


@dataclass(frozen=True, slots=True)
class Study:
    """One size: its comparison and what a baseline run costs there."""

    name: str
    flops: float
    comparison: Comparison
    speed: Speed | None = None

    def difference(self, arm: str) -> Difference | None:
        """Return the arm's difference from the baseline; None: it has none here."""
        return _difference(self.comparison, arm)

    def log_factor(self, arm: str) -> Difference | None:
        """Return the logarithm of the arm's token factor; None: it has none here."""
        if self.speed is None or self.speed.factor(arm) is None:
            return None
        return _difference(self.speed.compared[TOKENS].comparison, arm)


@dataclass(frozen=True, slots=True)
class Trend:
    """An arm along the sizes."""

    arm: str
    x: tuple[float, ...]
    """Log10 of the FLOPs of the sizes where it was measured."""
    y: tuple[float, ...]
    se: tuple[float, ...]
    line: Line | None
    """None: fewer than three sizes."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What is known of every arm at a target size."""

    studies: tuple[Study, ...]
    """From the cheapest to the dearest."""
    target: float
    """FLOPs of one run."""
    trends: tuple[Trend, ...]
    """Of differences, nats per token."""
    factors: tuple[Trend, ...] = ()
    """Of the logarithms of token factors, for arms that have one at every size."""
    rules: Rules = field(default_factory=Rules)
    """By which every size was judged."""

    def agreement(self) -> list[float]:
        """Return Kendall's tau between the order of the arms at each size and at the largest."""
        common = [t for t in self.trends if len(t.y) == len(self.studies)]
        order = np.array([t.y for t in common])
        if len(common) < 2:
            return []
        return [
            float(stats.kendalltau(order[:, i], order[:, -1]).statistic)
            for i in range(len(self.studies) - 1)
        ]

    def to_table(self) -> Table:
        """Return one row an arm: its difference at each size, the trend, and the target."""
        percent = f"{100 * CONFIDENCE:g}%"
        decimals = digits(max((max(t.se) for t in self.trends), default=0.01))
        head = [Column("arm", numeric=False)]
        head += [Column(f"{study.flops:.2g} FLOPs") for study in self.studies]
        head += [
            Column("per tenfold", help=f"change of the difference, with its {percent} interval"),
            Column(f"at {self.target:.2g} FLOPs", help=f"with a {percent} prediction interval"),
            Column("tokens there", help="share of the baseline's tokens for its loss"),
            Column("outlook", numeric=False),
        ]
        ordered = sorted(self.trends, key=self._expected, reverse=self.rules.higher_is_better)
        rows = [self._row(trend, decimals) for trend in ordered]
        title = "The difference from the baseline along the sizes"
        return Table("scale", title, head, rows, tuple(self.notes()))

    def _expected(self, trend: Trend) -> float:
        return trend.line.at(log10(self.target)) if trend.line else trend.y[-1]

    def _row(self, trend: Trend, decimals: int) -> list[Item]:
        at = dict(zip(trend.x, trend.y, strict=True))
        shown = [figure(at.get(log10(s.flops)), decimals, sign=True) for s in self.studies]
        if trend.line is None:
            return [words(trend.arm), *shown, *[Item(DASH)] * 3, words("fewer than 3 sizes")]
        line, x = trend.line, log10(self.target)
        half = line.half_width(x, new=True)
        reach = line.quantile * line.slope_se
        slope = interval(line.slope - reach, line.slope + reach, decimals)
        middle = line.at(x)
        ends = interval(middle - half, middle + half, decimals)
        value = figure(middle, decimals, sign=True)
        good = (middle > 0) == self.rules.higher_is_better
        outlook = "open" if abs(middle) < half else "better" if good else "worse"
        return [
            words(trend.arm),
            *shown,
            Item(f"{figure(line.slope, decimals, sign=True).text} {slope.text}", line.slope),
            Item(f"{value.text} {ends.text}", middle),
            self._factor(trend.arm, x),
            words(outlook),
        ]

    def _factor(self, arm: str, x: float) -> Item:
        found = next((t for t in self.factors if t.arm == arm and t.line), None)
        if found is None or found.line is None:
            return Item(DASH)
        middle, half = found.line.at(x), found.line.half_width(x, new=True)
        ends = (exp(middle), exp(middle - half), exp(middle + half))
        return Item("{:.2f} [{:.2f}, {:.2f}]".format(*ends), ends[0])

    def notes(self) -> list[str]:
        """Return what to know when reading the figures."""
        sizes = ", ".join(f"{study.name} {study.flops:.3g}" for study in self.studies)
        found = [
            f"FLOPs of one baseline run: {sizes}. The line over their logarithm is a "
            "random-effects meta-regression (REML, Knapp-Hartung), each arm for itself; the "
            "interval at the target is where the true difference of one more study there would lie."
        ]
        if len(self.studies) < FEWEST:
            found.append(
                f"{len(self.studies)} size(s): a trend with an interval needs {FEWEST} or more."
            )
        elif len(self.studies) < FEWEST + 2:
            found.append(
                f"{len(self.studies)} sizes leave {len(self.studies) - 2} df, so the intervals are "
                "wide: that is what so few sizes can say."
            )
        beyond = self.target / self.studies[-1].flops
        if beyond > 10:
            found.append(f"The target is {beyond:.3g} times the largest size: far from the data.")
        if agreement := self.agreement():
            said = ", ".join(
                f"{study.name} {tau:+.2f}"
                for study, tau in zip(self.studies, agreement, strict=False)
            )
            found.append(f"Order of the arms against the largest size's (Kendall's tau): {said}.")
        return found

    def to_markdown(self) -> str:
        """Return the answer for a person."""
        return document("Effect against scale", self.to_table())


def scale(
    sources: Sequence[Source],
    rules: Rules | None = None,
    *,
    at: float | None = None,
) -> Scale:
    """Draw every arm's difference against the compute of a run.

    Parameters
    ----------
    sources
        One study for each size, as for `analysis.compare`; a table needs ``flops``, or ``tokens``
        and ``n_params``, and may hold several sizes told apart by a column ``study``.
    rules
        Baseline, metric and variance, for every study.
    at
        FLOPs of one run at the size that is asked about; None: ten times the largest.

    Raises
    ------
    AnalysisError
        No study, one whose compute is not known, two of equal size, no arm in two of them.
    """
    rules = rules or Rules()
    parts = [part for source in sources for part in _by_study(as_runs(source))]
    studies = tuple(sorted((_study(part, rules) for part in parts), key=lambda s: s.flops))
    sizes = [study.flops for study in studies]
    if len(set(sizes)) < 2:
        raise AnalysisError(
            f"{len(studies)} study of one size: name studies of the same arms at two or more "
            "sizes, e.g. runs/ladder_*"
        )
    for study, dearer in pairwise(studies):
        if study.flops == dearer.flops:
            raise AnalysisError(
                f"{study.name} and {dearer.name} are of one size, {study.flops:.3g} FLOPs: name "
                "one of them; runs of one size are compared as one study"
            )
    if at is not None and not at > 0:
        raise AnalysisError(f"--at {at:g}: FLOPs of one run, above 0")
    arms = dict.fromkeys(arm for study in studies for arm in study.comparison.arms[1:])
    trends = [_trend(arm, studies, Study.difference) for arm in arms]
    factors = [_trend(arm, studies, Study.log_factor) for arm in arms]
    return Scale(
        studies,
        at or 10 * sizes[-1],
        tuple(t for t in trends if t.y),
        tuple(t for t in factors if len(t.y) == len(studies)),
        rules=rules,
    )


def _by_study(runs: Runs) -> list[Runs]:
    """Return the runs of each study apart: they differ in size."""
    frame = runs.frame
    if "study" not in frame or frame["study"].nunique() < 2:
        return [runs]
    return [
        Runs(part.reset_index(drop=True), {n: p for n, p in runs.plans.items() if n == name},
             given=runs.given, taken_from=runs.taken_from)
        for name, part in frame.groupby("study", sort=False)
    ]  # fmt: skip


def _study(runs: Runs, rules: Rules) -> Study:
    names = list(runs.frame["study"].dropna().unique()) if "study" in runs.frame else []
    name = str(names[0]) if len(names) else runs.stem.removesuffix("_results")
    result = compare(runs, rules)
    return Study(name, _flops(runs, rules.baseline, name), result, speed_if_known(runs, rules))


def _flops(runs: Runs, baseline: str, name: str) -> float:
    """Return the mean FLOPs of a complete baseline run."""
    frame = runs.frame
    done = frame[(frame["arm"] == baseline) & (frame["status"] == "complete")]
    columns = [c for c in ("flops", "tokens", "n_params") if c in done]
    numbers = done[columns].apply(pd.to_numeric, errors="coerce")
    flops = numbers["flops"] if "flops" in numbers else pd.Series(dtype=float)
    if flops.notna().any():
        return float(flops.mean())
    if {"tokens", "n_params"} <= set(numbers):
        estimate = FLOPS_PER_WEIGHT * numbers["tokens"] * numbers["n_params"]
        if estimate.notna().any():
            return float(estimate.mean())
    raise AnalysisError(
        f"the compute of {name} is not known: a column flops is needed, or tokens and n_params"
    )


def _difference(result: Comparison, arm: str) -> Difference | None:
    for row in result.table.to_dict("records"):
        if row["arm"] == arm and np.isfinite(row["se"]):
            return Difference(float(row["delta"]), float(row["se"]))
    return None


def _trend(
    arm: str, studies: Sequence[Study], of: Callable[[Study, str], Difference | None]
) -> Trend:
    found = [(log10(study.flops), point) for study in studies if (point := of(study, arm))]
    x = tuple(place for place, _ in found)
    y, se = tuple(point.delta for _, point in found), tuple(point.se for _, point in found)
    line = fit_line(np.array(x), np.array(y), np.array(se) ** 2) if len(x) >= FEWEST else None
    return Trend(arm, x, y, se, line)
