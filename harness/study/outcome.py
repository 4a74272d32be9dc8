"""What became of a cell, from its folder: a damaged or vanished one never stops the others."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import asdict

from harness.cell.lock import LOCK_FILE, living_owner
from harness.config import BudgetConfig
from harness.records import RecordError, RunRecord
from harness.records.cell import Cell
from harness.records.study import Study


def written_since(cell: Cell, since: str = "") -> RunRecord | None:
    """Return the cell's record, None if there is none that can be read and is as new as that."""
    with suppress(RecordError):
        record = cell.record()
        return record if record and (record.updated or "") >= since else None
    return None


def result(cell: Cell) -> RunRecord | None:
    """Return the record of a cell that has its result, None if that cannot be read."""
    with suppress(RecordError):
        return cell.result()
    return None


def why(cell: Cell, since: str) -> str:
    """Return the error of the try that began then, or what it said last if it wrote none."""
    if not cell.folder.is_dir():
        return "its folder is gone: was the study moved?"
    record = written_since(cell, since)
    if record and record.error:
        return record.error
    if cell.log_file.exists() and not os.access(cell.log_file, os.W_OK):
        return f"no permission to write {cell.log_file}"
    return last_line(cell)


def last_line(cell: Cell) -> str:
    """Return the last line of the cell's log."""
    log = cell.log_file
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")


def tidy(cell: Cell) -> None:
    """Remove what a cell leaves that was killed after its final record was written."""
    if not living_owner(cell.folder):
        shutil.rmtree(cell.folder / "checkpoints", ignore_errors=True)
        with suppress(OSError):  # a file system that is read only
            (cell.folder / LOCK_FILE).unlink(missing_ok=True)


def keep_log(cell: Cell) -> None:
    """Move the log of a crashed try aside, as ``log.1.txt`` or the next free number."""
    n = 1 + len(list(cell.folder.glob("log.*.txt")))
    with suppress(OSError):  # the folder was moved meanwhile
        cell.log_file.rename(cell.folder / f"log.{n}.txt")


def over_budget(budget: BudgetConfig, study: Study) -> str | None:
    """Say which limit the study's records have reached, None if none."""
    limits = {name: limit for name, limit in asdict(budget).items() if limit is not None}
    if not limits:
        return None
    everything = [one.found() for one in study.with_tuning()]
    if broken := [error for found in everything for error in found.unreadable]:
        return f"what was spent is unknown: {broken[0]}"
    records = [record for found in everything for record in found.records.values()]
    spent = {
        "hours": sum(r.cost.train_seconds * r.provenance.n_devices for r in records) / 3600,
        "usd": sum(r.cost.usd or 0.0 for r in records),
        "tokens": sum(r.tokens for r in records),
    }
    over = [n for n, limit in limits.items() if spent[n] >= limit]
    return f"budget.{over[0]}={limits[over[0]]} is spent ({spent[over[0]]:.6g})" if over else None
