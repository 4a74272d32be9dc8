"""Power of a comparison with the baseline, and the seeds it takes.

``scipy.stats.nct`` loses its digits at large noncentrality, so the noncentral t is integrated over
the distribution of the sd's estimate, with the nodes of `analysis.stats.dunnett`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from analysis.stats.dunnett import Array, sd_nodes


def power(noncentrality: ArrayLike, df: ArrayLike, critical: ArrayLike) -> Array:
    """Return P(t > `critical`) for a true difference: the chance to see it, with the right sign.

    Elementwise; NaN where the df are not above 0.

    Parameters
    ----------
    noncentrality
        True differences in units of their standard error, 0 or more.
    df
        Degrees of freedom of the standard error.
    critical
        The value that ``|t|`` has to exceed.

    Examples
    --------
    >>> power([2.86024], 1e9, 2.86024).round(3)
    array([0.5])
    """
    given = (np.atleast_1d(np.asarray(x, dtype=float)) for x in (noncentrality, df, critical))
    shift, free, limit = np.broadcast_arrays(*given)
    found = np.full(shift.shape, np.nan)
    for value in np.unique(free[free > 0]):
        s, weights = sd_nodes(float(value))
        at = free == value
        found[at] = special.ndtr(shift[at][:, None] - limit[at][:, None] * s) @ weights
    return found


def upper_sd(sd: float, df: float, confidence: float = 0.8) -> float:
    """Return the one-sided upper confidence limit of an sd estimated on `df` degrees of freedom.

    Planning with the estimate itself is too hopeful half of the time (Browne 1995, Statistics in
    Medicine 14:1933, recommends 80%).

    Examples
    --------
    >>> round(upper_sd(0.015, 7), 4)
    0.0203
    """
    return sd * math.sqrt(df / float(special.chdtri(df, confidence)))
