"""Trace every figure of a study's results to the files it came from.

Each check is a line; one that failed means that a figure cannot be trusted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.audit.results import TRACED, results_checks, same
from analysis.check import Check, Level, bullets
from analysis.comparison.run_checks import mixed_arms
from analysis.errors import AnalysisError
from analysis.runs.cell.files import read_numbers
from analysis.runs.frame import named
from analysis.runs.ledger import Ledger, take_stock
from analysis.runs.prepare import prepare
from analysis.runs.records import read_records
from harness.records import (
    CONFIG_FILE,
    SOURCES_FOLDER,
    TEST_LOSSES_FILE,
    RecordError,
    RunRecord,
    Status,
)
from harness.records.reading import read_bytes
from harness.records.sources import closure, hash_of, kept_files
from harness.records.study import meant, read_all


@dataclass(frozen=True, slots=True)
class Verification:
    """Everything that was looked at in one study."""

    study: Path
    checks: tuple[Check, ...]
    results: tuple[str, ...] = ()
    """Result files that were held against the records."""

    @property
    def passed(self) -> bool:
        """Nothing failed; notes are allowed."""
        return all(check.level is not Level.FAIL for check in self.checks)

    def to_markdown(self) -> str:
        """Return one line a check, failures first."""
        failed = sum(check.level is Level.FAIL for check in self.checks)
        verdict = f"{failed} check(s) failed" if failed else self._traced()
        return "\n".join([f"## {self.study}: {verdict}\n", *bullets(self.checks)]) + "\n"

    def _traced(self) -> str:
        if not self.results:
            return "the records agree with their files; there are no results to trace"
        return f"every figure in the tables of {', '.join(self.results)} is traced"


def verify(study: str | Path) -> Verification:
    """Trace a study's results to its records, and its records to their files.

    Parameters
    ----------
    study
        Folder of a study, with ``results.json`` if its table was made.

    Raises
    ------
    AnalysisError
        No records there, or one that cannot be read.
    """
    folder = Path(study)
    if not folder.is_dir():
        instead = meant(folder) or "give a study's, e.g. runs/demo"
        raise AnalysisError(f"{folder} is not a folder: {instead}")
    runs = prepare(read_records([folder]), allow_reruns=True)
    records = read_all([folder]).records.items()
    done = [(home, record) for home, record in records if record.status is Status.COMPLETE]
    checks = (
        *_ledger_checks(take_stock(runs)),
        *_file_checks(done),
        *_same_everywhere([record for _, record in done]),
        *_version_checks(runs.frame[runs.frame["status"] == "complete"]),
        *results_checks(folder),
    )
    results = tuple(name for name in TRACED if (folder / name).exists())
    return Verification(folder, checks, results)


def _ledger_checks(ledger: Ledger) -> Iterable[Check]:
    yield Check(Level.OK, "ledger", ledger.sentence())
    for error in ledger.unreadable:
        yield Check(Level.FAIL, "unreadable", error)
    if ledger.planned is None:
        yield Check(Level.NOTE, "no plan", "nothing was fixed before the first run")
    for what, runs in (
        ("planned but not started", ledger.missing),
        ("not finished", ledger.unfinished),
        ("failed, so excluded", ledger.failed),
        ("diverged, so excluded from means", ledger.diverged),
        ("superseded since the arm was edited, so excluded", ledger.superseded),
        ("run but not planned (exploratory)", ledger.unplanned),
    ):
        if runs:
            yield Check(Level.NOTE, what, named(runs))


def _file_checks(done: list[tuple[Path, RunRecord]]) -> Iterable[Check]:
    """Hold each complete record against the files beside it."""
    problems: dict[str, list[str]] = {}
    for home, record in done:
        for problem in _problems(home, record):
            problems.setdefault(problem, []).append(f"{record.arm}/{record.cell}")
    for problem, runs in problems.items():
        yield Check(Level.FAIL, problem, named(runs))
    if not problems:
        yield Check(
            Level.OK, f"{len(done)} complete records agree with their config and test losses"
        )


def _problems(home: Path, record: RunRecord) -> Iterable[str]:
    config, losses = home / CONFIG_FILE, home / TEST_LOSSES_FILE
    if not config.exists():
        yield f"{CONFIG_FILE} is missing"
    elif _sha256(config) != record.provenance.config_sha256:
        yield f"{CONFIG_FILE} is not the one that was run (sha256)"
    if not losses.exists():
        yield f"{TEST_LOSSES_FILE} is missing"
    elif not same(_mean(losses), record.losses.test):
        yield f"the mean of {TEST_LOSSES_FILE} is not the recorded test loss"
    yield from _changed_sources(home, record)
    patch = record.provenance.dirty_patch
    if patch and not (home / patch).exists():
        yield "the code had uncommitted changes and the patch is missing"
    if record.step != record.n_steps:
        yield "called complete before its last step"


def _changed_sources(home: Path, record: RunRecord) -> Iterable[str]:
    """Hold the cell's own code, as it keeps it, against what ran; what is installed is not kept."""
    kept = kept_files(home)
    if missing := sorted(set(record.provenance.kept_sources) - kept.keys()):
        yield f"the code of {', '.join(missing)} is missing in {SOURCES_FOLDER}"
    for target, recorded in record.provenance.sources.items():
        try:
            files = closure(target, kept.get)
            if files and hash_of(files) != recorded:
                yield f"the code of {target} in {SOURCES_FOLDER} is not what was run (sha256)"
        except RecordError as error:
            yield f"the code of {target} in {SOURCES_FOLDER} cannot be read: {error.reason}"


