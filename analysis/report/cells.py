"""What the cells' folders hold beyond the figures: curves, samples, logs, provenance."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.runs.cell.files import found_in, read_samples
from analysis.runs.frame import SEEDS, SUPERSEDED, Runs
from analysis.runs.settings import read_config
from analysis.table import Item, Table, columns, figure, words
from analysis.text import DASH, duration, plain, time_unit
from harness.records import (
    BASELINE,
    LOG_FILE,
    RecordError,
    RunRecord,
    read_record,
)

LOG_CHARACTERS = 400_000
"""Of all log tails together; 6 to 25 lines a cell."""
SAMPLE_CHARACTERS = 1_500_000
"""Of all completions together; those of the cells beyond it are left out."""
KINDS = ("init", "data", "loop")
"""Of seeds, as a record names them."""
NOT_STARTED = "waiting"
"""Class of a planned cell without a record."""
SAMPLE = ("step", "tokens", "prompt", "completion")


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell's record and folder."""

    record: RunRecord
    folder: Path
    status: str
    """The record's, or ``superseded``."""

    @property
    def name(self) -> str:
        """Arm and init seed, as a person would call it."""
        return f"{self.record.arm} · seed {self.record.seeds.init}"


def read_cells(runs: pd.DataFrame) -> list[Cell]:
    """Return the cells behind the runs that have a folder, by arm and seeds."""
    if "folder" not in runs:
        return []
    cells = []
    for row in runs[runs["folder"].notna()].to_dict("records"):
        folder = Path(str(row["folder"]))
        with suppress(RecordError):  # changed since it was read
            cells.append(Cell(read_record(folder), folder, str(row["status"])))
    return sorted(cells, key=lambda cell: (cell.record.arm, astuple(cell.record.seeds)))


