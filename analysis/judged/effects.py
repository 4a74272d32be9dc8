"""What else moves a judge: the slot, the length, the order, itself, another judge."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from analysis.judged.scores import Scores
from analysis.stats.judging.crossed import Estimated
from analysis.stats.linear import Array
from harness.records.responses import Kind

CALL = ["judge", "instruction_id", "order"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two readings of the same responses agree."""

    correlation: float
    """Of the models' scores around each instruction's mean."""
    difference: float
    """Mean difference without its sign, points."""
    n: int


@dataclass(frozen=True, slots=True)
class JudgeEffects:
    """One judge's habits."""

    judge: str
    slot: Estimated | None
    """Points from the first slot to the last, its se clustered by instruction."""
    length: Estimated | None
    """Points for a response e times as long, within arm and call; clustered likewise."""
    own_noise: Agreement | None
    """A response against its duplicate in the same call."""
    orders: Agreement | None
    """The same responses in two orders."""
    anchors: dict[str, float]
    """Mean score by anchor."""


def judge_effects(scores: Scores, judge: str) -> JudgeEffects:
    """Measure one judge's habits."""
    frame = scores.frame[scores.frame["judge"] == judge]
    frame = frame[frame["score"].notna()]
    models = frame[frame["kind"] == Kind.MODEL]
    anchors = frame[~frame["kind"].isin([Kind.MODEL, Kind.DUPLICATE])]
    return JudgeEffects(
        judge,
        slot=slot_effect(frame),
        length=length_effect(models),
        own_noise=_own_noise(frame),
        orders=_order_agreement(models),
        anchors={str(k): float(v) for k, v in anchors.groupby("kind")["score"].mean().items()},
    )


def slot_effect(frame: pd.DataFrame) -> Estimated | None:
    """Return what the last slot gains over the first.

    Where instructions were shown in several orders, each response is compared with itself.
    """
    own = frame[frame["kind"].isin([Kind.MODEL, Kind.DUPLICATE])]
    again = own.groupby("instruction_id")["order"].transform("nunique") > 1
    several = own.loc[again, "instruction_id"].nunique() > 2
    if several:
        own = own[again]  # a missing call takes its instruction out, not the comparison
    keys = ["judge", "kind", "model", *(["instruction_id"] if several else [])]
    place = own["slot"] / max(1, frame["slot"].max())
    x = place - place.groupby([own[key] for key in keys]).transform("mean")
    y = own["score"] - own.groupby(keys)["score"].transform("mean")
    return _slope(x, y, own["instruction_id"])


def length_effect(models: pd.DataFrame) -> Estimated | None:
    """Return the slope on log length within arm and call, where quality and length may be mixed."""
    x = _within(np.log1p(models["n_characters"]), models)
    return _slope(x, _within(models["score"], models), models["instruction_id"])


def _within(values: pd.Series, models: pd.DataFrame) -> pd.Series:
    """Take out the means of calls and arms, in turns until both are gone."""
    groups = [models.groupby(keys).ngroup().to_numpy() for keys in (CALL, ["judge", "arm"])]
    sizes = [np.bincount(group) for group in groups]
    left = values.to_numpy(dtype=float)
    for _ in range(50):
        for group, size in zip(groups, sizes, strict=True):
            left = left - (np.bincount(group, left) / size)[group]
    return pd.Series(left, models.index)


def _slope(x: pd.Series, y: pd.Series, cluster: pd.Series) -> Estimated | None:
    total, n = float((x**2).sum()), cluster.nunique()
    if n < 3 or total < 1e-9 * len(x):
        return None
    estimate = float((x * y).sum()) / total
    pulls = (x * (y - estimate * x)).groupby(cluster).sum()
    se = float(np.sqrt(n / (n - 1) * float((pulls**2).sum()))) / total
    return Estimated(estimate, se, n - 1.0)


def _own_noise(frame: pd.DataFrame) -> Agreement | None:
    keys = [*CALL, "model"]
    twice = frame[frame["kind"].isin([Kind.MODEL, Kind.DUPLICATE])]
    pairs = twice.pivot(index=keys, columns="kind", values="score").dropna()
    if pairs.shape[1] < 2:
        return None
    centred = (pairs - pairs.mean()).to_numpy()
    return _agreement(centred[:, 0], centred[:, 1], between=pairs)


def _order_agreement(models: pd.DataFrame) -> Agreement | None:
    rank = models.groupby("instruction_id")["order"].rank(method="dense")
    table = models.assign(rank=rank).pivot_table(
        index=["instruction_id", "model"], columns="rank", values="score"
    )
    return _of_columns(table)


def judges_agree(scores: Scores) -> dict[tuple[str, str], Agreement | None]:
    """Return how each two judges agree on the same responses."""
    table = scores.models.pivot_table(
        index=["instruction_id", "model"], columns="judge", values="score"
    )
    return {(a, b): _of_columns(table[[a, b]]) for a, b in combinations(scores.judges, 2)}


def _of_columns(table: pd.DataFrame) -> Agreement | None:
    """Return how the first two columns agree around each instruction's means."""
    if table.shape[1] < 2:
        return None
    pairs = table.iloc[:, :2].dropna()
    centred = pairs - pairs.groupby("instruction_id").transform("mean")
    return _agreement(centred.iloc[:, 0].to_numpy(), centred.iloc[:, 1].to_numpy(), between=pairs)


def _agreement(first: Array, second: Array, *, between: pd.DataFrame) -> Agreement | None:
    if len(first) < 3:
        return None
    spread = float(np.sqrt((first @ first) * (second @ second)))
    difference = float((between.iloc[:, 0] - between.iloc[:, 1]).abs().mean())
    return Agreement(
        float(first @ second) / spread if spread > 0 else float("nan"), difference, len(first)
    )
