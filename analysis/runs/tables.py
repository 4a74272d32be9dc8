"""Where runs come from: record files, CSV, JSON or parquet tables of any project, W&B."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import AnalysisError, needed
from analysis.runs.csv_file import read_csv
from analysis.runs.frame import Runs, join
from analysis.runs.logs import LOGS, logs_below, read_logs
from analysis.runs.normalise import normalised
from analysis.runs.reading import Reading
from harness.records import RECORD_FILE, REPORT_JOB
from harness.records.files import flatten
from harness.records.reading import (
    NOT_PARSED,
    RecordError,
    check_depth,
    read_bytes,
    read_json_lines,
    said,
)
from harness.records.study import meant

JSON, JSON_LINES = ".json", (".jsonl", ".ndjson")
TABLES = (".csv", ".tsv", ".parquet", JSON, *JSON_LINES)
FORM = '[{"arm": "baseline", "seed": 0, "test_loss": 3.29}, ...]'
OUR_RESULTS = {"arm", "n", "mean_loss", "delta", "verdict"}
"""Columns of the table that this program writes beside the runs."""
WANDB = "wandb:"


def read_runs(
    sources: Sequence[str],
    columns: Mapping[str, str] | None = None,
    *,
    reading: Reading | None = None,
) -> Runs:
    """Read runs from one or many places.

    Parameters
    ----------
    sources
        Folders or files of records, ``.csv``, ``.tsv``, ``.parquet``, ``.json`` or ``.jsonl``
        tables, logs of modded-nanogpt (`analysis.runs.logs`), or ``wandb:ENTITY/PROJECT``.
    columns
        Our column -> the table's name for it, e.g. ``{"test_loss": "eval/loss"}``; what is not
        named is guessed (`analysis.runs.reading.GUESSES`).
    reading
        What else is to be said of the tables.

    Returns
    -------
    Runs
        All of them in one frame.

    Raises
    ------
    AnalysisError
        A path that does not exist or cannot be read; in a table, the line and the column.
    """
    if not sources:
        raise AnalysisError("no runs given: name a study's folder, e.g. runs/demo, or a CSV")
    tables = [source for source in sources if is_table(source)]
    records, logs = _folders_and_logs(sources)
    how = reading or Reading()
    how = replace(how, columns={**how.columns, **(columns or {})})
    parts = _told_apart(tables, [read_table(table, how) for table in tables])
    if logs:
        parts.append(replace(read_logs(logs), home=logs[0].parent, stem="logs_results"))
    if records:
        from analysis.runs.records import read_records

        parts.insert(0, read_records(records))
    return join(parts)


def _instead(given: str) -> str:
    """Say what was meant by a source that does not exist."""
    if near := meant(given):
        return near
    if re.match(r"\+?[\w.]+=", given):
        return (
            "that is a setting of python -m harness; its studies are priced by "
            "python -m harness.bill, and judged by their folder, e.g. runs/demo"
        )
    return "give a study's folder or a table; the commands: python -m analysis --help"


def _folders_and_logs(sources: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Return what holds records, and the logs: those that are named, then those in folders."""
    logs, below, records = [], [], []
    for source in (source for source in sources if not source.startswith(WANDB)):
        place = Path(source)
        if not place.exists():
            raise AnalysisError(f"{source} does not exist: {_instead(source)}")
        if not place.is_dir() and not place.is_file():
            raise AnalysisError(f"{place} is no folder and no regular file")
        if is_table(place):
            continue
        if place.suffix.lower() in LOGS:
            logs.append(place)
        elif place.is_dir() and (found := logs_below(place)):
            below += found
        elif place.is_dir() or place.name == RECORD_FILE:
            records.append(place)
        else:
            known = ", ".join((*TABLES, *LOGS))
            raise AnalysisError(
                f"{place} is neither a {RECORD_FILE} nor one of {known}; save its table as CSV"
            )
    return records, [*logs, *below]


def is_table(source: str | Path) -> bool:
    """Tell whether runs come from a table of any program, and not from records or logs."""
    place = Path(source)
    table = place.suffix.lower() in TABLES and place.name != RECORD_FILE
    return table or str(source).startswith(WANDB)


def _told_apart(tables: Sequence[str], parts: Sequence[Runs]) -> list[Runs]:
    """Leave out results of our own, and name the file of runs that have no names in several."""
    pairs = list(zip(tables, parts, strict=True))
    ours = [name for name, part in pairs if len(part.frame) and {*part.given} >= OUR_RESULTS]
    kept = [(name, part) for name, part in pairs if name not in ours]
    if ours and not kept:
        raise AnalysisError(
            f"{tables[0]} is a results table that this program wrote: give it the runs instead"
        )
    for name, part in kept:
        if part.names_made_up and len(kept) > 1:
            part.frame["run_id"] = f"{name}, " + part.frame["run_id"]
    note = (f"left out, as results of this program: {', '.join(ours)}",) if ours else ()
    return [replace(part, notes=(*part.notes, *note)) for _, part in kept]


