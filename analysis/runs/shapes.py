"""Tables without a line for each run: arms or seeds as columns, or means with their sds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress, pairwise
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
    """A table on its way to one line a run."""

    frame: pd.DataFrame
    places: tuple[str, ...]
    """What a message calls each row."""
    source: str
    """What a message calls the table."""
    notes: tuple[str, ...] = ()
    summary: bool = False
    """No run is known, only how many there were, with their mean and sd."""

    def find(self, words: Iterable[str]) -> str | None:
        """Return the column that goes by one of these words, None if there is none."""
        return find(self.frame.columns, words, self.source)

    def keep(self, kept: Sequence[bool], note: str) -> Shaped:
        """Return the table with some of its rows, and a note that says so."""
        return replace(
            self,
            frame=self.frame[kept].reset_index(drop=True),
            places=tuple(compress(self.places, kept)),
            notes=(*self.notes, note),
        )


@dataclass(frozen=True, slots=True)
class Roles:
    """The columns of a table that hold the metric, the arms and the seeds; None: none does."""

    metric: str | None
    arm: str | None
    seed: str | None


def where_true(table: Shaped, where: Mapping[str, str]) -> Shaped:
    """Keep the rows that were asked for."""
    for name, wanted in where.items():
        column = table.find((name, known_as(name)))
        if column is None:
            names = ", ".join(table.frame.columns)
            raise AnalysisError(
                f"--where {name}={wanted}: {table.source} has no such column; it has {names}"
                f"{meant('--where ', name, table.frame.columns, f'={wanted}')}"
            )
        values = table.frame[column]
        kept = [same_value(value, wanted) for value in values]
        if not any(kept):
            there = named(dict.fromkeys(str(value) for value in values))
            raise AnalysisError(
                f"--where {name}={wanted}: no row of {table.source}; {column} is {there}"
            )
        table = table.keep(kept, f"{sum(kept)} of {len(kept)} rows have {column} = {wanted}")
    return table


def one_line_a_run(table: Shaped, reading: Reading) -> Shaped:
    """Return a table in which each run has a line, whatever shape it came in."""
    roles = _roles(table, reading)
    _refuse_merged(table, roles.arm)
    metric = roles.metric
    if reading.wide is None and metric is not None and metric in table.frame:
        texts = [str(value) for value in table.frame[metric] if not is_missing(value)]
        if texts and all(PLUS_MINUS.fullmatch(text.strip()) for text in texts):
            return _runs_of_means(_split(table, metric), roles.arm, reading.metric)
        if roles.arm is not None:
            _refuse_summaries(table, roles.arm, roles.seed)
        return table
    if (long := _from_wide(table, roles, reading)) is not None:
        return long
    if metric is None and table.find(_means(reading.metric)) is not None:
        return _runs_of_means(table, roles.arm, reading.metric)
    return table


def _roles(table: Shaped, reading: Reading) -> Roles:
    """Return which column holds what, as it was told or as it is guessed."""
    told = reading.columns.get
    metric = told(reading.metric) or table.find((reading.metric,))
    if metric is None and reading.metric == "test_loss":
        metric = table.find(GUESSES["test_loss"])
    arm = told("arm") or table.find(GUESSES["arm"])
    return Roles(metric, arm, told("seed") or table.find(("seed", "init_seed")))


def _refuse_merged(table: Shaped, arm: str | None) -> None:
    """Refuse arms that stand in the first line of their runs alone, as in merged cells.

    Elsewhere a blank arm is the baseline.
    """
    arms = labels(table.frame[arm]) if arm in table.frame else []
    names = [name for name in arms if name is not None]
    starts = {above for above, name in pairwise(arms) if above is not None and name is None}
    if len(starts) > 1 and len(names) == len({*names}):
        blank = [at for at, name in zip(table.places, arms, strict=True) if name is None]
        raise AnalysisError(
            f"{table.source}: column {arm!r} is blank in {named(blank)}, below "
            f"{named(sorted(starts))}, as in merged cells: write each run's arm into its line"
        )


def _refuse_summaries(table: Shaped, arm: str | None, seed: str | None) -> None:
    """Refuse lines that sum up others, and would count as runs.

    An arm may be called "mean" or the like: it is one where its runs have seeds, or where no run
    has any.
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
            f"{table.source}: {named(found)} sums up other lines and is no run: take such lines out"
        )


