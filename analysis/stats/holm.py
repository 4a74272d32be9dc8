"""Holm's adjustment for many p values."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from analysis.stats.dunnett import Array


def holm(p: ArrayLike) -> Array:
    """Return Holm's adjusted p values (family error).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(3)
    array([0.03, 0.06, 0.06])
    """
    values = np.asarray(p, dtype=float)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted
