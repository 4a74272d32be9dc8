"""What became of a cell, from its folder: a damaged or vanished one never stops the others."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from harness.cell.lock import LOCK_FILE, living_owner
from harness.config import BudgetConfig
from harness.records import FINISHED, LOG_FILE, RECORD_FILE, RecordError, RunRecord, read_record
from harness.records.study import Study


def written_since(folder: Path, since: str = "") -> RunRecord | None:
    """Return the cell's record, None if there is none that can be read and is as new as that."""
    with suppress(RecordError):
        if (folder / RECORD_FILE).exists():
            record = read_record(folder)
            return record if (record.updated or "") >= since else None
    return None


def result(folder: Path) -> RunRecord | None:
    """Return the record of a cell that has its result."""
    record = written_since(folder)
    return record if record and record.status in FINISHED else None


def why(folder: Path, since: str) -> str:
    """Return the error of the try that began then, or what it said last if it wrote none."""
    if not folder.is_dir():
        return "its folder is gone: was the study moved?"
    record = written_since(folder, since)
    if record and record.error:
        return record.error
    log = folder / LOG_FILE
    if log.exists() and not os.access(log, os.W_OK):
        return f"no permission to write {log}"
    return last_line(folder)


def last_line(folder: Path) -> str:
    """Return the last line of the cell's log."""
    path = folder / LOG_FILE
    lines = path.read_text(errors="replace").split("\n") if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")


def tidy(folder: Path) -> None:
    """Remove what a cell leaves that was killed after its final record was written."""
    if not living_owner(folder):
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        with suppress(OSError):  # a file system that is read only
            (folder / LOCK_FILE).unlink(missing_ok=True)


def keep_log(folder: Path) -> None:
    """Move the log of a crashed try aside, as ``log.1.txt`` or the next free number."""
    n = 1 + len(list(folder.glob("log.*.txt")))
    with suppress(OSError):  # the folder was moved meanwhile
        (folder / LOG_FILE).rename(folder / f"log.{n}.txt")


def over_budget(budget: BudgetConfig, study: Study) -> str | None:
    """Say which limit the study's records have reached, None if none."""
    limits = {name: limit for name, limit in asdict(budget).items() if limit is not None}
    if not limits:
        return None
    try:
        records = study.records().values()
    except RecordError as error:
        return f"what was spent is unknown: {error}"
    spent = {
        "hours": sum(r.cost.train_seconds * r.provenance.n_devices for r in records) / 3600,
        "usd": sum(r.cost.usd or 0.0 for r in records),
        "tokens": sum(r.tokens for r in records),
    }
    over = [n for n, limit in limits.items() if spent[n] >= limit]
    return f"budget.{over[0]}={limits[over[0]]} is spent ({spent[over[0]]:.6g})" if over else None