def _from_wide(table: Shaped, roles: Roles, reading: Reading) -> Shaped | None:
    """Give each number in columns of arms or seeds a line; None: the columns are neither."""
    frame, (arm, seed) = table.frame, (roles.arm, roles.seed)
    numeric = [c for c in map(str, frame) if c not in (arm, seed) and _is_numeric(frame[c])]
    repeats = [c for c in numeric if _SEED.fullmatch(known_as(c)) or _REPEAT.fullmatch(known_as(c))]
    of_seeds = arm is not None and len(repeats) > 1
    whole = {*frame.columns} == {*numeric, seed} - {None} and len(numeric) > 1
    of_arms = arm is None and whole and (seed is not None or BASELINE in numeric)
    kind = reading.wide or ("seeds" if of_seeds else "arms" if of_arms else None)
    if kind is None:
        return None
    if kind == "arms":
        _refuse_summaries(table, None, seed)
    elif arm is None:
        raise AnalysisError(
            f"--wide seeds: name the column of the arms of {table.source}: --column arm=NAME"
        )
    elif reading.wide is None:
        _refuse_bare_numbers(repeats, table.source)
    columns = numeric if kind == "arms" else repeats or numeric
    if not columns:
        raise AnalysisError(f"--wide {kind}: {table.source} has no columns of numbers for it")
    long = pd.concat(
        [_one_column(frame, column, kind, roles, reading.metric) for column in columns],
        ignore_index=True,
    )
    places = tuple(f"{at}, column {column!r}" for column in columns for at in table.places)
    known = [not is_unknown(value) for value in long[reading.metric]]
    note = f"one column for each of the {kind}: {named(columns)} (--wide)"
    return replace(table, frame=long, places=places).keep(known, note)


def _refuse_bare_numbers(columns: list[str], source: str) -> None:
    """Refuse columns that are numbers alone: they may be seeds, and may be steps of training."""
    bare = [name for name in columns if name.strip().isdecimal()]
    if bare:
        raise AnalysisError(
            f"{source}: the columns {named(bare)} are seeds or steps: if seeds, add --wide seeds; "
            f"of steps compare one, --metric {bare[-1]}"
        )


def _one_column(
    frame: pd.DataFrame, column: str, kind: str, roles: Roles, metric: str
) -> pd.DataFrame:
    """Return arm, seed and metric of the runs in one column."""
    if kind == "arms":
        seeds = {} if roles.seed is None else {"seed": frame[roles.seed]}
        run = {"arm": [column] * len(frame), **seeds}
    else:
        number = _SEED.fullmatch(known_as(column))
        run = {"arm": frame[roles.arm], **({"seed": number[1]} if number else {})}
    return pd.DataFrame({**run, metric: frame[column]})


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


def _means(metric: str) -> tuple[str, ...]:
    """Return what a column of means is called."""
    return ("mean", "average", f"mean_{metric}")


def _runs_of_means(table: Shaped, arm: str | None, metric: str) -> Shaped:
    """Return as many runs for each arm as it had, with exactly its mean and sd.

    An unpaired comparison depends on nothing else of the runs.
    """
    frame = table.frame
    mean, sd, se, n = (table.find(words) for words in (_means(metric), SD, SE, COUNTS))
    spread = sd or se
    needed = {"arm": arm, "mean": mean, "sd (or se)": spread, "n, the number of runs": n}
    if missing := [what for what, column in needed.items() if column is None]:
        raise AnalysisError(
            f"{table.source} has means instead of runs, and no column for {', '.join(missing)}; it "
            f"has {', '.join(frame.columns)}: add what is missing, or name it, e.g. --column "
            f"arm={frame.columns[0]}"
        )
    parts, places = [], []
    for at, row in zip(table.places, frame.to_dict("records"), strict=True):
        where = f"{table.source}, {at}"
        count = int(to_number(row[n], f"{where}, column {n!r}"))
        size = 0.0 if count == 1 else to_number(row[spread], f"{where}, column {spread!r}")
        size *= 1.0 if sd else count**0.5
        losses = to_number(row[mean], f"{where}, column {mean!r}") + size * _scores(count)
        parts.append(pd.DataFrame({"arm": row[arm], metric: losses}))
        places += [f"{at}, run {i + 1} of {count}" for i in range(count)]
    kind = f"{sd} is the sd of single runs" if sd else f"{se} is the standard error of the mean"
    note = f"means of a table, not runs: {kind}, and nothing is known of pairs, so all is unpaired"
    long = pd.concat(parts, ignore_index=True)
    return replace(
        table, frame=long, places=tuple(places), notes=(*table.notes, note), summary=True
    )


def _scores(n: int) -> np.ndarray:
    """Return n values with mean 0 and sd 1, spread as a normal sample."""
    if n == 1:
        return np.zeros(1)
    scores = np.array([NormalDist().inv_cdf((i + 0.5) / n) for i in range(n)])
    scaled: np.ndarray = (scores - scores.mean()) / scores.std(ddof=1)
    return scaled
