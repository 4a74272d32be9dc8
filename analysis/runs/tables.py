"""Where runs come from: record files, CSV or parquet tables of any project, W&B."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import AnalysisError
from analysis.runs.frame import Runs, join
from analysis.runs.logs import LOGS, read_logs
from analysis.runs.normalise import normalised
from harness.records import RECORD_FILE, REPORT_JOB

TABLES = (".csv", ".tsv", ".parquet")
WANDB = "wandb:"


def read_runs(sources: Sequence[str], columns: Mapping[str, str] | None = None) -> Runs:
    """Read runs from one or many places.

    Parameters
    ----------
    sources
        Folders or files of records, ``.csv``, ``.tsv`` or ``.parquet`` tables, logs of
        modded-nanogpt (`analysis.runs.logs`), or ``wandb:ENTITY/PROJECT``.
    columns
        Our column -> the table's name for it, e.g. ``{"test_loss": "eval/loss"}``; what is not
        named is guessed (`analysis.runs.frame.GUESSES`).

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
    tables = [s for s in sources if s.startswith(WANDB) or Path(s).suffix.lower() in TABLES]
    logs = [Path(s) for s in sources if Path(s).suffix.lower() in LOGS and s not in tables]
    folders = [Path(s) for s in sources if s not in tables and Path(s) not in logs]
    missing = [s for s in sources if not s.startswith(WANDB) and not Path(s).exists()]
    if missing:
        raise AnalysisError(
            f"{missing[0]} does not exist: give a study's folder or a table; "
            "the commands: python -m analysis --help"
        )
    for folder in folders:
        if folder.is_file() and folder.name != RECORD_FILE:
            raise AnalysisError(
                f"{folder} is neither a {RECORD_FILE} nor one of {', '.join((*TABLES, *LOGS))}"
            )
    parts = [read_table(table, columns) for table in tables]
    parts += [replace(read_logs(logs), home=logs[0].parent, stem="logs_results")] if logs else []
    if folders:
        from analysis.runs.records import read_records

        parts.insert(0, read_records(folders))
    return join(parts)


def read_table(source: str, columns: Mapping[str, str] | None = None) -> Runs:
    """Read a table of runs that this project did not write; parameters as in `read_runs`."""
    if source.startswith(WANDB):
        raw = _from_wandb(source.removeprefix(WANDB))
        return replace(normalised(raw, columns, source=source), home=Path(), stem="wandb_results")
    path = Path(source)
    if path.suffix.lower() == ".parquet":
        raw, lines = _from_parquet(path), None
    else:
        raw, lines = _from_csv(path)
    runs = normalised(raw, columns, rows=lines, source=source)
    return replace(runs, home=path.parent, stem=f"{path.stem}_results")


def _from_csv(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return the table, and what a message calls each of its rows."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [name.strip() for name in next(reader, [])]
            rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AnalysisError(f"cannot read {path}: {error}") from error
    if not header or not rows:
        raise AnalysisError(f"{path} has no rows: a header and one line a run are needed")
    if len(header) == 1 and ";" in header[0]:
        raise AnalysisError(
            f"{path}, line 1: the columns are separated by semicolons; save it with commas (and "
            "with points in the numbers)"
        )
    again = [name for name in header if header.count(name) > 1]
    if again:
        raise AnalysisError(f"{path}, line 1: two columns are called {again[0]!r}")
    for line, row in rows:
        if len(row) != len(header):
            missing = header[len(row)] if len(row) < len(header) else f"number {len(header) + 1}"
            raise AnalysisError(
                f"{path}, line {line}, column {missing!r}: {len(row)} values where the header has "
                f"{len(header)}"
            )
    frame = pd.DataFrame([row for _, row in rows], columns=header, dtype=object)
    return frame, [f"line {line}" for line, _ in rows]


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
    row = dict(_flat(dict(run.config)))
    row |= {key: value for key, value in _flat(dict(run.summary)) if not isinstance(value, list)}
    row |= {"run_id": run.id, "status": run.state}
    row.setdefault("arm", run.job_type or run.name)
    row["published_delta"] = row.get(f"interventions.{row['arm']}.published_delta")
    for ours in ("init", "data", "loop"):
        if f"seeds.{ours}" in row:
            row[f"{ours}_seed"] = row[f"seeds.{ours}"]
    return row


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{key}.")
        elif not str(key).startswith("_"):
            pairs.append((f"{prefix}{key}", value))
    return pairs
