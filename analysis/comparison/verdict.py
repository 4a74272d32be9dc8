"""From estimates to words: adjusted p values, intervals, verdicts, and what they would cost.

Shapes: T arms other than the baseline.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
import pandas as pd

from analysis.comparison.estimate import Estimate
from analysis.comparison.noise_band import NoiseBand
from analysis.comparison.rules import Practical, Rules
from analysis.runs.cell.test_set import TestText
from analysis.runs.frame import TWIN, Runs
from analysis.runs.ledger import Ledger
from analysis.stats.dunnett import Array, critical_value
from analysis.stats.linear import ENOUGH_DF
from analysis.stats.moderated.model import Model
from analysis.stats.worst_rank import worst_rank

_TINY = float(np.finfo(float).tiny)
LEAST_DF = 0.5
"""Below this an se says nothing, and t quantiles run out of digits: no figures are given."""


class Kind(StrEnum):
    """What a verdict says."""

    BETTER = "better"
    WORSE = "worse"
    CONVERGED = "better where it converged"
    """Better in the runs that survived, but not with those that diverged ranked last."""
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


JUDGED = (Kind.BETTER, Kind.WORSE, Kind.CONVERGED, Kind.SAME, Kind.UNDECIDED)
"""Kinds of arms that were compared with the baseline."""


class Size(StrEnum):
    """How large a real difference is beside a declared practical size."""

    BEYOND = " (beyond practical size)"
    """The whole simultaneous interval lies beyond it."""
    UNQUALIFIED = ""
    """The interval holds it, or nobody declared one."""
    BELOW = " (below practical size)"
    """The whole simultaneous interval lies within it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one arm's figures show; text is made of it, nothing is read out of text."""

    kind: Kind
    size: Size = Size.UNQUALIFIED
    """Of a difference that is real."""
    n: int = 0
    """Complete runs."""
    n_diverged: int = 0
    why: str = ""
    """Of an arm without a complete run: what became of its runs."""
    on_this_text: bool = False
    """Of a difference that is real here, and that another test text might undo."""

    def __str__(self) -> str:
        text = f"{self.kind}{' on this text' if self.on_this_text else ''}{self.size}"
        if self.kind is Kind.NO_RUN:
            return f"{text} ({self.why})"
        if self.n_diverged:
            return f"{text} ({self.n_diverged} of {self.n + self.n_diverged} diverged)"
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """All figures of the T arms, each (T,); differences are arm minus baseline, in nats/token."""

    delta: Array
    se: Array
    """The model's, as if all arms were equally noisy."""
    df: Array
    ci_low: Array
    """Simultaneous interval."""
    ci_high: Array
    p_raw: Array
    p_adj: Array
    """Adjusted for the number of arms."""
    se_own: Array
    """By the difference's own variance alone."""
    p_own: Array
    """By the difference's own variance alone: paired t or Welch's."""
    equivalent: tuple[bool, ...]
    """Shown to lie within the declared practical size, for all arms together."""
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
    text: TestText | None = None
    """What all runs were tested on, where that is known."""
    looks: str = ""
    """What to say of a study that is looked at while it runs."""

    @property
    def runs(self) -> pd.DataFrame:
        """The runs that were read, whatever their status."""
        return self.source.frame

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms with a complete run, the baseline first."""
        return self.estimate.arms


def judge_arms(judgement: Judgement) -> Judgement:
    """Return the judgement with every arm's figures and verdict."""
    given, fitted, judged = judgement, judgement.estimate, None
    said = [Verdict(Kind.UNDECIDED)] * (len(fitted.arms) - 1)
    if fitted.judging is not None:
        judged = judge(fitted.judging, given.alpha, given.practical)
        higher = given.rules.higher_is_better
        said = verdicts(judged, given.alpha, given.practical, higher_is_better=higher)
    found = dict(zip(fitted.arms, [Verdict(Kind.BASELINE), *said], strict=True))
    found = with_lost(found, given.runs, given.done, given.rules, given.alpha)
    return replace(given, judged=judged, verdicts=found | _without_figures(given))


