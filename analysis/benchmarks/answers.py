"""The answers of a study's models to one task: margins and right answers, items x models.

Shapes: I items, S seeds, G groups of items.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError, needed
from analysis.runs.frame import SEEDS, Runs, with_names
from analysis.stats.linear import Array, Index
from harness.records.benchmarks import ItemScore, TaskRun, read_task, task_files
from harness.records.evaluation import label

Seed = tuple[Any, ...]
"""Of initialisation, data and loop: what an arm shares with the baseline."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What one model answered."""

    run: TaskRun
    margins: Array
    """[I] Log-likelihood of the right choice minus the best wrong one's; a last word's own."""
    right: Array
    """[I] 1 or 0."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the items are, whoever answers."""

    groups: Index
    """[I] The group of each item, from 0."""
    chance: float
    """Of being right; 0 for last words."""
    last_words: bool


@dataclass(frozen=True, slots=True)
class Task:
    """All models' answers to the same items."""

    name: str
    arms: dict[str, dict[Seed, Answers]]
    """Of the runs that count: arm -> seeds -> answers."""
    references: list[Answers]
    """Models that the study did not train, or not to this step."""
    items: Layout
    missing: tuple[str, ...]
    """Folders of complete cells that did not answer."""

    @property
    def n_items(self) -> int:
        """I."""
        return len(self.items.groups)

    @property
    def n_groups(self) -> int:
        """G."""
        return int(self.items.groups.max()) + 1

    def accuracy(self, arm: str) -> float:
        """Return the share of right answers over items and seeds."""
        return float(np.mean([found.right.mean() for found in self.arms[arm].values()]))

    def margin(self, arm: str) -> float:
        """Return the mean margin over items and seeds."""
        return float(np.mean([found.margins.mean() for found in self.arms[arm].values()]))

    def shared_seeds(self, arm: str, baseline: str) -> list[Seed]:
        """Return the seeds that both arms have, in order."""
        return [seed for seed in self.arms[arm] if seed in self.arms[baseline]]


@needed()
def read_tasks(runs: Runs, *, per_character: bool = False) -> list[Task]:
    """Return every task that was asked of the runs' studies (`AnalysisError` where none was)."""
    cells = _complete(runs)
    homes = dict.fromkeys(Path(row["folder"]).absolute().parents[1] for row in cells.values())
    by_task: defaultdict[str, list[Answers]] = defaultdict(list)
    layouts: dict[str, Layout] = {}
    for file in (file for home in homes for file in task_files(home)):
        run, scores = read_task(file)
        name = label(run.task, run.precision)
        by_task[name].append(_answers(run, scores, per_character))
        layouts.setdefault(name, _layout(scores))
    if not by_task:
        first = next(iter(homes), Path("runs/demo"))
        raise AnalysisError(
            f"no model of {first} has answered a task: python -m harness.evaluate {first} "
            "--tasks (the cells need weights: checkpoint.n_weights=1)"
        )
    return [_task(name, by_task[name], layouts[name], cells) for name in sorted(by_task)]


def _complete(runs: Runs) -> dict[str, dict[str, Any]]:
    """Return cell -> row of the runs that count."""
    frame = with_names(runs.frame)
    if "folder" not in frame:
        raise AnalysisError("benchmarks are read beside records: give the folder of a study")
    rows = frame[frame["status"] == "complete"].to_dict("records")
    return {str(row["cell"]): {str(k): v for k, v in row.items()} for row in rows}


def _task(
    name: str,
    answered: Sequence[Answers],
    layout: Layout,
    cells: dict[str, dict[str, Any]],
) -> Task:
    _refuse_other_items(name, [found.run for found in answered])
    arms: defaultdict[str, dict[Seed, Answers]] = defaultdict(dict)
    references, seen = [], set()
    for found in answered:
        run = found.run
        row = cells.get(run.cell or "") if run.in_study else None
        if row is not None:
            _refuse_other_weights(run, row)
            seen.add(run.cell)
            arms[str(row["arm"])][tuple(row[seed] for seed in SEEDS)] = found
        elif not run.in_study:
            references.append(found)
    missing = tuple(str(row["folder"]) for cell, row in cells.items() if cell not in seen)
    return Task(name, dict(arms), references, layout, missing)


def _layout(items: Sequence[ItemScore]) -> Layout:
    several = [len(item.nats) for item in items if len(item.nats) > 1]
    groups = pd.factorize(np.array([item.group for item in items], dtype=object))[0]
    return Layout(groups, sum(1 / n for n in several) / len(items), not several)


def _answers(run: TaskRun, scores: Sequence[ItemScore], per_character: bool) -> Answers:
    margins = [item.margin(per_character=per_character) for item in scores]
    right = [item.right(per_character=per_character) for item in scores]
    return Answers(run, np.array(margins, dtype=float), np.array(right, dtype=float))


def _refuse_other_items(name: str, runs: Sequence[TaskRun]) -> None:
    first = runs[0]
    other = next((run for run in runs if run.items_sha256 != first.items_sha256), None)
    if other is not None:
        raise AnalysisError(
            f"{first.model} and {other.model} answered other items of {name} ({first.created} and "
            f"{other.created}): the task was changed between; evaluate all models again"
        )


def _refuse_other_weights(run: TaskRun, row: dict[str, Any]) -> None:
    if run.final_weights != row["final_weights"]:
        raise AnalysisError(
            f"{run.model} answered {run.task} before it was trained anew: python -m "
            f"harness.evaluate {row['folder']} --tasks {run.task}"
        )
