"""What a cell leaves behind: the contract between the harness and the analysis.

Standard library only, so that the analysis reads records without torch, hydra or wandb.
One cell's folder is ``runs/<study>/<arm>/<cell>/`` and its ``record.json`` is a `RunRecord`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from harness.records.files import RecordError as RecordError
from harness.records.files import now, write_atomic

SCHEMA_VERSION = 1
CONFIG_FILE = "config.yaml"
RECORD_FILE = "record.json"
METRICS_FILE = "metrics.jsonl"
SAMPLES_FILE = "samples.jsonl"
TEST_LOSSES_FILE = "test_losses.npy"
TEST_DOCUMENTS_FILE = "test_documents.npy"
LOG_FILE = "log.txt"
SOURCES_FOLDER = "sources"
"""The files of a cell."""

PLAN_FILE = "plan.json"
"""A study's."""

BASELINE = "baseline"
FEWEST_DF = 3
"""Degrees of freedom of the noise below which the analysis gives no verdict."""
REPORT_JOB = "study"
"""Job type of the run that carries a study's report to W&B, beside those of its cells."""


def test_losses_file(name: str) -> str:
    """Return the file of the losses on a test set that is not the main one."""
    return f"test_losses.{name}.npy"


class Status(StrEnum):
    """How far a cell has come. ``diverged`` is a result; ``failed`` is a crash to retry."""

    RUNNING = "running"
    COMPLETE = "complete"
    DIVERGED = "diverged"
    FAILED = "failed"
    STOPPED = "stopped"

    @classmethod
    def _missing_(cls, value: object) -> Status | None:
        return cls.STOPPED if value == "preempted" else None  # as records called it at first


FINISHED = (Status.COMPLETE, Status.DIVERGED)
"""A result: such a cell is not trained again."""


@dataclass(kw_only=True, slots=True)
class Seeds:
    """The three seeds of a cell; each drives its own draws and nothing else."""

    init: int
    data: int
    loop: int


@dataclass(kw_only=True, slots=True)
class Losses:
    """Mean cross-entropy in nats per token; ``None`` until measured."""

    train: float | None = None
    """Mean over the last logged interval."""
    val: float | None = None
    """Last validation loss during training."""
    test: float | None = None
    """Mean of ``test_losses.npy``: the figure that studies compare."""
    bits_per_byte: float | None = None
    """The same over the bytes of the text: comparable between tokenizers, on one text."""
    tests: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Each further test set -> its loss and bits_per_byte, and what it is: test_set_sha256 of its
    tokens, text of its corpus."""


@dataclass(kw_only=True, slots=True)
class Cost:
    """What the cell took. Seconds are of training alone, without evaluation and start-up."""

    train_seconds: float = 0.0
    """With `Provenance.compile`, those of the compiler, in each process's first step, included."""
    tokens_per_second: float | None = None  # without that step
    flops: float | None = None
    """Floating-point operations of training, forward and backward."""
    mfu: float | None = None
    """Achieved over peak FLOP/s; only where ``hardware.peak_flops`` is known."""
    peak_memory_bytes: int | None = None
    usd: float | None = None
    """``train_seconds`` at ``hardware.usd_per_hour``; only where a price is set."""


@dataclass(kw_only=True, slots=True)
class Fingerprints:
    """Hashes that show whether two cells shared their randomness."""

    init: dict[str, str] = field(default_factory=dict)
    """Parameter name -> hash of its initial value; equal hashes are paired tensors."""
    data_order: str | None = None
    """Hash of the order in which the training sequences are visited."""
    data_shuffled: bool | None = None
    """False: the data seed changes nothing, as in the published study."""
    final_weights: str | None = None


@dataclass(kw_only=True, slots=True)
class Provenance:
    """Everything needed to say what ran: code, data, packages, machine, command."""

    git_sha: str | None = None
    git_dirty: bool | None = None
    git_error: str | None = None
    """Why git says nothing of the checkout, e.g. that another user owns it."""
    dirty_patch: str | None = None
    """File with what tracked code differed in, seen from the cell; None: in nothing."""
    untracked: dict[str, str] = field(default_factory=dict)
    """Code that git did not know: name -> sha256."""
    code_sha256: str | None = None
    """Of the installed packages' files, where there is no checkout."""
    sources: dict[str, str] = field(default_factory=dict)
    """Target outside the harness -> hash of its file, which is kept in ``sources/``."""
    config_sha256: str | None = None
    dataset_sha256: str | None = None
    """Of the whole prepared corpus (its manifest's token files)."""
    test_set_sha256: str | None = None
    """Of the tokens that the test loss is measured on: runs compare only where equal."""
    test_text: str | None = None
    """Of what the test set's corpus was asked to hold, whatever its tokenizer."""
    init_from: str | None = None
    """The trained weights that it began with, and the hash of their file; None: drawn ones."""
    init_sha256: str | None = None
    tokenizer: str | None = None
    packages: dict[str, str] = field(default_factory=dict)
    python: str | None = None
    platform: str | None = None
    device: str | None = None
    n_devices: int = 1
    micro_batch: int | None = None
    """Sequences per forward pass of one device, as it was in the end; moves dropout masks."""
    compile: bool = False
    command: list[str] = field(default_factory=list)
    """Without the values of settings that name a secret."""

    @property
    def code(self) -> str | None:
        """What tells one version of the code from another."""
        return self.git_sha or self.code_sha256