def _sha256(file: Path) -> str | None:
    try:
        return hashlib.sha256(read_bytes(file)).hexdigest()
    except RecordError:
        return None


def _same_everywhere(done: list[RunRecord]) -> Iterable[Check]:
    """Hold the records against each other: what all of them should share."""
    kinds = (
        ("test set", Level.FAIL, "test_set_sha256"),
        ("corpus", Level.FAIL, "dataset_sha256"),
        ("tokenizer", Level.FAIL, "tokenizer"),
        ("code version", Level.NOTE, "code"),
        ("set of package versions", Level.NOTE, "packages"),
        ("device", Level.NOTE, "device"),
    )
    for what, level, name in kinds:
        counts = Counter(_text(getattr(record.provenance, name)) for record in done)
        if counts and set(counts) <= {str(None), ""}:
            yield Check(Level.NOTE, f"no {what} is known")
        elif len(counts) == 1:
            yield Check(Level.OK, f"one {what}", _cut(next(iter(counts)), 60))
        elif counts:
            yield Check(level, f"{len(counts)} different values of {what}", _seen(counts))
    of_target: dict[str, Counter[str]] = {}
    for record in done:
        for target, source in record.provenance.sources.items():
            of_target.setdefault(target, Counter())[source] += 1
    for target, counts in sorted(of_target.items()):
        if len(counts) > 1:
            yield Check(Level.NOTE, f"{len(counts)} versions of {target}", _seen(counts))
    dirty = [f"{record.arm}/{record.cell}" for record in done if record.provenance.git_dirty]
    if dirty:
        yield Check(Level.NOTE, "run with uncommitted changes (patch kept)", named(dirty))


def _version_checks(done: pd.DataFrame) -> Iterable[Check]:
    if mixed := mixed_arms(done):
        what = "an arm's seeds ran with different settings or code"
        yield Check(Level.FAIL, what, named(mixed))


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in sorted(value.items()))
    return str(value)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"


def _seen(counts: Counter[str]) -> str:
    return ", ".join(f"{_cut(value, 20)} ({n} runs)" for value, n in counts.most_common(4))


def _mean(file: Path) -> float | None:
    try:
        return float(read_numbers(file).mean())
    except RecordError:
        return None
