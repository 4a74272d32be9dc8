"""The one step by which every table and frame gets the shape that the analysis reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.errors import AnalysisError
from analysis.runs.frame import INTERVENTIONS, SEEDS, Runs, arm_name, labels
from analysis.runs.reading import (
    GUESSES,
    Reading,
    find,
    has_words,
    is_number,
    is_unknown,
    known_as,
    meant,
    tidied,
    to_number,
)
from analysis.runs.shapes import Shaped, one_line_a_run, where_true
from harness.records import BASELINE

STATES = {
    **dict.fromkeys(("finished", "completed", "done", "ok", "success", "succeeded"), "complete"),
    **dict.fromkeys(("crashed", "killed", "error", "fail", "out_of_memory", "node_fail"), "failed"),
    **dict.fromkeys(("preempted", "pruned", "timeout", "cancelled", "canceled"), "stopped"),
    **dict.fromkeys(("pending", "queued", "scheduled", "waiting"), "running"),
    "terminated": "complete",  # Ray Tune's
}
"""Others' words for a status -> ours."""

NUMBERS = {
    *("tokens", "step", "n_steps", "n_params", "batch_size"),
    *("hours", "flops", "usd", "published_delta"),
}

TEXT = {"arm", INTERVENTIONS, "run_id", "status", "study", "seed", *SEEDS}


def normalised(
    raw: pd.DataFrame,
    reading: Reading | None = None,
    *,
    rows: Sequence[str] | None = None,
    source: str = "the runs",
) -> Runs:
    """Return a table in the analysis's shape: the one step that every table and frame takes.

    Columns that are not named are guessed, status words are translated, seeds are spread over the
    three kinds, and numbers that came as text become numbers.

    `rows` are what messages call each row, by default ``row 1`` and so on, and `source` the table.
    """
    reading = reading or Reading()
    places = tuple(rows or [f"row {i + 1}" for i in range(len(raw))])
    tidy = tidied(raw, [*reading.columns.values(), reading.metric], source)
    given = tuple(map(str, tidy.columns))
    shaped = where_true(Shaped(tidy, places, source), reading.where)
    shaped = one_line_a_run(_arms_of_columns(shaped, reading.columns), reading)
    frame, places = shaped.frame, shaped.places
    taken = _columns(frame, reading.columns, source)
    if "arm" in frame:
        lists = INTERVENTIONS in (reading.columns.get("arm"), str(taken.get("arm")).casefold())
        frame["arm"] = _arms(frame["arm"], lists=lists)
    frame["status"] = list(map(_state, frame["status"] if "status" in frame else [""] * len(frame)))
    names = taken | {ours: name for ours, name in reading.columns.items() if name in frame}
    notes = _numbers(frame, reading, [f"{source}, {at}" for at in places], names)
    made_up = _name(frame, places, taken)
    return Runs(
        frame,
        given=given,
        taken_from=taken,
        names=names,
        notes=(*shaped.notes, *notes),
        names_made_up=made_up,
        summary=shaped.summary,
    )


def _arms_of_columns(table: Shaped, columns: Mapping[str, str]) -> Shaped:
    """Make one column of the several that name an arm, ``arm=model,lr``."""
    theirs = columns.get("arm", "")
    parts = [part.strip() for part in theirs.split(",")]
    if len(parts) == 1 or theirs in table.frame or not {*parts} <= {*table.frame.columns}:
        return table
    texts = [labels(table.frame[part]) for part in parts]
    names = [", ".join(str(part) for part in row) for row in zip(*texts, strict=True)]
    table.frame[theirs] = names
    return table


def _columns(frame: pd.DataFrame, columns: Mapping[str, str], source: str) -> dict[str, str]:
    """Add our columns that a table has under another name; return which they were taken from."""
    given, taken = frame.copy(deep=False), {}
    for ours, theirs in columns.items():
        if theirs in given:
            frame[ours] = given[theirs]
        elif ours not in given:
            names = ", ".join(map(str, given.columns))
            raise AnalysisError(
                f"{source} has no column {theirs!r}: its columns are {names}"
                f"{meant(f'--column {ours}=', theirs, given.columns)}"
            )
    known = {**dict.fromkeys(frame.columns)}
    for ours, words in GUESSES.items():
        if ours not in frame:
            found = find(known, words, source)
            if found is not None and not (ours == "arm" and _names_runs(frame, found)):
                frame[ours] = frame[found]
                taken[ours] = columns.get(found, found)
    return taken


def _names_runs(frame: pd.DataFrame, name: str) -> bool:
    """Tell whether a column names runs and not arms: its words differ, another's come again."""
    seeds = [n for n in frame if known_as(n) in GUESSES[SEEDS[0]] and frame[n].nunique() > 1]
    if not seeds or not frame[name].is_unique:
        return False
    others = (frame[n].astype(str) for n in frame if n != name)
    return any(1 < texts.nunique() < len(texts) and has_words(texts) for texts in others)


def _arms(values: pd.Series, *, lists: bool) -> list[str]:
    """Return each arm's name: as the table says it, or from a list of interventions."""
    if lists or any(not isinstance(v, str) and pd.api.types.is_list_like(v) for v in values):
        return [arm_name(value) for value in values]
    return [name or BASELINE for name in labels(values)]


def _state(value: object) -> str:
    if is_unknown(value):
        return "complete"
    text = str(value).strip().casefold()
    return STATES.get(text, text)


def _numbers(
    frame: pd.DataFrame, reading: Reading, places: Sequence[str], names: Mapping[str, str]
) -> list[str]:
    """Turn text into numbers; drop, with a note, columns of other text that were not asked for."""
    asked, notes = ({*reading.columns} | {reading.metric, "test_loss"}) - TEXT, []
    for name in [n for n in frame if str(n).endswith("loss") or n in NUMBERS | asked]:
        wrong = next((value for value in frame[name] if not is_number(value)), None)
        if wrong is not None and name not in asked:
            if name in NUMBERS:
                notes.append(f"{name} is not read: {wrong!r} is no number")
                del frame[name]
            continue
        where = [f"{at}, column {names.get(str(name), str(name))!r}" for at in places]
        frame[name] = [to_number(v, at) for v, at in zip(frame[name], where, strict=True)]
    return notes


def _name(frame: pd.DataFrame, places: Sequence[str], taken: dict[str, str]) -> bool:
    """Give each run a name; tell whether it was made up.

    A column that was guessed and counts an arm's runs, 1 to 3 for each, names a run with its arm.
    """
    if "run_id" in taken and "arm" in frame:
        ids = frame["run_id"].map(str)
        if not ids.is_unique:
            frame["run_id"] = frame["arm"] + " " + ids
            return True
    if "run_id" in frame or "arm" not in frame:
        return False
    frame["run_id"] = [f"{at} ({arm})" for at, arm in zip(places, frame["arm"], strict=True)]
    return True
