"""Tables without a line for each run: arms or seeds as columns, or means with their sds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.runs.frame import is_missing, labels, named
from analysis.runs.reading import (
    GUESSES,
    Reading,
    find,
    is_number,
    is_unknown,
    known_as,
    meant,
    same_value,
    to_number,
)
from harness.records import BASELINE

SD = ("sd", "std", "stdev", "std_dev", "stddev", "standard_deviation")
SE = ("se", "sem", "stderr", "std_err", "standard_error")
SUMMARIES = {*SD, *SE, "mean", "average", "avg", "median", "min", "max", "sum", "total", "var"}
"""What a line below a table is called that sums up the others."""
COUNTS = ("n", "runs", "n_runs", "seeds", "n_seeds", "num_seeds", "count")
PLUS_MINUS = re.compile(
    r"(?P<mean>[^±]+?)\s*(?:±|\+/-|\+-|\\pm)\s*(?P<sd>[^()]+?)\s*(?:\(\s*(?:n\s*=\s*)?(?P<n>\d+)\s*\))?"
)
"""``3.31 ± 0.02 (5)``: mean, sd and, perhaps, the number of runs."""
_SEED = re.compile(r"(?:seed_?|s_?)?(\d+)")
_REPEAT = re.compile(r"(?:run|rep|repeat|trial)_?\d+")


@dataclass(frozen=True, slots=True)
class Shaped:
    """A table with a line for each run."""

    frame: pd.DataFrame
    places: tuple[str, ...]
    """What a message calls each row."""
    notes: tuple[str, ...] = ()
    summary: bool = False
    """No run is known, only how many there were, with their mean and sd."""


def where_true(table: Shaped, where: Mapping[str, str], source: str) -> Shaped:
    """Keep the rows that were asked for."""
    for name, wanted in where.items():
        column = find(table.frame.columns, (name, known_as(name)), source)
        if column is None:
            names = ", ".join(table.frame.columns)
            raise AnalysisError(
                f"--where {name}={wanted}: {source} has no such column; it has {names}"
                f"{meant('--where ', name, table.frame.columns, f'={wanted}')}"
            )
        values = table.frame[column]
        kept = [same_value(value, wanted) for value in values]
        if not any(kept):
            there = named(dict.fromkeys(str(value) for value in values))
            raise AnalysisError(f"--where {name}={wanted}: no row of {source}; {column} is {there}")
        note = f"{sum(kept)} of {len(kept)} rows have {column} = {wanted}"
        table = replace(
            table,
            frame=table.frame[kept].reset_index(drop=True),
            places=tuple(at for at, keep in zip(table.places, kept, strict=True) if keep),
            notes=(*table.notes, note),
        )
    return table


def one_line_a_run(table: Shaped, reading: Reading, source: str) -> Shaped:
    """Return a table in which each run has a line, whatever shape it came in."""
    columns = [str(name) for name in table.frame.columns]
    mine = reading.columns.get
    metric = mine(reading.metric) or find(columns, (reading.metric,), source)
    if metric is None and reading.metric == "test_loss":
        metric = find(columns, GUESSES["test_loss"], source)
    arm = mine("arm") or find(columns, GUESSES["arm"], source)
    _refuse_merged(table, arm, source)
    if reading.wide is None and metric in columns:
        texts = [str(value) for value in table.frame[metric] if not is_missing(value)]
        if texts and all(PLUS_MINUS.fullmatch(text.strip()) for text in texts):
            return _runs_of(_split(table, metric), arm, reading.metric, source)
        if arm is not None:
            _refuse_summaries(table, arm, _seed_column(columns, reading, source), source)
        return table
    long = _long(table, reading, arm, source)
    mean = None if metric else find(columns, ("mean", "average", f"mean_{reading.metric}"), source)
    if long is table and mean is not None:
        return _runs_of(table, arm, reading.metric, source)
    return long


def _seed_column(columns: Iterable[str], reading: Reading, source: str) -> str | None:
    return reading.columns.get("seed") or find(columns, ("seed", "init_seed"), source)


def _refuse_merged(table: Shaped, arm: str | None, source: str) -> None:
    """Refuse arms that stand in the first line of their runs alone, as in merged cells.

    Elsewhere a blank arm is the baseline.
    """
    arms = labels(table.frame[arm]) if arm in table.frame else []
    names = [name for name in arms if name is not None]
    starts = {above for above, name in pairwise(arms) if above is not None and name is None}
    if len(starts) > 1 and len(names) == len({*names}):
        blank = [at for at, name in zip(table.places, arms, strict=True) if name is None]
        raise AnalysisError(
            f"{source}: column {arm!r} is blank in {named(blank)}, below {named(sorted(starts))}, "
            "as in merged cells: write each run's arm into its line"
        )


def _refuse_summaries(table: Shaped, arm: str | None, seed: str | None, source: str) -> None:
    """Refuse lines that sum up others, and would count as runs.

    An arm may have such a name: it is one where its runs have seeds, or where all have none.
    """
    frame = table.frame
    seeds: list[str | None] = labels(frame[seed]) if seed in frame else [None] * len(frame)
    arms: list[str | None] = labels(frame[arm]) if arm in frame else [None] * len(frame)
    several = any(seeds) or any(arms.count(name) > 1 for name in arms if name is not None)
    label = [name if of is None else of for name, of in zip(arms, seeds, strict=True)]
    found = [
        f"{at} ({name or 'no seed'})"
        for at, name in zip(table.places, label, strict=True)
        if (several and known_as(name) in SUMMARIES)
        or (name is None and arm is None and any(seeds))
    ]
    if found:
        raise AnalysisError(
            f"{source}: {named(found)} sums up other lines and is no run: take such lines out"
        )


def _long(table: Shaped, reading: Reading, arm: str | None, source: str) -> Shaped:
    """Give arms or seeds that have a column each a line each."""
    frame = table.frame
    seed = _seed_column(frame.columns, reading, source)
    rest = [c for c in frame.columns if c not in (arm, seed) and _is_numeric(frame[c])]
    repeats = [c for c in rest if _SEED.fullmatch(known_as(c)) or _REPEAT.fullmatch(known_as(c))]
    of_seeds = arm is not None and len(repeats) > 1
    told = seed is not None or BASELINE in rest
    of_arms = arm is None and told and {*frame.columns} == {*rest, seed} - {None} and len(rest) > 1
    wide = reading.wide or ("seeds" if of_seeds else "arms" if of_arms else None)
    if wide is None:
        return table
    if wide == "arms":
        _refuse_summaries(table, None, seed, source)
    if of_seeds and reading.wide is None:
        _refuse_bare_numbers(repeats, source)
    chosen = (repeats or rest) if wide == "seeds" else rest
    if not chosen or (wide == "seeds" and arm is None):
        raise AnalysisError(
            f"--wide {wide}: {source} has no columns of numbers for it"
            if arm or wide == "arms"
            else f"--wide seeds: name the column of the arms of {source}: --column arm=NAME"
        )
    parts = [
        pd.DataFrame(_melted(frame, column, wide=wide, arm=arm, seed=seed)).assign(
            **{reading.metric: frame[column].to_numpy()}
        )
        for column in chosen
    ]
    long = pd.concat(parts, ignore_index=True)
    there = [not is_unknown(value) for value in long[reading.metric]]
    places = [f"{at}, column {column!r}" for column in chosen for at in table.places]
    note = f"one column for each of the {wide}: {named(chosen)} (--wide)"
    return replace(
        table,
        frame=long[there].reset_index(drop=True),
        places=tuple(at for at, given in zip(places, there, strict=True) if given),
        notes=(*table.notes, note),
    )


def _refuse_bare_numbers(columns: list[str], source: str) -> None:
    """Refuse columns that are numbers alone: they may be seeds, and may be steps of training."""
    bare = [name for name in columns if name.strip().isdecimal()]
    if bare:
        raise AnalysisError(
            f"{source}: the columns {named(bare)} are seeds or steps: if seeds, add --wide seeds; "
            f"of steps compare one, --metric {bare[-1]}"
        )


def _melted(
    frame: pd.DataFrame, column: str, *, wide: str, arm: str | None, seed: str | None
) -> dict[str, object]:
    """Return arm and seed of the runs in one column."""
    if wide == "arms":
        seeds = {} if seed is None else {"seed": frame[seed].to_numpy()}
        return {"arm": [column] * len(frame), **seeds}
    number = _SEED.fullmatch(known_as(column))
    return {"arm": frame[arm].to_numpy()} | ({"seed": number[1]} if number else {})


def _is_numeric(values: pd.Series) -> bool:
    known = [value for value in values if not is_unknown(value)]
    return bool(known) and all(is_number(value) for value in known)


def _split(table: Shaped, column: str) -> Shaped:
    """Give mean, sd and number of ``3.31 ± 0.02 (5)`` a column each."""
    found = [PLUS_MINUS.fullmatch(str(value).strip()) for value in table.frame[column]]
    parts = pd.DataFrame([match.groupdict() if match else {} for match in found])
    if parts["n"].isna().all():
        parts = parts.drop(columns="n")
    frame = table.frame.drop(columns=[column, *(c for c in parts if c in table.frame)])
    return replace(table, frame=pd.concat([frame, parts], axis=1))


def _runs_of(table: Shaped, arm: str | None, metric: str, source: str) -> Shaped:
    """Return as many runs for each arm as it had, with exactly its mean and sd.

    An unpaired comparison depends on nothing else of the runs.
    """
    frame, columns = table.frame, table.frame.columns
    mean = find(columns, ("mean", "average", f"mean_{metric}"), source)
    sd, se, n = (find(columns, words, source) for words in (SD, SE, COUNTS))
    needed = {"arm": arm, "mean": mean, "sd (or se)": sd or se, "n, the number of runs": n}
    if missing := [what for what, column in needed.items() if column is None]:
        raise AnalysisError(
            f"{source} has means instead of runs, and no column for {', '.join(missing)}; it has "
            f"{', '.join(columns)}: add what is missing, or name it, e.g. --column arm={columns[0]}"
        )
    spread = sd or se
    parts, places = [], []
    for at, row in zip(table.places, frame.to_dict("records"), strict=True):
        where = f"{source}, {at}"
        count = int(to_number(row[n], f"{where}, column {n!r}"))
        size = 0.0 if count == 1 else to_number(row[spread], f"{where}, column {spread!r}")
        size *= 1.0 if sd else count**0.5
        losses = to_number(row[mean], f"{where}, column {mean!r}") + size * _scores(count)
        parts.append(pd.DataFrame({"arm": row[arm], metric: losses}))
        places += [f"{at}, run {i + 1} of {count}" for i in range(count)]
    kind = f"{sd} is the sd of single runs" if sd else f"{se} is the standard error of the mean"
    note = f"means of a table, not runs: {kind}, and nothing is known of pairs, so all is unpaired"
    return Shaped(pd.concat(parts, ignore_index=True), tuple(places), (*table.notes, note), True)


def _scores(n: int) -> np.ndarray:
    """Return n values with mean 0 and sd 1, spread as a normal sample."""
    if n == 1:
        return np.zeros(1)
    scores = np.array([NormalDist().inv_cdf((i + 0.5) / n) for i in range(n)])
    scaled: np.ndarray = (scores - scores.mean()) / scores.std(ddof=1)
    return scaled
