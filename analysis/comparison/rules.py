"""How arms are compared: fixed before the runs are looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from analysis.comparison.estimate import MODERATED, Estimate
from analysis.comparison.noise_band import NoiseBand
from analysis.errors import AnalysisError, require_alpha
from harness.records import BASELINE, StudyPlan

Plans = Mapping[str, StudyPlan]
FORMER = {"rope": "practical_size"}
"""A rule's first name, which plans and results have kept, and calls may use -> its name."""
WORDS = {"alpha": "alpha", "rope": "the practical size"}
OPTION = {"alpha": "--alpha", "rope": "--practical-size"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How to compare; fixed before the runs are looked at."""

    baseline: str = BASELINE
    metric: str = "test_loss"
    """Column to compare, in nats per token by default."""
    alpha: float | None = None
    """Probability of at least one wrong `better` or `worse` among the arms, at most; equivalence
    has the same error for itself. None: the plan's, else 0.05."""
    practical_size: float | None = None
    """Practically relevant difference in the metric's unit; None: the plan's, else one sd."""
    variance: str = MODERATED
    """``moderated`` or ``pooled``; see `analysis.comparison.estimate`."""
    higher_is_better: bool = False
    allow_reruns: bool = False
    references: tuple[tuple[str, float], ...] = ()
    """Names and figures that stand in the table without entering the statistics."""

    def unit(self, before: str = " ") -> str:
        """Return the metric's unit after `before`: a loss has one, nothing is known of others.

        Examples
        --------
        >>> Rules().unit(", "), Rules(metric="val_acc").unit()
        (', nats per token', '')
        """
        loss = self.metric.endswith("loss") and not self.higher_is_better
        return f"{before}nats per token" if loss else ""


class Origin(StrEnum):
    """Where a practical size comes from."""

    CALL = "given on this call"
    PLAN = "declared in the study's plan"
    BASELINE_SD = "1 x sd of the {n} baseline runs, not declared before the runs"
    RUN_SD = "1 x sd of a run, not declared before the runs"
    NONE = "nothing to derive it from: give --practical-size"


@dataclass(frozen=True, slots=True)
class Practical:
    """The practically relevant difference of a comparison."""

    size: float | None
    """In the metric's unit; None: nothing to take it from."""
    origin: Origin
    source: str = ""
    """The origin in words."""

    @property
    def declared(self) -> float | None:
        """The size where a person chose it."""
        return self.size if self.origin in (Origin.CALL, Origin.PLAN) else None


def check_rules(rules: Rules | None, changes: dict[str, Any]) -> Rules:
    """Return rules with single fields changed, or refuse them."""
    changes = {FORMER.get(name, name): value for name, value in changes.items()}
    known = [field.name for field in dataclasses.fields(Rules)]
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise AnalysisError(f"unknown rule {unknown[0]!r}: allowed are {', '.join(known)}")
    chosen = dataclasses.replace(rules or Rules(), **changes)
    if chosen.alpha is not None:
        require_alpha(chosen.alpha)
    if chosen.practical_size is not None and not chosen.practical_size > 0:
        raise AnalysisError(
            f"the practical size is {chosen.practical_size:g}: the practically relevant "
            "difference must be above 0"
        )
    return chosen


def agreed(given: float | None, plans: Plans, name: str) -> float | None:
    """Return what was asked for now, else what all the plans agree on."""
    if given is not None:
        return given
    values = {getattr(plan, name) for plan in plans.values()} - {None}
    if len(values) > 1:
        listed = ", ".join(f"{value:g}" for value in sorted(values))
        raise AnalysisError(
            f"the plans of {', '.join(plans)} declare different values of {WORDS[name]} "
            f"({listed}): choose one with {OPTION[name]}"
        )
    return values.pop() if values else None


def practical_size(
    rules: Rules, plans: Plans, band: NoiseBand | None, fitted: Estimate
) -> Practical:
    """Return the practical size: as asked for, as planned, or one sd of what is there."""
    origin, size = Origin.NONE, None
    if rules.practical_size is not None:
        origin, size = Origin.CALL, rules.practical_size
    elif (planned := agreed(None, plans, "rope")) is not None:
        origin, size = Origin.PLAN, planned
    elif band is not None and band.K >= 3 and band.sd > 0:
        origin, size = Origin.BASELINE_SD, band.sd
    elif fitted.fit is not None and fitted.obstacle is None and fitted.fit.sd_total > 0:
        origin, size = Origin.RUN_SD, fitted.fit.sd_total
    return Practical(size, origin, origin.format(n=band.K if band else 0))


def refuse_other_rules(rules: Rules, plans: Plans) -> None:
    """Refuse another rule than the one that a study with looks has spent its alpha by."""
    for plan in [plan for plan in plans.values() if plan.looks and len(plans) == 1]:
        for name, words in WORDS.items():
            given, fixed = getattr(rules, FORMER.get(name, name)), getattr(plan, name)
            if None not in (given, fixed) and given != fixed:
                raise AnalysisError(
                    f"{words} is {given:g}, but the plan of {plan.study}, which has looks, fixed "
                    f"{fixed:g} before the runs: leave it out, or try others with "
                    "python -m analysis sequential"
                )
