"""Runs from the logs of modded-nanogpt and whoever prints as it does.

A line of such a log reads ``step:250/3250 val_loss:4.51 train_time:35000ms step_avg:140.0ms``;
whatever else the file holds, its source code for one, is passed over. The arm is the folder that
the log lies in; each log is a run, with the place of its name as its seed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.errors import AnalysisError
from analysis.runs.frame import Runs
from analysis.runs.normalise import normalised

LOGS = (".log", ".txt")
LINE = re.compile(
    r"^step:(\d+)(?:/\d+)?\s+val_loss:([\d.]+|nan|inf)(?:\s+train_time:([\d.]+)(ms|s))?",
    re.MULTILINE,
)
HOURS = {"ms": 1 / 3.6e6, "s": 1 / 3600}


def read_logs(files: Sequence[Path]) -> Runs:
    """Return one row for each validation of each log, with step, val_loss and hours."""
    rows, seen = [], Counter[str]()
    for file in files:
        try:
            found = LINE.findall(file.read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            raise AnalysisError(f"cannot read {file}: {error.strerror}") from error
        if not found:
            raise AnalysisError(
                f"{file} has no line such as 'step:250/3250 val_loss:4.51 train_time:35000ms': "
                "logs are read in modded-nanogpt's form"
            )
        arm = file.absolute().parent.name
        run = {"arm": arm, "seed": seen[arm], "run_id": f"{arm}/{file.stem}"}
        seen[arm] += 1
        rows += [
            run | {"step": int(step), "val_loss": float(loss),
                   "hours": float(time) * HOURS[unit] if time else None}
            for step, loss, time, unit in found
        ]  # fmt: skip
    return normalised(pd.DataFrame(rows), source="the logs")
