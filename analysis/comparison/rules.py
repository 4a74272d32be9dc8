"""How arms are compared: fixed before the runs are looked at."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from analysis.errors import AnalysisError, require_between
from harness.records import BASELINE


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How to compare; fixed before the runs are looked at."""

    baseline: str = BASELINE
    metric: str = "test_loss"
    """Column to compare, in nats per token by default."""
    alpha: float | None = None
    """Family error of all verdicts together; None: the plan's, else 0.05."""
    rope: float | None = None
    """Practically relevant difference in the metric's unit; None: the plan's, else one sd."""
    variance: str = "guarded"
    """``guarded``, ``pooled`` or ``squeezed``; see `analysis.comparison.estimate`."""
    higher_is_better: bool = False
    allow_reruns: bool = False
    references: tuple[tuple[str, float], ...] = ()
    """Names and figures that stand in the table without entering the statistics."""


def check_rules(rules: Rules | None, changes: dict[str, Any]) -> Rules:
    """Return rules with single fields changed, or refuse them."""
    known = [field.name for field in dataclasses.fields(Rules)]
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise AnalysisError(f"unknown rule {unknown[0]!r}: allowed are {', '.join(known)}")
    chosen = dataclasses.replace(rules or Rules(), **changes)
    if chosen.alpha is not None:
        require_between("alpha", chosen.alpha, 0, 0.5, example=0.05)
    if chosen.rope is not None and not chosen.rope > 0:
        raise AnalysisError(
            f"rope is {chosen.rope:g}: the practically relevant difference must be above 0"
        )
    return chosen