def with_lost(
    verdicts: dict[str, Verdict],
    runs: pd.DataFrame,
    done: pd.DataFrame,
    rules: Rules,
    alpha: float,
) -> dict[str, Verdict]:
    """Return the verdicts with each arm's runs counted; `done` are the complete ones that count.

    An arm that lost runs is better only if it is so with these ranked last. One that has the
    baseline's losses and of which two runs in five diverge would else be better in one study of
    six.
    """
    lost, complete = Counter(runs.loc[runs["status"] == "diverged", "arm"]), Counter(done["arm"])
    loss, base, higher = done.groupby("arm")["loss"], rules.baseline, rules.higher_is_better
    found = {}
    for arm, verdict in verdicts.items():
        found[arm] = replace(verdict, n=complete[arm], n_diverged=lost[arm])
        if verdict.kind is Kind.BETTER and lost[arm]:
            values, n_lost = (loss.get_group(arm), loss.get_group(base)), (lost[arm], lost[base])
            ranked = worst_rank(*values, n_lost, higher_is_better=higher)
            if not (ranked.p < alpha and ranked.lead > 0.5):
                found[arm] = replace(found[arm], kind=Kind.CONVERGED, size=Size.UNQUALIFIED)
    return found


def _without_figures(judgement: Judgement) -> dict[str, Verdict]:
    """Return the verdicts of arms without a complete run, and of references."""
    runs, found = judgement.runs, {}
    for arm, statuses in runs[~runs["arm"].isin(judgement.arms)].groupby("arm")["status"]:
        if set(statuses) != {TWIN}:
            counts = statuses.value_counts()
            why = ", ".join(f"{n} {status}" for status, n in counts.items())
            lost = int(counts.get("diverged", 0))
            found[str(arm)] = Verdict(Kind.NO_RUN, n_diverged=lost, why=why)
    return found | {name: Verdict(Kind.REFERENCE) for name, _ in judgement.rules.references}


def judge(model: Model, alpha: float, practical: Practical) -> Judged:
    """Compare every arm with the baseline, at family error `alpha`."""
    found = model.against_baseline()
    delta, se, df = found.found.estimate, found.found.se, found.found.df
    if not ((se > 0) & (df > LEAST_DF)).all():
        return _without_noise(delta, se, df)
    half = found.half_width(alpha)
    size = practical.size or _TINY
    equivalence = found.equivalence(size, alpha)
    same = (equivalence.p_adj < alpha) & (practical.declared is not None)
    # No interval that leaves the practical size stands beside "no practical difference".
    leaves = same & (found.p_adj >= alpha) & (np.abs(delta) + half >= size)
    shown = np.where(leaves, equivalence.half_width, half)
    return Judged(
        delta=delta,
        se=se,
        df=df,
        ci_low=delta - shown,
        ci_high=delta + shown,
        p_raw=found.p_raw,
        p_adj=found.p_adj,
        se_own=found.se_own,
        p_own=found.p_own,
        equivalent=tuple(bool(x) for x in same),
        breakeven_sd=model.fit.sd_total * np.abs(delta) / half,
        power_at_rope=found.power(size, half),
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


def verdicts(
    judged: Judged, alpha: float, practical: Practical, *, higher_is_better: bool
) -> list[Verdict]:
    """Say what each arm's figures show, in the order: real, practically equal, undecided."""
    found = []
    for i, delta in enumerate(judged.delta):
        if not judged.df[i] >= ENOUGH_DF or not judged.se[i] > 0:
            found.append(Verdict(Kind.UNDECIDED))
        elif judged.p_adj[i] < alpha:
            kind = Kind.BETTER if (delta > 0) == higher_is_better else Kind.WORSE
            found.append(Verdict(kind, _size(judged.ci_low[i], judged.ci_high[i], practical)))
        else:
            found.append(Verdict(Kind.SAME if judged.equivalent[i] else Kind.UNDECIDED))
    return found


def _size(low: float, high: float, practical: Practical) -> Size:
    rope = practical.declared
    if rope is None:
        return Size.UNQUALIFIED
    if -rope < low and high < rope:
        return Size.BELOW
    return Size.BEYOND if low > rope or high < -rope else Size.UNQUALIFIED


def _without_noise(delta: Array, se: Array, df: Array) -> Judged:
    nothing = np.full_like(delta, np.nan)
    names: tuple[str, ...] = ("ci_low", "ci_high", "p_raw", "p_adj", "se_own", "p_own")
    names += ("breakeven_sd", "power_at_rope")
    no_figures = dict.fromkeys(names, nothing)
    return Judged(delta=delta, se=se, df=df, equivalent=(False,) * len(delta), **no_figures)
