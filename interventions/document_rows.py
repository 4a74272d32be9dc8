"""Pipelines whose sequences begin at documents: what ``data.pipeline`` makes of a corpus.

A document is the end-of-text token before it and its own tokens without the one that ends it, so
that every row begins with an end-of-text token, but the first.
"""

from __future__ import annotations

from bisect import bisect_right, insort

import numpy as np


class BosAligned:
    """Rows of consecutive tokens, each from the first document that no row before has reached."""

    def __init__(self, tokens: np.ndarray, document_starts: np.ndarray, block_size: int) -> None:
        self.block_size = block_size
        first = np.maximum(np.asarray(document_starts) - 1, 0)
        after = np.searchsorted(first, first + block_size).tolist()
        rows, document = [], 0
        while document < len(first):
            rows.append(document)
            document = after[document]
        begins = first[rows]
        self.begins = begins[begins + block_size < len(tokens)]
        self.n_sequences = len(self.begins)

    def positions(self, places: np.ndarray) -> np.ndarray:
        """Return where the tokens of rows lie, int64 [n, block_size + 1]."""
        found: np.ndarray = self.begins[places][:, None] + np.arange(self.block_size + 1)
        return found


class BestFit:
    """Rows filled with whole documents, of those at hand always the longest that fits.

    Where none fits, the shortest is cropped, and its rest is never read; a document longer than a
    row is cropped to one (nanochat, 2026-01-13; Ding et al. 2024 cut instead of cropping).

    Parameters
    ----------
    n_at_hand
        Documents to choose from; the next ones in the corpus take the places of those chosen.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        document_starts: np.ndarray,
        block_size: int,
        n_at_hand: int = 1000,
    ) -> None:
        self.row_size = block_size + 1
        starts = np.asarray(document_starts)
        begins = np.maximum(starts - 1, 0)
        lengths = np.minimum(np.append(starts[1:], len(tokens)) - 1 - begins, self.row_size)
        whole = lengths > 0
        self.begins, self.lengths, self.firsts = _packed(
            begins[whole], lengths[whole], self.row_size, n_at_hand
        )
        self.n_sequences = len(self.firsts) - 1

    def positions(self, places: np.ndarray) -> np.ndarray:
        """Return where the tokens of rows lie, int64 [n, block_size + 1]."""
        return np.stack([self._row(int(place)) for place in places])

    def _row(self, place: int) -> np.ndarray:
        pieces = range(self.firsts[place], self.firsts[place + 1])
        spans = [self.begins[i] + np.arange(self.lengths[i]) for i in pieces]
        return np.concatenate(spans)


def _packed(
    begins: np.ndarray, lengths: np.ndarray, row_size: int, n_at_hand: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return begins and lengths of the pieces in the order of their rows, and each row's first."""
    waiting = iter(range(len(begins)))
    at_hand = sorted((int(lengths[i]), i) for i, _ in zip(waiting, range(n_at_hand), strict=False))
    pieces: list[tuple[int, int]] = []
    firsts, left = [0], row_size
    while at_hand:
        place = bisect_right(at_hand, (left, len(begins))) - 1
        length, document = at_hand.pop(max(place, 0))
        pieces.append((int(begins[document]), min(length, left)))
        if (new := next(waiting, None)) is not None:
            insort(at_hand, (int(lengths[new]), new))
        left -= min(length, left)
        if left == 0:
            firsts.append(len(pieces))
            left = row_size
    columns = np.array(pieces, dtype=np.int64).reshape(-1, 2).T
    return columns[0], columns[1], np.array(firsts)
