"""Two-level designs as matrices, and the check that their main effects stand clear.

A saturated two-level design (Hadamard's matrix) folded over, that is followed by its mirror image,
has no main effect mixed with a two-way interaction: resolution IV.

Interventions that exclude each other share one factor of three levels (none, A, B): where both of
two columns are on, neither is. Such a factor takes up the product of its two columns as well, which
in a fraction may be the interaction of two others; so every design is checked by its alias matrix,
and grows until no interaction of two interventions falls on the main effect of a third.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations, product

import numpy as np
from scipy.linalg import hadamard

from analysis.errors import AnalysisError
from analysis.stats.linear import Array

PB12 = (1, 1, -1, 1, 1, 1, -1, -1, -1, 1, -1)
"""First row of the Plackett-Burman design of 12 runs; the others are its cyclic shifts."""
SIZES = (4, 8, 16, 32, 64, 128, 256)
ATTEMPTS = 50
"""Orders in which columns are tried, where there are exclusive pairs."""
TINY = 1e-9

Pairs = Sequence[tuple[int, int]]
"""Columns that exclude each other."""


def factorial(n_factors: int, pairs: Pairs = ()) -> tuple[Array, str]:
    """Return the smallest design at hand whose main effects are clear of two-way interactions.

    It has a row a run, of 0 and 1, no two alike; and the name of its kind.
    """
    if 8 < n_factors <= 12 and not pairs:
        rows = [np.roll(PB12, shift) for shift in range(11)]
        half = np.column_stack([np.ones(12), np.vstack([*rows, -np.ones(11)])])
        return _folded(half)[:, :n_factors], "folded-over Plackett-Burman"
    for n_runs, attempt in product(SIZES, range(ATTEMPTS if pairs else 1)):
        chosen = _clear_columns(n_runs // 2, n_factors, pairs, attempt)
        if chosen is None:
            continue
        basic = n_runs.bit_length() - 1
        matrix = _folded(hadamard(n_runs // 2, dtype=float))[:, chosen]
        matrix = _apart(matrix[np.lexsort(matrix[:, :basic].T)], pairs)
        if not aliases(matrix):
            kind = f"2^({n_factors}-{n_factors - basic})" if n_factors > basic else f"2^{n_factors}"
            return matrix, kind
    raise AnalysisError(
        f"{n_factors} interventions with {len(pairs)} exclusive pairs: no design of up to "
        f"{SIZES[-1]} runs keeps their main effects clear; screen fewer at once"
    )


def aliases(matrix: Array) -> list[tuple[int, int, int]]:
    """Return which main effect holds a part of which two interventions' interaction.

    Each triple (main effect, first, second) is an entry of the alias matrix that is not zero. The
    share of an interaction in its own two effects does not count: an effect is an average over the
    others.

    Examples
    --------
    >>> a, b = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    >>> aliases(np.stack([a, b], axis=1))
    []
    >>> aliases(np.stack([a, b, (a + b) % 2], axis=1))
    [(2, 0, 1), (1, 0, 2), (0, 1, 2)]
    """
    inverse = np.linalg.pinv(np.column_stack([np.ones(len(matrix)), matrix]))[1:]
    found = []
    for i, j in combinations(range(matrix.shape[1]), 2):
        share = np.abs(inverse @ (matrix[:, i] * matrix[:, j]))
        share[[i, j]] = 0
        found += [(int(k), i, j) for k in np.flatnonzero(share > TINY)]
    return found


def _folded(half: Array) -> Array:
    return np.asarray((np.vstack([half, -half]) + 1) / 2)


def _clear_columns(size: int, n_factors: int, pairs: Pairs, attempt: int) -> list[int] | None:
    """Return the columns of Hadamard's matrix to use, independent ones first; None: too few.

    The product of columns i and j is column i ^ j, and of three of the folded design i ^ j ^ k.
    """
    columns = sorted(range(size), key=lambda column: (column.bit_count() | 1, column))
    if attempt:
        random.Random(attempt).shuffle(columns)
    chosen: list[int] = []
    for column in columns:
        if len(chosen) < n_factors and _clear([*chosen, column], pairs):
            chosen.append(column)
    return chosen if len(chosen) == n_factors else None


def _clear(columns: list[int], pairs: Pairs) -> bool:
    """Tell whether no exclusive pair's product with a third column is a fourth one."""
    for i, j in pairs:
        if max(i, j) < len(columns):
            others = {column for k, column in enumerate(columns) if k not in (i, j)}
            if any(columns[i] ^ columns[j] ^ column in others for column in others):
                return False
    return True


def _apart(matrix: Array, pairs: Pairs) -> Array:
    """Turn exclusive columns off where both are on, and leave out the rows that came before."""
    for i, j in pairs:
        both = matrix[:, i] * matrix[:, j]
        matrix[:, i] -= both
        matrix[:, j] -= both
    rows = dict.fromkeys(tuple(row) for row in matrix)
    return np.array(list(rows), dtype=float)
