"""Runs from the logs of modded-nanogpt and whoever prints as it does.

A line of such a log reads ``step:250/3250 val_loss:4.51 train_time:35000ms step_avg:140.0ms``;
whatever else the file holds, its source code for one, is passed over. The arm is the folder that
the log lies in, and each log is a run; of its seed nothing is known.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import AnalysisError
from analysis.runs.frame import Runs
from analysis.runs.normalise import normalised
from harness.records import RECORD_FILE

LOGS = (".log", ".txt")
LINE = re.compile(
    r"^step:(\d+)(?:/\d+)?\s+val_loss:([\d.]+|nan|inf)(?:\s+train_time:([\d.]+)(ms|s))?",
    re.MULTILINE,
)
HOURS = {"ms": 1 / 3.6e6, "s": 1 / 3600}


def logs_below(folder: Path) -> list[Path]:
    """Return the logs at or below a folder that holds no records."""
    if any(folder.rglob(RECORD_FILE)):
        return []
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in LOGS)
    return [file for file in files if file.is_file() and _lines(file)]


def read_logs(files: Sequence[Path]) -> Runs:
    """Return one row for each validation of each log, with step, val_loss and hours."""
    rows: list[dict[str, Any]] = []
    for file in files:
        found = _lines(file)
        if not found:
            raise AnalysisError(
                f"{file} has no line such as 'step:250/3250 val_loss:4.51 train_time:35000ms': "
                "logs are read in modded-nanogpt's form"
            )
        arm = file.absolute().parent.name
        finite = math.isfinite(float(found[-1][1]))
        rows += [
            {"arm": arm, "run_id": f"{arm}/{file.stem}",
             "status": "complete" if finite else "diverged", "step": int(step),
             "val_loss": float(loss), "hours": float(time) * HOURS[unit] if time else None}
            for step, loss, time, unit in found
        ]  # fmt: skip
    return normalised(pd.DataFrame(rows), source="the logs")


def _lines(file: Path) -> list[tuple[str, ...]]:
    try:
        return LINE.findall(file.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise AnalysisError(f"cannot read {file}: {error.strerror}") from error
