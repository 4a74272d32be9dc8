"""From estimates to words: adjusted p values, intervals, verdicts, and what they would cost.

Shapes: T arms other than the baseline.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
import pandas as pd
from scipy import special

from analysis.comparison.estimate import Estimate
from analysis.comparison.noise_band import NoiseBand
from analysis.comparison.rules import Practical, Rules
from analysis.runs.frame import Runs
from analysis.runs.ledger import Ledger
from analysis.stats.dunnett import (
    Array,
    critical_value,
    critical_values,
    one_factor_loadings,
    step_down,
    two_sided_p,
)
from analysis.stats.linear import DF_ROUNDING, FEWEST_DF, Fit
from analysis.stats.power import power

_TINY = float(np.finfo(float).tiny)
LEAST_DF = 0.5
"""Below this an se says nothing, and t quantiles run out of digits: no figures are given."""


class Kind(StrEnum):
    """What a verdict says."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "no practical difference"
    UNDECIDED = "undecided"
    BASELINE = ""
    """The baseline's own row."""
    REFERENCE = "reference"
    """A figure that enters no statistics."""
    NO_RUN = "no complete run"

    @property
    def real(self) -> bool:
        """Whether there is a difference."""
        return self in (Kind.BETTER, Kind.WORSE)


JUDGED = (Kind.BETTER, Kind.WORSE, Kind.SAME, Kind.UNDECIDED)
"""Kinds of arms that were compared with the baseline."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one arm's figures show; text is made of it, nothing is read out of text."""

    kind: Kind
    small: bool = False
    """Real, but the whole simultaneous interval lies within the practical size."""
    n: int = 0
    """Complete runs."""
    n_diverged: int = 0
    why: str = ""
    """Of an arm without a complete run: what became of its runs."""

    def __str__(self) -> str:
        text = f"{self.kind} (below practical size)" if self.small else str(self.kind)
        if self.kind is Kind.NO_RUN:
            return f"{text} ({self.why})"
        if self.n_diverged:
            return f"{text} ({self.n_diverged} of {self.n + self.n_diverged} diverged)"
        return text


@dataclass(frozen=True, slots=True)
class Judged:
    """All figures of the T arms, each (T,); differences are arm minus baseline, in nats/token."""

    delta: Array
    se: Array
    df: Array
    ci_low: Array
    """Simultaneous interval: single-step Dunnett."""
    ci_high: Array
    p_raw: Array
    p_adj: Array
    """Step-down Dunnett."""
    inside_rope: tuple[bool, ...]
    """The pointwise interval of two one-sided tests lies within the practical size."""
    breakeven_sd: Array
    """Noise sd of one run below which the simultaneous interval would leave out 0.

    A step-down verdict asks for less where other arms are clearer, never for more.
    """
    power_at_rope: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Runs, what was estimated from them, and each arm's verdict: what table and checks read."""

    source: Runs
    """As prepared, whatever their status."""
    done: pd.DataFrame
    """The complete runs that count."""
    rules: Rules
    estimate: Estimate
    noise: NoiseBand | None
    """Where one more baseline run would fall; None: the baseline has too few runs."""
    alpha: float
    practical: Practical
    ledger: Ledger
    judged: Judged | None = None
    """None: no verdict can be given."""
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    """By arm, for every row of the table."""
    looks: Looks | None = None
    """Of a study that is looked at while it runs."""

    @property
    def runs(self) -> pd.DataFrame:
        """The runs that were read, whatever their status."""
        return self.source.frame

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms with a complete run, the baseline first."""
        return self.estimate.arms


@dataclass(frozen=True, slots=True)
class Looks:
    """What to say of a study with looks."""

    note: str
    stopped_early: tuple[str, ...] = ()
    """Arms decided before the last look: their estimates are biased outward."""


def judge_arms(judgement: Judgement) -> Judgement:
    """Return the judgement with every arm's figures and verdict."""
    given, fitted = judgement, judgement.estimate
    judged = None
    if fitted.fit is not None and fitted.obstacle is None and len(fitted.arms) > 1:
        judged = judge(fitted.fit, given.alpha, given.practical.size or _TINY)
    found = [Verdict(Kind.UNDECIDED)] * (len(fitted.arms) - 1)
    if judged is not None:
        higher = given.rules.higher_is_better
        found = verdicts(judged, given.alpha, given.practical.size or 0.0, higher_is_better=higher)
    by_arm = dict(zip(fitted.arms, [Verdict(Kind.BASELINE), *found], strict=True))
    return replace(given, judged=judged, verdicts=_with_counts(by_arm, given))


