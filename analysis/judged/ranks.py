"""Ranks by Bradley and Terry from the scores' order within each call, with a bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.judged.scores import Scores
from analysis.stats.judging.bradley_terry import bradley_terry, ranks
from analysis.stats.linear import Array
from harness.records.responses import Kind

ANCHORS = (Kind.REFERENCE, Kind.OTHER, Kind.CLAIM, Kind.EMPTY)
DRAWS = 500


@dataclass(frozen=True, slots=True)
class Rank:
    """An arm's, or an anchor's, place."""

    name: str
    anchor: bool
    rank: int
    low: int
    high: int
    """The ends of the rank's 95% interval over bootstrap draws of instructions and seeds."""
    beats_baseline: float
    """Probability that its response is put above the baseline's."""


@dataclass(frozen=True, slots=True)
class _Wins:
    """How often each entry was put above each other one."""

    names: list[str]
    table: Array
    """(I, S, K, K): row over column; a tie is half a win to both. Seeds are paired."""


def rank(scores: Scores, baseline: str, seed: int = 0) -> list[Rank]:
    """Return every arm and anchor, the strongest first; the same seed gives the same intervals."""
    wins = _wins(scores)
    strength = bradley_terry(wins.table.sum(axis=(0, 1)))
    stream = np.random.default_rng(seed)
    drawn = ranks(bradley_terry(np.array([_drawn(wins, stream) for _ in range(DRAWS)])))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0, method="nearest")
    place, base = ranks(strength), strength[wins.names.index(baseline)]
    found = [
        Rank(
            name,
            anchor=name in ANCHORS,
            rank=int(place[k]),
            low=int(low[k]),
            high=int(high[k]),
            beats_baseline=float(1 / (1 + np.exp(base - strength[k]))),
        )
        for k, name in enumerate(wins.names)
    ]
    return sorted(found, key=lambda r: r.rank)


def _drawn(wins: _Wins, stream: np.random.Generator) -> Array:
    """Return the wins of a bootstrap draw."""
    n_i, n_s = wins.table.shape[:2]
    of_i = np.bincount(stream.integers(n_i, size=n_i), minlength=n_i)
    of_s = np.bincount(stream.integers(n_s, size=n_s), minlength=n_s)
    drawn: Array = np.tensordot(of_s, np.tensordot(of_i, wins.table, axes=1), axes=1)
    return drawn


def _wins(scores: Scores) -> _Wins:
    """Compare, within each call, models of one seed with each other and with the anchors."""
    column = scores.pairing.column
    frame = scores.frame[scores.frame["kind"].isin([Kind.MODEL, *ANCHORS])]
    frame = frame.assign(name=frame["arm"].where(frame["kind"] == Kind.MODEL, frame["kind"]))
    shown_anchors = set(frame["kind"])
    names = [*scores.arms, *(str(anchor) for anchor in ANCHORS if anchor in shown_anchors)]
    calls = ["judge", "instruction_id", "order"]
    anchors = frame[frame["kind"] != Kind.MODEL]
    instructions = sorted(set(frame["instruction_id"]))
    seeds = sorted(set(scores.models[column]))
    wins = np.zeros((len(instructions), len(seeds), len(names), len(names)))
    for s, seed in enumerate(seeds):
        shown = pd.concat([anchors, frame[frame[column] == seed]])
        table = shown.pivot_table(index=calls, columns="name", values="score", observed=True)
        value = table.reindex(columns=names).to_numpy(dtype=float)
        above = value[:, :, None] > value[:, None, :]
        tied = (value[:, :, None] == value[:, None, :]) & ~np.eye(len(names), dtype=bool)
        at = np.searchsorted(instructions, table.index.get_level_values("instruction_id"))
        np.add.at(wins[:, s], at, above + 0.5 * tied)
    return _Wins(names, wins)
