"""What a cell leaves behind: the contract between the harness and the analysis.

Standard library and msgspec only, so that the analysis reads records without torch, hydra or wandb.
One cell's folder is ``runs/<study>/<arm>/<cell>/`` and its ``record.json`` is a `RunRecord`.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypedDict

from msgspec import Meta, convert

from harness.records.files import as_json, now, write_atomic
from harness.records.reading import (
    NOT_PARSED,
    Amount,
    Count,
    Figure,
    FolderName,
    Large,
    Positive,
    Whole,
    check_depth,
    is_there,
    read_json,
    said,
)
from harness.records.reading import RecordError as RecordError

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

    init: Whole
    data: Whole
    loop: Whole


class PlannedRun(TypedDict):
    """A cell that was planned, or that a command asked for."""

    arm: FolderName
    seeds: dict[str, Whole]
    cell: FolderName


class TestSetLosses(TypedDict):
    """What was measured on a test set that is not the main one."""

    loss: Figure | None
    bits_per_byte: Figure | None
    test_set_sha256: str | None
    text: str | None


@dataclass(kw_only=True, slots=True)
class Losses:
    """Mean cross-entropy in nats per token; ``None`` until measured."""

    train: Figure | None = None
    """Mean over the last logged interval."""
    val: Figure | None = None
    """Last validation loss during training."""
    test: Figure | None = None
    """Mean of ``test_losses.npy``: the figure that studies compare."""
    bits_per_byte: Figure | None = None
    """The same over the bytes of the text: comparable between tokenizers, on one text."""
    tests: dict[str, TestSetLosses] = field(default_factory=dict)
    """Each further test set -> its loss and bits_per_byte, and what it is: test_set_sha256 of its
    tokens, text of its corpus."""


@dataclass(kw_only=True, slots=True)
class Sample:
    """One line of ``samples.jsonl``."""

    step: Count
    tokens: Count
    prompt: str
    completion: str


@dataclass(kw_only=True, slots=True)
class Cost:
    """What the cell took. Seconds are of training alone, without evaluation and start-up."""

    train_seconds: Amount = 0.0
    """With `Provenance.compile`, those of the compiler, in each process's first step, included."""
    tokens_per_second: Amount | None = None  # without that step
    flops: Large | None = None
    """Floating-point operations of training, forward and backward."""
    mfu: Amount | None = None
    """Achieved over peak FLOP/s; only where ``hardware.peak_flops`` is known."""
    peak_memory_bytes: Count | None = None
    usd: Amount | None = None
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
    """Target outside the harness -> hash of its files."""
    kept_sources: list[str] = field(default_factory=list)
    """The modules of them that the cell keeps in ``sources/``; what is installed is not kept."""
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
    n_devices: Positive = 1
    micro_batch: Positive | None = None
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
    study: FolderName
    arm: FolderName
    """Sorted intervention names joined with ``+``, or ``baseline``."""
    interventions: list[str]
    cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Intervention name -> its card: summary, source, published_delta, published_where, control."""
    changes: dict[str, Annotated[list[Any], Meta(min_length=2, max_length=2)]] = field(
        default_factory=dict
    )
    """Dotted config key -> [baseline's value, this arm's value]."""
    cell: FolderName
    """Hash of everything that can change the cell's numbers."""
    version: str | None = None
    """The same without the seeds: the cells of an arm that are to be averaged share it."""
    recipe: str | None = None
    """The same again without the arm's own part: what its interventions are applied to."""
    tuning: bool = False
    """Trained to choose its arm's settings: it is not judged."""
    equal_budget: str | None = None
    """What every arm of its study spends as much of, where that is not tokens: FLOPs, seconds."""
    seeds: Seeds
    status: Status = Status.RUNNING
    step: Count = 0
    n_steps: Positive
    tokens: Count = 0
    n_tokens: Count = 0
    """Training tokens in the end; 0 in records of older versions."""
    n_params: Count = 0
    skipped_steps: Count = 0
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
    study: FolderName
    alpha: Annotated[float, Meta(gt=0, lt=1)] = 0.05
    rope: Amount | None = None
    """Practical size, the practically relevant difference in nats per token, under its first name;
    None: declared by nobody."""
    looks: list[Positive] = field(default_factory=list)
    """Seeds per arm at each look of a sequential study; empty: one fixed design."""
    cells: list[PlannedRun] = field(default_factory=list)
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


class _CardFacts(TypedDict, total=False):
    """What is computed with of a card."""

    published_delta: Figure | None
    control: bool


def read_record(path: Path) -> RunRecord:
    """Read one record, given its file or its cell's folder (`RecordError` if unreadable)."""
    file = path if path.name == RECORD_FILE else path / RECORD_FILE
    record = read_json(file, RunRecord, SCHEMA_VERSION)
    try:
        for tree in (record.cards, record.changes):
            check_depth(tree)
        convert(record.cards, dict[str, _CardFacts])
    except NOT_PARSED as error:
        raise RecordError(file, f"{said(error)}; restore it, or move it away") from error
    return record


def write_plan(folder: Path, plan: StudyPlan) -> None:
    """Write ``plan.json`` of a study's folder atomically."""
    write_atomic(folder / PLAN_FILE, _to_json(plan))


def read_plan(folder: Path) -> StudyPlan | None:
    """Read a study's plan; None where the study never had one (`RecordError` if unreadable)."""
    file = folder / PLAN_FILE
    return read_json(file, StudyPlan, SCHEMA_VERSION) if is_there(file) else None


def find_records(root: Path, closed: list[RecordError] | None = None) -> list[Path]:
    """Return the ``record.json`` at or below a folder, sorted; links are followed, each once.

    Folders that one may not enter are put into `closed`.
    """
    if root.is_file():
        return [root]
    found, seen = [], set()

    def note(error: OSError) -> None:
        if closed is not None:
            closed.append(RecordError(Path(error.filename), error.strerror or str(error)))

    for folder, below, files in os.walk(root, onerror=note, followlinks=True):
        state = os.stat(folder)  # noqa: PTH116
        known = (state.st_dev, state.st_ino) in seen
        seen.add((state.st_dev, state.st_ino))
        if known or RECORD_FILE in (*below, *files):
            below.clear()
            found += [] if known else [Path(folder, RECORD_FILE)]
        below.sort()
    return sorted(found)


def _to_json(value: RunRecord | StudyPlan) -> str:
    return as_json(dataclasses.asdict(value), indent=1) + "\n"
