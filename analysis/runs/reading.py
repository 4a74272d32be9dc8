"""How other tables are read: what they call our columns, and how they write a value."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import pandas as pd

from analysis.errors import AnalysisError
from analysis.runs.frame import COLUMNS, INTERVENTIONS, MISSING, SEEDS, is_missing

GUESSES = {
    **{ours: (ours,) for ours in COLUMNS if ours not in ("seed", INTERVENTIONS)},
    "arm": ("arm", INTERVENTIONS, "intervention", "variant", "config", "group", "name"),
    "test_loss": ("test_loss", "val_loss", "validation_loss", "eval_loss", "loss"),
    **{ours: (ours, "seed", "random_seed", "rng_seed", "random_state") for ours in SEEDS},
    "status": ("status", "state"),
    "run_id": ("run_id", "run", "id"),
}
"""Our column -> what other tables call it, the first one present wins; see `known_as`."""
_GROUP = re.compile(r"^(?:params|metrics|config|summary)[./]", re.IGNORECASE)
_BETWEEN = re.compile(r"[\s./-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a person said of a table's columns."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Our column -> the table's name for it; an arm may be made of several, joined by commas."""
    metric: str = "test_loss"
    where: Mapping[str, str] = field(default_factory=dict)
    """The table's column -> the value of the rows to keep."""
    wide: str | None = None
    """``arms`` or ``seeds`` have a column each; None: where the table looks so."""


def known_as(name: object) -> str:
    """Return a column's name as it is matched: without case, prefix and kind of separator.

    Examples
    --------
    >>> known_as("Test Loss"), known_as("metrics.val/loss"), known_as("Run ID")
    ('test_loss', 'val_loss', 'run_id')
    """
    return _BETWEEN.sub("_", _GROUP.sub("", str(name).strip()).casefold())


def find(columns: Iterable[object], words: Iterable[str], source: str) -> str | None:
    """Return the column that goes by one of these words, None if there is none.

    A name to the letter goes before one that differs in case or prefix.
    """
    names = [str(name) for name in columns]
    for word in words:
        if word in names:
            return word
        found = [name for name in names if known_as(name) == word]
        if len(found) > 1:
            raise AnalysisError(
                f"{source} has several columns that read as {word}: {', '.join(found)}; choose "
                f"one, e.g. --column {word}={found[0]}"
            )
        if found:
            return found[0]
    return None


def meant(option: str, theirs: str, columns: Iterable[str], after: str = "") -> str:
    """Propose the column whose name, or the last part of whose name, was given to an option."""
    word, names = known_as(theirs), list(columns)
    near = [name for name in names if f"_{known_as(name)}".endswith(f"_{word}")]
    ends = {re.split("[./]", name)[-1]: name for name in names}
    near += [ends[end] for end in get_close_matches(theirs, ends, n=1)]
    start, _, ours = option.partition(" ")
    return f"; did you mean {start} {shlex.quote(f'{ours}{near[0]}{after}')}?" if near else ""


def tidied(raw: pd.DataFrame, asked: Iterable[str], source: str) -> pd.DataFrame:
    """Return the table without empty nameless columns and without two columns of one name.

    Twins that are equal become one. If they differ they are left out, and refused if needed.
    """
    index = [name for name in raw.index.names if name is not None and name not in raw.columns]
    frame = (
        raw.reset_index(level=index).reset_index(drop=True) if index else raw.reset_index(drop=True)
    )
    frame.columns = pd.Index([str(name) for name in frame.columns])
    nameless = [not name.strip() or name.startswith("Unnamed: ") for name in frame.columns]
    empty = [bool(frame.iloc[:, i].map(_is_blank).all()) for i in range(frame.shape[1])]
    frame = frame.loc[:, [not (no and none) for no, none in zip(nameless, empty, strict=True)]]
    needed = {word for guesses in GUESSES.values() for word in guesses} | {*asked}
    for name in dict.fromkeys(frame.columns[frame.columns.duplicated()]):
        twins = frame.loc[:, frame.columns == name]
        alike = bool(twins.astype(str).nunique(axis=1).le(1).all())
        if not alike and {name, known_as(name)} & needed:
            raise AnalysisError(f"{source}: two columns are called {name!r}; rename one")
        frame = frame.loc[:, frame.columns != name]
        if alike:
            frame = frame.assign(**{name: twins.iloc[:, 0]})
    return frame.copy()


def _is_blank(value: object) -> bool:
    return is_missing(value) or (isinstance(value, str) and not value.strip())


def is_unknown(value: object) -> bool:
    """Tell whether a number, a seed or a status is not known, by its type or in words."""
    return is_missing(value) or str(value).strip().casefold() in MISSING


def has_words(values: pd.Series) -> bool:
    """Tell whether none of a column's values is a number."""
    return bool(pd.to_numeric(values.astype(str), errors="coerce").isna().all())


def to_number(value: Any, where: str) -> float:
    """Return a number, NaN where none is given; refuse anything else, saying `where` it stands."""
    if is_unknown(value):
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise AnalysisError(
            f"{where}: {value!r} is not a number: write it as 1234.5, or nothing if there is none"
        ) from None


def is_number(value: Any) -> bool:
    """Tell whether `to_number` reads it."""
    try:
        to_number(value, "")
    except AnalysisError:
        return False
    return True


def same_value(value: object, wanted: str) -> bool:
    """Tell whether a cell holds what was typed: the same text, or the same number."""
    if is_missing(value):
        return not wanted
    if str(value).strip() == wanted.strip():
        return True
    return is_number(value) and is_number(wanted) and to_number(value, "") == to_number(wanted, "")
