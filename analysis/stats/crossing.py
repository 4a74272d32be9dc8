"""How many tokens a run took to a target loss: the first crossing of its logged curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where a curve first comes down to a target."""

    tokens: float | None
    """None: never; the run is censored at `last`."""
    last: float
    """Tokens of the last logged point."""
    grid: float
    """Ratio of the tokens of the two logged points around the crossing; 1: on a point, or never."""
    at_start: bool = False
    """The first logged point was there already: the crossing lies at or before it."""


def first_crossing(tokens: ArrayLike, loss: ArrayLike, target: float) -> Crossing:
    """Return the first crossing, interpolated linearly on log tokens.

    Parameters
    ----------
    tokens, loss
        The curve's points; in any order, points without tokens or loss are left out.
    target
        Loss, nats per token.

    Raises
    ------
    ValueError
        No point is left.

    Examples
    --------
    >>> found = first_crossing([1e6, 2e6, 4e6], [5.0, 4.0, 3.0], 3.5)
    >>> round(found.tokens), found.grid
    (2828427, 2.0)
    """
    x, y = np.asarray(tokens, dtype=float), np.asarray(loss, dtype=float)
    known = (x > 0) & np.isfinite(x) & ~np.isnan(y)
    order = np.argsort(x[known], kind="stable")
    x, y = x[known][order], y[known][order]
    if not len(x):
        raise ValueError("the curve has no point with tokens and a loss")
    reached = np.flatnonzero(y <= target)
    last = float(x[-1])
    if not len(reached):
        return Crossing(None, last, 1.0)
    i = int(reached[0])
    if i == 0 or y[i] == target:
        return Crossing(float(x[i]), last, 1.0, at_start=i == 0)
    share = (y[i - 1] - target) / (y[i - 1] - y[i]) if np.isfinite(y[i - 1]) else 1.0
    between = np.log(x[i - 1]) + share * np.log(x[i] / x[i - 1])
    return Crossing(float(np.exp(between)), last, float(x[i] / x[i - 1]))