def current(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells that no later version of their arm's code has superseded."""
    return [cell for cell in cells if cell.status != SUPERSEDED]


def samples(cells: Sequence[Cell]) -> tuple[list[dict[str, Any]], str]:
    """Return the completions along training, one entry a cell, and what was left out."""
    found, used, cut = [], 0, 0
    for cell in cells:
        lines = found_in(read_samples, cell.folder)
        if lines and used > SAMPLE_CHARACTERS:
            cut += 1
        elif lines:
            record = cell.record
            rows = [[getattr(line, name) for name in SAMPLE] for line in lines]
            used += sum(len(line.prompt) + len(line.completion) for line in lines)
            entry = {"cell": record.cell, "arm": record.arm, "seed": record.seeds.init}
            found.append({**entry, "rows": rows})
    note = f"Samples of {cut} cells are left out to keep the file small." if cut else ""
    return found, note


def details(cells: Sequence[Cell]) -> dict[str, Any]:
    """Return what the drawer shows of each cell; provenance that cells share is stored once."""
    lines = max(6, min(25, LOG_CHARACTERS // (80 * max(len(cells), 1))))
    shared: list[dict[str, Any]] = []
    known: dict[str, int] = {}
    rows = {}
    for cell in cells:
        provenance = _provenance(cell.record)
        key = json.dumps(provenance, sort_keys=True)
        if key not in known:
            known[key] = len(shared)
            shared.append(provenance)
        log = tail(cell.folder / LOG_FILE, lines)
        rows[cell.record.cell] = {**_detail(cell), "provenance": known[key], "log": log}
    return {"cells": rows, "provenance": shared, "log_lines": lines}


def _detail(cell: Cell) -> dict[str, Any]:
    record = cell.record
    return {
        "arm": record.arm,
        "name": cell.name,
        "status": cell.status,
        "seeds": asdict(record.seeds),
        "cards": record.cards,
        "changes": {key: [plain(v) for v in pair] for key, pair in record.changes.items()},
        "facts": {
            "cell": record.cell,
            "step": f"{record.step:,} of {record.n_steps:,}",
            "tokens": f"{record.tokens:,}",
            "parameters": f"{record.n_params:,}",
            "steps skipped": record.skipped_steps,
            "test loss": record.losses.test,
            "validation loss": record.losses.val,
            "training loss": record.losses.train,
            "training": duration(record.cost.train_seconds / 3600),
            "tokens per second": record.cost.tokens_per_second,
            "peak memory, bytes": record.cost.peak_memory_bytes,
            "dollars": record.cost.usd,
            "started": record.started,
            "finished": record.finished,
            "final weights": record.fingerprints.final_weights,
            "data order": record.fingerprints.data_order,
            "error": record.error,
        },
    }


def _provenance(record: RunRecord) -> dict[str, Any]:
    given = asdict(record.provenance)
    packages = given.pop("packages")
    given.pop("command")  # one cell's own; its folder holds it
    given["packages"] = ", ".join(f"{name} {version}" for name, version in packages.items())
    return {key: value for key, value in given.items() if value not in (None, "")}


def tail(file: Path, lines: int) -> str:
    """Return the last lines of a text file without reading the whole of a long one."""
    if not file.is_file():  # a pipe would never end
        return ""
    try:
        with file.open("rb") as handle:
            handle.seek(max(0, file.stat().st_size - 400 * lines))
            text = handle.read().decode("utf-8", errors="replace")
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "\n".join(text.splitlines()[-lines:])


@dataclass(frozen=True, slots=True)
class About:
    """What a study trains, and what its arms change."""

    what: str
    """What was trained on what."""
    commands: list[str]
    """By which commands, the first one first."""
    changes: Table
    """What each arm changes."""


def about(cells: Sequence[Cell], arms: Sequence[str]) -> About | None:
    """Say what was trained on what, by which commands; None where no cell has begun."""
    if not cells:
        return None
    cell = next((cell for cell in cells if cell.record.arm == BASELINE), cells[0])
    record, config = cell.record, read_config(cell.folder)
    data = config.get("data") or {}
    corpus = " ".join(str(data[key]) for key in ("name", "path") if data.get(key))
    scale = f" (scale={config['scale_name']})" if config.get("scale_name") else ""
    tokens = record.n_tokens or record.tokens
    text = f"A model of {record.n_params:,} parameters{scale} on {tokens:,} tokens"
    text += f" of {corpus}" if corpus else ""
    by_time = sorted((cell.record for cell in cells), key=lambda record: record.started or "")
    typed = [_typed(record.provenance.command) for record in by_time]
    return About(f"{text}.", [*filter(None, dict.fromkeys(typed))], _changes_table(cells, arms))


def _typed(command: Sequence[str]) -> str:
    """Return a command as it was typed, without the place of its Python."""
    python, *rest = command or [""]
    return shlex.join([Path(python).name, *rest]) if rest else ""


def _changes_table(cells: Sequence[Cell], arms: Sequence[str]) -> Table:
    """Return what each arm changes in the baseline: in words, and setting by setting."""
    records = {cell.record.arm: cell.record for cell in cells}
    rows = [
        [
            words(arm),
            words("; ".join(str(card.get("summary", "")) for card in records[arm].cards.values())),
            words(", ".join(f"{k}: {a} → {b}" for k, (a, b) in records[arm].changes.items())),
        ]
        for arm in arms
        if arm in records and records[arm].changes | records[arm].cards
    ]
    labels = ("arm", "what it is", "settings")
    return Table("changes", "What each arm changes", columns(*labels, text=labels), rows)


def runs_table(runs: pd.DataFrame, metric: str) -> Table:
    """Return every run of a table from elsewhere, with its seed and figure."""
    seeds = [name for name in SEEDS if name in runs]
    kept = seeds if len({tuple(runs[name].astype(str)) for name in seeds}) > 1 else seeds[:1]
    heads = ["arm", *("seed" if len(kept) == 1 else name for name in kept), "status", metric, "run"]
    rows = [
        [
            words(row["arm"]),
            *(words(DASH if pd.isna(row[name]) else row[name]) for name in kept),
            words(status := row.get("status", "complete"), str(status)),
            figure(row.get(metric), 4),
            words(row.get("run_id", DASH)),
        ]
        for row in runs.to_dict("records")
    ]
    return Table("runs", "Every run", columns(*heads, text=("arm", "status", "run")), rows)


def ledger_table(cells: Sequence[Cell], runs: Runs) -> Table:
    """Return every planned or present cell with its seeds and what became of it."""
    time = time_unit(max((cell.record.cost.train_seconds for cell in cells), default=0) / 3600)
    rows = [
        [
            words(record.arm),
            *map(_seed, astuple(record.seeds)),
            words(status, status),
            figure(100 * record.step / record.n_steps, 0),
            figure(record.losses.test, 4),
            figure(record.cost.train_seconds / 3600 * time.per_hour, 1),
            words(record.cell, opens=record.cell),
        ]
        for record, status in ((cell.record, cell.status) for cell in cells)
    ]
    present = {*(cell.record.cell for cell in cells), *(cell["cell"] for cell in runs.not_named)}
    planned = [cell for plan in runs.plans.values() for cell in plan.cells]
    rows += [
        [
            words(cell["arm"]),
            *[_seed(cell["seeds"].get(kind)) for kind in KINDS],
            words("not started", NOT_STARTED),
            *[Item(DASH)] * 3,
            words(cell["cell"]),
        ]
        for cell in planned
        if cell["cell"] not in present
    ]
    labels = ("arm", *KINDS, "status", "% done", "test loss", time.name, "cell")
    heads = columns(*labels, text=("arm", "status", "cell"))
    return Table("ledger", "Every cell and its seeds", heads, rows)


def _seed(value: int | None) -> Item:
    return Item(DASH) if value is None else Item(str(value), float(value))
