"""The one step by which every table and frame gets the shape that the analysis reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.errors import AnalysisError
from analysis.runs.frame import INTERVENTIONS, SEEDS, Runs, arm_name
from harness.records import BASELINE

GUESSES = {
    "arm": ("arm", INTERVENTIONS, "intervention", "variant", "config", "group", "name"),
    "test_loss": ("test_loss", "test/loss", "val_loss", "val/loss", "loss"),
    "init_seed": ("init_seed", "seed"),
    "data_seed": ("data_seed", "seed"),
    "loop_seed": ("loop_seed", "seed"),
    "status": ("status", "state"),
    "run_id": ("run_id", "run", "id"),
}
"""Our column -> names that foreign tables use for it, the first one present wins."""

STATES = {
    "finished": "complete",
    "completed": "complete",
    "done": "complete",
    "ok": "complete",
    "crashed": "failed",
    "killed": "failed",
    "error": "failed",
    "nan": "diverged",
    "pending": "running",
    "queued": "running",
}
"""Others' words for a status -> ours."""

NUMBERS = {"tokens", "step", "hours", "flops", "usd", "batch_size", "published_delta"}

TEXT = {"arm", INTERVENTIONS, "run_id", "status", "study", *SEEDS}

NOT_A_NUMBER = {"", "nan", "na", "n/a", "null", "none", "-"}


def normalised(
    raw: pd.DataFrame,
    columns: Mapping[str, str] | None = None,
    *,
    rows: Sequence[str] | None = None,
    source: str = "the runs",
) -> Runs:
    """Return a table in the analysis's shape: the one step that every table and frame takes.

    Columns that are not named are guessed, status words are translated, seeds are spread over the
    three kinds, and numbers that came as text become numbers.

    Parameters
    ----------
    raw
        One row a run.
    columns
        Our column -> the table's name for it.
    rows
        What a message calls each row, e.g. ``line 3``; default ``row 1`` and so on.
    source
        What a message calls the table.
    """
    columns, labels = dict(columns or {}), rows or [f"row {i + 1}" for i in range(len(raw))]
    frame = raw.reset_index(drop=True).copy()
    for ours, theirs in columns.items():
        if theirs not in raw:
            names = ", ".join(map(str, raw.columns))
            raise AnalysisError(f"{source} has no column {theirs!r}: its columns are {names}")
        frame[ours] = raw[theirs].to_numpy()
    taken, given = _guess(frame, columns), tuple(map(str, raw.columns))
    if INTERVENTIONS in (columns.get("arm"), taken.get("arm")):  # elsewhere a comma is of the name
        frame["arm"] = [arm_name(value) for value in frame["arm"]]
    given_states = frame["status"] if "status" in frame else [None] * len(frame)
    frame["status"] = [_state(value) for value in given_states]
    asked = set(columns) - TEXT
    for name in [n for n in frame if str(n).endswith("loss") or n in NUMBERS | asked]:
        where = [f"{source}, {label}, column {name!r}" for label in labels]
        frame[name] = [to_number(v, at) for v, at in zip(frame[name], where, strict=True)]
    if "run_id" not in frame and "arm" in frame:
        named_rows = zip(labels, frame["arm"], strict=True)
        frame["run_id"] = [f"{label} ({arm or BASELINE})" for label, arm in named_rows]
    return Runs(frame, given=given, taken_from=taken)


def _guess(frame: pd.DataFrame, columns: Mapping[str, str]) -> dict[str, str]:
    """Add our columns that a table has under another name; return which they were taken from."""
    taken, known = {}, frame.copy(deep=False)
    for ours, guesses in GUESSES.items():
        if ours not in frame:
            found = next((name for name in guesses if name in known), None)
            if found is not None:
                frame[ours] = known[found]
                taken[ours] = columns.get(found, found)
    return taken


def _state(value: object) -> str:
    text = "" if pd.isna(value) else str(value).strip().lower()  # type: ignore[call-overload]
    return STATES.get(text, text or "complete")


def to_number(value: Any, where: str) -> float:
    """Return a number, NaN where none is given; refuse anything else, saying `where` it stands."""
    if value is None or value is pd.NA or str(value).strip().lower() in NOT_A_NUMBER:
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise AnalysisError(f"{where}: {value!r} is not a number") from None
