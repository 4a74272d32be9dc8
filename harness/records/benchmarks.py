"""A model's answers to a benchmark: ``runs/STUDY/references/NAME/benchmarks/TASK.jsonl``.

The first line is a `TaskRun`, each further one an `ItemScore`. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.records.evaluation import REFERENCES_FOLDER
from harness.records.files import RecordError, read_json_lines, write_atomic

BENCHMARKS_FOLDER = "benchmarks"
BENCHMARKS_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRun:
    """Which model answered which items."""

    schema_version: int = BENCHMARKS_VERSION
    task: str
    source: str
    """Where the items come from: ``bundled``, a file, or ``lm_eval`` and its version."""
    items_sha256: str
    """Of all items with their order, the first 12 digits: results of equal ones compare."""
    n_items: int
    n_cut: int
    """Items of which the model saw the end alone: they are longer than its context."""
    model: str
    """As `Evaluation.label`."""
    weights_sha256: str
    final_weights: str | None = None
    """As in the cell's record when it was evaluated; None: no cell."""
    cell: str | None = None
    in_study: bool = False
    """It is a cell of this study with its last weights."""
    precision: str
    metrics: dict[str, float] = field(default_factory=dict)
    """As lm_eval names and averages them; empty for items that it has no part in."""
    created: str
    provenance: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemScore:
    """One item: what the model gives its choices."""

    item: str
    group: str
    """Items of one group share a text or a pattern: they are no independent questions."""
    answer: int
    """Which choice is right."""
    nats: list[float]
    """Log-likelihood of each choice behind its context; of a last word, the one."""
    lengths: list[int]
    """Characters of each choice."""
    greedy: bool
    """The right choice is what the model would write by itself."""

    def margin(self, *, per_character: bool = False) -> float:
        """Return the right choice's log-likelihood minus the best wrong one's; a last word's own.

        `per_character` divides each by its choice's length (lm_eval's ``acc_norm``).
        """
        values = list(self.nats)
        if per_character:
            values = [nats / max(n, 1) for nats, n in zip(self.nats, self.lengths, strict=True)]
        right = values.pop(self.answer)
        return right - max(values) if values else right

    def right(self, *, per_character: bool = False) -> bool:
        """Tell whether the right choice is the largest; a last word: what the model would write."""
        return self.greedy if len(self.nats) == 1 else self.margin(per_character=per_character) > 0


def write_task(folder: Path, run: TaskRun, scores: Sequence[ItemScore]) -> Path:
    """Write a model's answers whole, into its folder below ``references/``, and return the file."""
    name = "".join(c if c.isalnum() or c in "_.-" else "_" for c in run.task)
    file = folder / BENCHMARKS_FOLDER / f"{name}.jsonl"
    rows = [asdict(run), *(asdict(score) for score in scores)]
    write_atomic(file, "".join(json.dumps(row) + "\n" for row in rows))
    return file


def task_files(study: Path) -> Iterator[Path]:
    """Yield every file of answers below a study's folder."""
    yield from sorted(study.glob(f"{REFERENCES_FOLDER}/*/{BENCHMARKS_FOLDER}/*.jsonl"))


def read_task(file: Path) -> tuple[TaskRun, list[ItemScore]]:
    """Read one file of answers (`RecordError` where it is none)."""
    rows = read_json_lines(file)
    found = rows[0].get("schema_version") if rows else None
    if found != BENCHMARKS_VERSION:
        raise RecordError(
            f"{file} has schema version {found}, this program reads {BENCHMARKS_VERSION}: "
            "evaluate the model again"
        )
    try:
        run, scores = TaskRun(**rows[0]), [ItemScore(**row) for row in rows[1:]]
    except TypeError as error:
        raise RecordError(f"{file} is no benchmark's result: {error}; delete it") from error
    for line, score in enumerate(scores, 2):
        _check(f"{file}, line {line}", score)
    if len(scores) != run.n_items:
        raise RecordError(
            f"{file} has {len(scores)} of {run.n_items} items: evaluate the model again"
        )
    return run, scores


def _check(where: str, score: ItemScore) -> None:
    nats, lengths, n = score.nats, score.lengths, 0
    if isinstance(nats, list) and isinstance(lengths, list) and len(nats) == len(lengths):
        n = len(nats)
    figures = [*nats, *lengths] if n else [None]
    if not all(isinstance(value, int | float) for value in figures):
        raise RecordError(f"{where}: nats {nats!r} and lengths {lengths!r} are no figures a choice")
    if not (isinstance(score.answer, int) and 0 <= score.answer < n):
        raise RecordError(f"{where}: answer {score.answer!r} is none of its {n} choices")