def read_table(source: str, reading: Reading) -> Runs:
    """Read a table of runs that this project did not write."""
    if source.startswith(WANDB):
        raw = _from_wandb(source.removeprefix(WANDB))
        return replace(normalised(raw, reading, source=source), home=Path(), stem="wandb_results")
    path, lines = Path(source), None
    notes: tuple[str, ...] = ()
    if path.suffix.lower() == ".parquet":
        raw = _from_parquet(path)
    elif path.suffix.lower() in (JSON, *JSON_LINES):
        raw = _from_json(path)
    else:
        file = read_csv(path)
        raw, lines, notes = file.frame, file.lines, file.notes
    if {*raw.columns} >= OUR_RESULTS:
        return Runs(raw, given=tuple(raw.columns))
    runs = normalised(raw, reading, rows=lines, source=source)
    return replace(runs, home=path.parent, stem=f"{path.stem}_results", notes=(*notes, *runs.notes))


@needed()
def _from_json(path: Path) -> pd.DataFrame:
    """Return one row an object; entries of nested ones get dotted names, as ``config.lr``."""
    rows = _whole(path) if path.suffix.lower() == JSON else None
    if rows is None:
        rows = read_json_lines(path, lambda line: _one_run(json.loads(line)))
    if not rows:
        raise AnalysisError(f"{path} has no rows: one JSON object a run is needed")
    return pd.DataFrame([flatten(row) for row in rows])


def _whole(path: Path) -> list[dict[str, Any]] | None:
    """Return the runs of a file that is one JSON value; None: it is JSON lines."""
    raw = read_bytes(path)
    try:
        return [_one_run(row) for row in _rows(json.loads(raw.decode("utf-8-sig")))]
    except NOT_PARSED as error:
        if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
            return None  # behind the first line's object
        raise RecordError(path, f"{said(error)}; a list of runs is read: {FORM}") from error


def _rows(content: Any) -> list[Any]:
    """Return the rows of a list, of the results that this program writes, or of columns."""
    if isinstance(content, dict) and isinstance(content.get("table"), list):
        content = content["table"]
    if isinstance(content, list):
        return content
    columns = list(content.values()) if isinstance(content, dict) else []
    for kind, index in ((list, lambda column: range(len(column))), (dict, list)):
        if columns and all(isinstance(c, kind) and index(c) == index(columns[0]) for c in columns):
            return [{name: content[name][i] for name in content} for i in index(columns[0])]
    raise ValueError(f"{json.dumps(content):.60} is no table")


def _one_run(row: Any) -> dict[str, Any]:
    """Return a run as other programs write it, with NaN for what is not known."""
    if not isinstance(row, dict):
        raise ValueError(f"{row!r:.60} is no object")
    check_depth(row)
    return row


def _from_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError, ImportError) as error:
        raise AnalysisError(f"cannot read {path}: {error}") from error


def _from_wandb(project: str) -> pd.DataFrame:
    """Return config and summary of every run of ``ENTITY/PROJECT``; asks the W&B server."""
    try:
        import wandb
    except ImportError as error:
        raise AnalysisError("reading a W&B project needs wandb: pip install wandb") from error
    try:
        runs = list(wandb.Api().runs(project, lazy=False))
    except Exception as error:
        raise AnalysisError(
            f"cannot read the W&B project {project!r}: {error}; is it ENTITY/PROJECT, and are you "
            "logged in (wandb login)?"
        ) from error
    runs = [run for run in runs if run.job_type != REPORT_JOB]
    if not runs:
        raise AnalysisError(f"the W&B project {project!r} has no runs")
    return pd.DataFrame([wandb_row(run) for run in runs])


def wandb_row(run: Any) -> dict[str, Any]:
    """Return one run of `wandb.Api` as a row: its config, its summary, its state.

    Nested config entries get dotted names (``seeds.init``); the arm is the run's job type, as this
    project logs it.
    """
    row = _public(run.config)
    row |= {
        key: value for key, value in _public(run.summary).items() if not isinstance(value, list)
    }
    row |= {"run_id": run.id, "status": run.state}
    row.setdefault("arm", run.job_type or run.name)
    row["published_delta"] = row.get(f"interventions.{row['arm']}.published_delta")
    for ours in ("init", "data", "loop"):
        if f"seeds.{ours}" in row:
            row[f"{ours}_seed"] = row[f"seeds.{ours}"]
    return row


def _public(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries whose own names do not begin with an underscore, as W&B's do."""
    flat = flatten(dict(tree))
    return {key: v for key, v in flat.items() if not key.rpartition(".")[2].startswith("_")}