def _with_counts(verdicts: dict[str, Verdict], judgement: Judgement) -> dict[str, Verdict]:
    """Return the verdicts with each arm's runs counted, and those of lost arms and references."""
    runs, done = judgement.runs, judgement.done
    states = {str(arm): group.value_counts() for arm, group in runs.groupby("arm")["status"]}
    complete = done.groupby("arm").size()
    found = {
        arm: replace(v, n=int(complete[arm]), n_diverged=int(states[arm].get("diverged", 0)))
        for arm, v in verdicts.items()
    }
    for arm in sorted(set(states) - set(found)):
        why = ", ".join(f"{count} {status}" for status, count in states[arm].items())
        lost = int(states[arm].get("diverged", 0))
        found[arm] = Verdict(Kind.NO_RUN, n_diverged=lost, why=why)
    return found | {name: Verdict(Kind.REFERENCE) for name, _ in judgement.rules.references}


def judge(fit: Fit, alpha: float, rope: float) -> Judged:
    """Compare every arm with the baseline.

    Parameters
    ----------
    fit
        With at least one arm beside the baseline.
    alpha
        Family error of the adjusted p values and intervals.
    rope
        Practically relevant difference, nats per token.
    """
    contrasts = fit.against_baseline()
    delta, se = contrasts.estimate, contrasts.se
    df = contrasts.df
    if fit.method == "squeezed":
        df = np.full_like(df, df.min())
    loadings = one_factor_loadings(contrasts.correlation)
    if not ((se > 0) & (df > LEAST_DF)).all():
        return _without_noise(delta, se, df)
    t = delta / se
    critical = critical_values(loadings, df, alpha)
    half = np.asarray(special.stdtrit(df, 1 - alpha)) * se
    return Judged(
        delta=delta,
        se=se,
        df=df,
        ci_low=delta - critical * se,
        ci_high=delta + critical * se,
        p_raw=two_sided_p(t, df),
        p_adj=step_down(t, loadings, df),
        inside_rope=tuple(bool(x) for x in (delta - half > -rope) & (delta + half < rope)),
        breakeven_sd=fit.sd_total * np.abs(t) / critical,
        power_at_rope=_powers(np.full_like(delta, rope) / se, df, critical),
    )


def breakeven_without_noise(delta: Array, n: Array, alpha: float) -> Array:
    """Return the noise sd that would make each difference real, from single runs alone.

    Parameters
    ----------
    delta
        (T,) differences from the baseline, nats per token.
    n
        (A,) runs of each arm, the baseline first.
    alpha
        Family error.

    Examples
    --------
    One published run of a baseline and of one arm, 0.051 apart:

    >>> breakeven_without_noise(np.array([-0.051]), np.array([1.0, 1.0]), 0.05).round(4)
    array([0.0184])
    """
    loadings = np.sqrt(n[1:] / (n[1:] + n[0]))
    critical = critical_value(loadings, np.inf, alpha)
    return np.asarray(np.abs(delta) / (critical * np.sqrt(1 / n[1:] + 1 / n[0])))


def verdicts(judged: Judged, alpha: float, rope: float, *, higher_is_better: bool) -> list[Verdict]:
    """Say what each arm's figures show, in the order: real, practically equal, undecided."""
    found = []
    for i, delta in enumerate(judged.delta):
        if not judged.df[i] >= FEWEST_DF - DF_ROUNDING or not judged.se[i] > 0:
            found.append(Verdict(Kind.UNDECIDED))
        elif judged.p_adj[i] < alpha:
            kind = Kind.BETTER if (delta > 0) == higher_is_better else Kind.WORSE
            small = judged.ci_low[i] > -rope and judged.ci_high[i] < rope
            found.append(Verdict(kind, small=bool(small)))
        else:
            found.append(Verdict(Kind.SAME if judged.inside_rope[i] else Kind.UNDECIDED))
    return found


def _powers(noncentrality: Array, df: Array, critical: Array) -> Array:
    cache: dict[tuple[float, ...], float] = {}
    values = []
    for key in zip(noncentrality.round(6), df.round(4), critical.round(6), strict=True):
        if key not in cache:
            cache[key] = float(power([key[0]], key[1], key[2])[0])
        values.append(cache[key])
    return np.array(values)


def _without_noise(delta: Array, se: Array, df: Array) -> Judged:
    nothing = np.full_like(delta, np.nan)
    return Judged(
        delta,
        se,
        df,
        nothing,
        nothing,
        nothing,
        nothing,
        (False,) * len(delta),
        nothing,
        nothing,
    )