@dataclass(kw_only=True, slots=True)
class RunRecord:
    """One cell: one arm with one set of seeds, trained once."""

    schema_version: int = SCHEMA_VERSION
    study: str
    arm: str
    """Sorted intervention names joined with ``+``, or ``baseline``."""
    interventions: list[str]
    cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Intervention name -> its card: summary, source, published_delta, published_where, control."""
    changes: dict[str, list[Any]] = field(default_factory=dict)
    """Dotted config key -> [baseline's value, this arm's value]."""
    cell: str
    """Hash of everything that can change the cell's numbers."""
    version: str | None = None
    """The same without the seeds: the cells of an arm that are to be averaged share it."""
    recipe: str | None = None
    """The same again without the arm's own part: what its interventions are applied to."""
    tuning: bool = False
    """Trained to choose its arm's settings: it is not judged."""
    seeds: Seeds
    status: Status = Status.RUNNING
    step: int = 0
    n_steps: int
    tokens: int = 0
    n_tokens: int = 0
    """Training tokens in the end; 0 in records of older versions."""
    n_params: int = 0
    skipped_steps: int = 0
    """Optimiser steps left out because a gradient was not finite."""
    losses: Losses = field(default_factory=Losses)
    cost: Cost = field(default_factory=Cost)
    fingerprints: Fingerprints = field(default_factory=Fingerprints)
    provenance: Provenance = field(default_factory=Provenance)
    started: str | None = None
    """ISO 8601 in UTC, as are the next two."""
    updated: str | None = None
    finished: str | None = None
    error: str | None = None
    """Last line of the traceback of a failed cell, or why it diverged."""
    line_to_fix: str | None = None
    """FILE:LINE of the cell's own code, where that failed."""


@dataclass(kw_only=True, slots=True)
class StudyPlan:
    """The decision rule and the grid, fixed before the first run; ``runs/<study>/plan.json``."""

    schema_version: int = SCHEMA_VERSION
    study: str
    alpha: float = 0.05
    rope: float | None = None
    """Practical size, the practically relevant difference in nats per token, under its first name;
    None: declared by nobody."""
    looks: list[int] = field(default_factory=list)
    """Seeds per arm at each look of a sequential study; empty: one fixed design."""
    cells: list[dict[str, Any]] = field(default_factory=list)
    """Planned cells: ``{"arm": ..., "seeds": {...}, "cell": ...}``."""
    tuning: dict[str, Any] = field(default_factory=dict)
    """How settings were chosen, before any judged run: the ``settings`` with their factors, the
    ``seeds``, the ``studies`` of the trials, and by arm what was ``tuned``, ``tried`` and spent."""
    code: list[str] = field(default_factory=list)
    """Commit and hash of the uncommitted changes when the plan was made."""
    created: str | None = None


def write_record(folder: Path, record: RunRecord) -> None:
    """Write ``record.json`` atomically, stamped with the time."""
    record.updated = now()
    write_atomic(folder / RECORD_FILE, _to_json(record))


def read_record(path: Path) -> RunRecord:
    """Read one record, given its file or its cell's folder (`RecordError` if unreadable)."""
    file = path / RECORD_FILE if path.is_dir() else path
    raw = _load(file)
    nested: dict[str, type] = {
        "seeds": Seeds,
        "losses": Losses,
        "cost": Cost,
        "fingerprints": Fingerprints,
        "provenance": Provenance,
    }
    try:
        parts = {name: kind(**raw[name]) for name, kind in nested.items()}
        return RunRecord(**{**raw, **parts, "status": Status(raw["status"])})
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{file} is not a run record: {error}") from error


def write_plan(folder: Path, plan: StudyPlan) -> None:
    """Write ``plan.json`` of a study's folder atomically."""
    write_atomic(folder / PLAN_FILE, _to_json(plan))


def read_plan(folder: Path) -> StudyPlan | None:
    """Read a study's plan; None where the study never had one (`RecordError` if unreadable)."""
    file = folder / PLAN_FILE
    if not file.exists():
        return None
    try:
        return StudyPlan(**_load(file))
    except TypeError as error:
        raise RecordError(f"{file} is not a study plan: {error}") from error


def find_records(root: Path) -> Iterator[Path]:
    """Yield the ``record.json`` files below `root`, sorted by path."""
    yield from sorted(root.rglob(RECORD_FILE))


def _to_json(value: RunRecord | StudyPlan) -> str:
    return json.dumps(dataclasses.asdict(value), indent=1) + "\n"


def _load(file: Path) -> dict[str, Any]:
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # not JSON, or not even text
        raise RecordError(
            f"cannot read {file}: {error}; restore the file, or move it away"
        ) from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise RecordError(
            f"{file} has schema version {version}, this program reads {SCHEMA_VERSION}: "
            "use the version of the project that wrote it"
        )
    result: dict[str, Any] = raw
    return result
