"""How each arm's settings were chosen: what a study's trials say, and where there were none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from analysis.check import Check, warning
from analysis.comparison.verdict import Judgement
from analysis.runs.frame import named
from analysis.table import Column, Table, count, figure, words
from harness.records import StudyPlan

OPTIMIZER = "optim.optimizer."
"""Settings below this one make another optimiser."""


def tuning_checks(judgement: Judgement) -> Iterator[Check]:
    """Point out arms that were tried at one rate alone, and choices at the end of their range."""
    tuned = _tuned_arms(judgement.source.plans)
    others = tuple(a for a in _with_other_optimizers(judgement) if a not in tuned)
    if others:
        yield warning(
            f"{named(others)}: another optimiser than the baseline's, tried at only one learning "
            "rate. The best rate differs between optimisers: a study with study.tune tries every "
            "arm at several (docs/tuning.md)",
            others,
            "one learning rate tried",
        )
    ends = tuple(arm for arm, one in tuned.items() if _at_the_end(one))
    if ends:
        yield warning(
            f"{named(ends)}: the best value that study.tune tried is the smallest or largest "
            "one: a better one may lie beyond, so try further values",
            ends,
            "tuned to the end of its range",
        )


def tuning_note(plans: dict[str, StudyPlan]) -> str | None:
    """Return in a line how settings were chosen and what it cost; None: they were not."""
    lines = []
    for plan in (plan for plan in plans.values() if plan.tuning):
        arms, seeds = list(plan.tuning["arms"].values()), len(plan.tuning["seeds"])
        lines.append(
            f"{', '.join(plan.tuning['settings'])} of every arm chosen from "
            f"{len(arms[0]['tried'])} trials by the validation loss of {seeds} "
            f"seed{'s' * (seeds > 1)} not used for the verdicts: {sum(a['runs'] for a in arms)} "
            f"runs, {sum(a['hours'] for a in arms):.3g} h"
        )
    return "; ".join(lines) or None


def tuning_table(plans: dict[str, StudyPlan]) -> Table | None:
    """Return what was chosen for each arm, and what the choice cost; None: nothing was."""
    rows = [
        [
            words(arm),
            words(_factors(one["tuned"])),
            figure(min((t["val_loss"] for t in _finished(one)), default=None), 4),
            count(one["runs"]),
            count(one["tokens"]),
            figure(one["hours"], 4),
            figure(one["usd"], 4),
        ]
        for arm, one in _tuned_arms(plans).items()
    ]
    labels = ("val loss", "trials", "tokens in all", "hours in all", "dollars in all")
    columns = [Column("arm", numeric=False), Column("chosen", numeric=False), *map(Column, labels)]
    return Table("tuning", "What tuning chose and cost", columns, rows) if rows else None


def _tuned_arms(plans: dict[str, StudyPlan]) -> dict[str, Any]:
    return {arm: one for p in plans.values() if p.tuning for arm, one in p.tuning["arms"].items()}


def _finished(one: dict[str, Any]) -> list[dict[str, Any]]:
    return [trial for trial in one["tried"] if trial["val_loss"] is not None]


def _at_the_end(one: dict[str, Any]) -> bool:
    tried = [trial["factors"] for trial in one["tried"]]
    ends = {key: (min(t[key] for t in tried), max(t[key] for t in tried)) for key in one["tuned"]}
    return any(factor in ends[key] for key, factor in one["tuned"].items())


def _factors(factors: dict[str, float]) -> str:
    return ", ".join(f"{key} x {factor:g}" for key, factor in factors.items())


def _with_other_optimizers(judgement: Judgement) -> list[str]:
    """Return the arms whose changes name an optimiser."""
    if "changes" not in judgement.done:
        return []
    changes = judgement.done.drop_duplicates("arm").set_index("arm")["changes"]
    return [
        arm
        for arm in judgement.arms[1:]
        if isinstance(changes.get(arm), dict) and any(k.startswith(OPTIMIZER) for k in changes[arm])
    ]
