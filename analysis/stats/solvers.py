"""Roots and minimum of a function of one variable.

``scipy.optimize`` has them, and costs a third of a second to import: a sixth of the time that a
table of a hundred runs may take. These are all that the analysis needs of it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

GOLDEN = (5**0.5 - 1) / 2
CLOSE = 1e-8
"""`find_roots` ends where all values are this near to zero."""


def find_root(
    function: Callable[[float], float], low: float, high: float, *, tolerance: float = 1e-11
) -> float:
    """Return a zero of a continuous function between `low` and `high`, by Ridders' method.

    Its signs at both ends must differ; `tolerance` is relative to the size of the root.
    """
    f_low, f_high = function(low), function(high)
    if f_low == 0 or f_high == 0:
        return low if f_low == 0 else high
    if f_low * f_high > 0:
        raise ValueError(f"no sign change between {low} and {high}: {f_low}, {f_high}")
    last = float("inf")
    for _ in range(200):
        middle = (low + high) / 2
        f_middle = function(middle)
        slope = float(np.sqrt(f_middle**2 - f_low * f_high))
        root = middle + (middle - low) * (1 if f_low > f_high else -1) * f_middle / slope
        if abs(root - last) <= tolerance * max(1e-3, abs(root)):
            return float(root)
        last, f_root = root, function(root)
        if f_root == 0:
            return float(root)
        points = sorted([(low, f_low), (middle, f_middle), (root, f_root), (high, f_high)])
        for (a, f_a), (b, f_b) in pairwise(points):
            if f_a * f_b <= 0:
                low, f_low, high, f_high = a, f_a, b, f_b
                break
    return float(last)


def minimise(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where `function` is smallest in [`low`, `high`]: a grid, then golden section.

    The ends are looked at themselves, because a variance component is often exactly zero.
    """
    grid = np.linspace(low, high, 17)
    values = [function(float(x)) for x in grid]
    best = int(np.argmin(values))
    a, b = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)])
    x1, x2 = b - GOLDEN * (b - a), a + GOLDEN * (b - a)
    f1, f2 = function(x1), function(x2)
    while b - a > 1e-11 * max(1.0, abs(a)):
        if f1 < f2:
            b, x2, f2 = x2, x1, f1
            x1 = b - GOLDEN * (b - a)
            f1 = function(x1)
        else:
            a, x1, f1 = x1, x2, f2
            x2 = a + GOLDEN * (b - a)
            f2 = function(x2)
    inside = (a + b) / 2
    at_edge = float(grid[best])
    return at_edge if values[best] <= function(inside) else inside


def find_roots(function: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Return a zero of each element of `function`, by the Illinois rule of false position.

    Parameters
    ----------
    function
        Elementwise, of opposite signs at `low` and `high`.
    """
    a, b = low, high
    f_a, f_b = function(a), function(b)
    for _ in range(100):
        flat = f_a == f_b
        x = np.where(flat, b, b - f_b * (b - a) / np.where(flat, 1.0, f_b - f_a))
        f_x = function(x)
        crossed = f_x * f_b < 0
        a, f_a = np.where(crossed, b, a), np.where(crossed, f_b, f_a / 2)
        b, f_b = x, f_x
        if np.all(np.abs(f_x) < CLOSE):
            break
    return b
