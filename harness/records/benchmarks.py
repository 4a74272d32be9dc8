"""A model's answers to a benchmark: ``runs/STUDY/references/NAME/benchmarks/TASK.jsonl``.

The first line is a `TaskRun`, each further one an `ItemScore`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.records.evaluation import REFERENCES_FOLDER
from harness.records.files import as_json, write_atomic
from harness.records.reading import (
    NOT_PARSED,
    Count,
    Figure,
    RecordError,
    check_version,
    decoder,
    read_bytes,
    said,
)

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
    n_items: Count
    n_cut: Count
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
    metrics: dict[str, Figure] = field(default_factory=dict)
    """As lm_eval names and averages them; empty for items that it has no part in."""
    created: str
    provenance: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemScore:
    """One item: what the model gives its choices."""

    item: str
    group: str
    """Items of one group share a text or a pattern: they are no independent questions."""
    answer: Count
    """Which choice is right."""
    nats: list[Figure]
    """Log-likelihood of each choice behind its context; of a last word, the one."""
    lengths: list[Count]
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
    write_atomic(file, "".join(as_json(row) + "\n" for row in rows))
    return file


def task_files(study: Path) -> Iterator[Path]:
    """Yield every file of answers below a study's folder."""
    yield from sorted(study.glob(f"{REFERENCES_FOLDER}/*/{BENCHMARKS_FOLDER}/*.jsonl"))


def read_task(file: Path) -> tuple[TaskRun, list[ItemScore]]:
    """Read one file of answers (`RecordError` where it is none)."""
    first, *lines = read_bytes(file).splitlines() or [b""]
    try:
        check_version(first, BENCHMARKS_VERSION)
        run: TaskRun = decoder(TaskRun)(first)
        scores = [_score(line) for line in lines]
        if len(scores) != run.n_items:
            raise ValueError(f"it has {len(scores)} of {run.n_items} items")
    except NOT_PARSED as error:
        raise RecordError(file, f"{said(error)}; evaluate the model again") from error
    return run, scores


def _score(line: bytes) -> ItemScore:
    score: ItemScore = decoder(ItemScore)(line)
    n = len(score.nats)
    if len(score.lengths) != n or score.answer >= n:
        raise ValueError(
            f"item {score.item!r} has {n} choices, {len(score.lengths)} lengths and the answer "
            f"{score.answer}"
        )
    return score
