"""Tuning inside a study: every arm gets the same trials, chosen on validation loss, judged apart.

A setting is tried at factors on each arm's own value. Each combination of factors is a study of
its own beside the judged one, ``runs/NAME_tune_lr0.5``, with seeds that judge nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from harness.config import StudyConfig
from harness.records import RunRecord
from harness.records.study import TRIAL
from harness.study.plan import PlannedCell

FIRST_SEED = 1_000_000
"""Of tuning; no judged seed is that large."""

Factors = dict[str, float]
"""Setting -> factor on an arm's own value."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Factors that every arm is tried with, and the cells that try them."""

    factors: Factors
    cells: Sequence[PlannedCell]


def combinations(tune: Mapping[str, Sequence[float]]) -> list[Factors]:
    """Return every combination of the factors to try."""
    return [dict(zip(tune, factors, strict=True)) for factors in product(*tune.values())]


def overrides(study: str, factors: Factors) -> list[str]:
    """Return what makes a cell one of a combination's trials."""
    tried = "_".join(f"{key.rsplit('.')[-1]}{factor:g}" for key, factor in factors.items())
    return [f"study_name={study}{TRIAL}{tried}", "study.tuning=true", tuned(factors)]


def tuned(factors: Factors) -> str:
    """Return the override that lets an arm train with these factors."""
    pairs = ",".join(f"{key}:{factor:g}" for key, factor in factors.items())
    return f"+study.tuned={{{pairs}}}"


def seeds(study: StudyConfig) -> list[int]:
    """Return the tuning seeds, the same for every arm and combination."""
    return [FIRST_SEED + i for i in range(study.tune_seeds)]


def summary(study: StudyConfig, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Return what the study's plan says of its trials, once all have their results."""
    return {
        "settings": dict(study.tune),
        "seeds": seeds(study),
        "studies": [one.cells[0].study.folder.name for one in candidates],
        "arms": choose(candidates),
    }


def choose(candidates: Sequence[Candidate]) -> dict[str, dict[str, Any]]:
    """Return, by arm, the factors of the lowest validation loss, what was tried and what it cost.

    The mean over the tuning seeds counts; a cell that diverged counts as infinitely bad. Of equals,
    the factors nearest 1.
    """
    arms = dict.fromkeys(cell.config.arm for one in candidates for cell in one.cells)
    return {arm: _chosen(arm, candidates) for arm in arms}


def _chosen(arm: str, candidates: Sequence[Candidate]) -> dict[str, Any]:
    records = [_records(arm, candidate) for candidate in candidates]
    losses = [_mean_loss(trials) for trials in records]
    ranked = sorted(
        zip(candidates, losses, strict=True), key=lambda pair: (pair[1], _distance(pair[0].factors))
    )
    trials = [record for some in records for record in some]
    prices = [record.cost.usd for record in trials if record.cost.usd is not None]
    return {
        "tuned": ranked[0][0].factors,
        "tried": [
            {"factors": one.factors, "val_loss": loss if math.isfinite(loss) else None}
            for one, loss in zip(candidates, losses, strict=True)
        ],
        "runs": len(trials),
        "tokens": sum(record.tokens for record in trials),
        "hours": sum(r.cost.train_seconds * r.provenance.n_devices for r in trials) / 3600,
        "usd": sum(prices) if prices else None,
    }


def _records(arm: str, candidate: Candidate) -> list[RunRecord]:
    cells = [cell for cell in candidate.cells if cell.config.arm == arm]
    return [record for cell in cells if (record := cell.result()) is not None]


def _mean_loss(records: Sequence[RunRecord]) -> float:
    losses = [
        record.losses.val if record.losses.test is not None and record.losses.val is not None
        else math.inf
        for record in records
    ]  # fmt: skip
    return sum(losses) / len(losses)


def _distance(factors: Factors) -> float:
    return sum(abs(math.log(factor)) for factor in factors.values())
