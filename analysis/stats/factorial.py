"""Two-level designs as matrices, and the check that their main effects stand clear.

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

from analysis.errors import AnalysisError
from analysis.stats.linear import Array

PB12 = (1, 1, -1, 1, 1, 1, -1, -1, -1, 1, -1)
"""First row of the Plackett-Burman design of 12 runs; the others are its cyclic shifts."""
SIZES = (4, 8, 16, 32, 64, 128, 256)
ATTEMPTS = 50
"""Orders in which columns are tried, where there are several exclusive pairs."""
TINY = 1e-9

Pairs = Sequence[tuple[int, int]]
"""Columns that exclude each other."""


def factorial(n_factors: int, pairs: Pairs = ()) -> tuple[Array, str]:
    """Return the smallest design at hand whose main effects are clear of two-way interactions.

    Parameters
    ----------
    n_factors
        Columns.
    pairs
        Columns that are never on together.

    Returns
    -------
    (runs, columns) of 0 and 1, each row once; and what kind of design it is.
    """
    if 8 < n_factors <= 12 and not pairs:
        rows = [np.roll(PB12, shift) for shift in range(11)]
        half = np.column_stack([np.ones(12), np.vstack([*rows, -np.ones(11)])])
        return (np.vstack([half, -half])[:, :n_factors] + 1) / 2, "folded-over Plackett-Burman"
    for n_runs, attempt in product(SIZES, range(ATTEMPTS if len(pairs) > 1 else 1)):
        words = _generators(n_runs, n_factors, pairs, attempt)
        if words is None:
            continue
        matrix = _apart(_on(n_runs, words), pairs)
        if not aliases(matrix):
            basic = n_runs.bit_length() - 1
            kind = f"2^({n_factors}-{n_factors - basic})" if n_factors > basic else f"2^{n_factors}"
            return matrix, kind
    raise AnalysisError(
        f"{n_factors} interventions with {len(pairs)} exclusive pairs: no design of up to "
        f"{SIZES[-1]} runs keeps their main effects clear; screen fewer at once"
    )


def aliases(matrix: Array) -> list[tuple[int, int, int]]:
    """Return which main effect holds a part of which two interventions' interaction.

    Parameters
    ----------
    matrix
        (runs, columns) of 0 and 1.

    Returns
    -------
    Triples (main effect, first, second): a row of the alias matrix that is not zero. The share of
    an interaction in its own two effects does not count: an effect is an average over the others.

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


def _generators(n_runs: int, n_factors: int, pairs: Pairs, attempt: int) -> list[int] | None:
    """Return each column as a product of basic columns, one bit each; None: too few runs.

    Products of an odd number of basic columns have no word of length three, so resolution IV. Of
    the others, none may be a pair's product times a third column.
    """
    odd = [m for m in range(1, n_runs) if m.bit_count() % 2 == 1]
    odd.sort(key=lambda m: (m.bit_count(), m))
    if attempt:
        random.Random(attempt).shuffle(odd)
    words: list[int] = []
    while len(words) < n_factors:
        free = (m for m in odd if m not in words and _clear([*words, m], pairs))
        found = next(free, None)
        if found is None:
            return None
        words.append(found)
    return words


def _clear(words: list[int], pairs: Pairs) -> bool:
    for i, j in pairs:
        if max(i, j) < len(words):
            others = {word for k, word in enumerate(words) if k not in (i, j)}
            if any(words[i] ^ words[j] ^ word in others for word in others):
                return False
    return True


def _on(n_runs: int, words: list[int]) -> Array:
    columns = [
        [(run & word).bit_count() % 2 == word.bit_count() % 2 for run in range(n_runs)]
        for word in words
    ]
    return np.array(columns, dtype=float).T


def _apart(matrix: Array, pairs: Pairs) -> Array:
    """Turn exclusive columns off where both are on, and leave out the rows that came before."""
    matrix = matrix.copy()
    for i, j in pairs:
        both = matrix[:, i] * matrix[:, j]
        matrix[:, i] -= both
        matrix[:, j] -= both
    rows = dict.fromkeys(tuple(row) for row in matrix)
    return np.array(list(rows), dtype=float)
