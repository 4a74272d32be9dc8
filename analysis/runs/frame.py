"""The one shape that all runs take before they are analysed, and what is refused.

A run is a row. Columns (only `arm` and a loss are needed):

=================  =========================================================================
``run_id``         names the run in messages; unique
``study``          study it belongs to
``arm``            sorted intervention names joined with ``+``; ``baseline``
``init_seed``      initial weights; runs that share it are a block
``data_seed``      order of the training sequences
``loop_seed``      dropout and whatever else the loop draws
``test_loss``      nats per token; also ``val_loss``, ``train_loss`` or any metric of yours
``status``         complete, diverged, failed, running, stopped, superseded, other test set
``tokens``         training tokens
``hours``          of training
``flops``          of training
``usd``            dollars
``test_set``       hash of the test set: only runs that were measured on the baseline's count;
                   ``test_set.METRIC``: that of another metric's, such as ``test_loss.NAME``, the
                   loss on the test set NAME, or ``bits_per_byte``, for which the text counts
``init_shared``    share of seed-dependent tensors equal to the baseline's of that seed, 0 to 1
=================  =========================================================================
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

import pandas as pd

from harness.records import BASELINE, PlannedRun, RecordError, Status, StudyPlan
from harness.records.evaluation import Evaluation

SEEDS = ("init_seed", "data_seed", "loop_seed")
INTERVENTIONS = "interventions"
"""Column of lists of names; in a column `arm`, a comma is part of the name."""
COLUMNS = (
    *("run_id", "study", "arm", INTERVENTIONS, "seed", *SEEDS, "status"),
    *("test_loss", "val_loss", "train_loss", "tokens", "hours", "flops", "usd", "n_params"),
    *("n_steps", "step", "test_set", "init_shared", "batch_size", "published_delta"),
)
"""What the analysis reads; ``seed`` stands for all three seeds."""
FIGURES = ("test_loss", "val_loss", "train_loss", "tokens", "hours", "flops", "usd")
SUPERSEDED = "superseded"
"""Status of a run whose arm was edited since and asked for again: `harness.records.versions`."""
OTHER_TEST = "other test set"
"""Status of a complete run that was measured on another test set than the baseline's."""
TWIN = "identical control"
"""Status of a complete run of an A/A control that has the weights of the baseline of its seeds: it
shows that runs repeat, and would make the noise look smaller."""
STATUSES = (*(status.value for status in Status), SUPERSEDED, OTHER_TEST, TWIN)
MISSING = {"", "nan", "-nan", "na", "n/a", "#n/a", "<na>", "nat", "null", "none", "-"}
"""How tables write that a number, a seed or a status is not known, whatever the case."""
SHARED_ENOUGH = 0.5
"""An arm that shares fewer of its random tensors with the baseline counts as unpaired."""
MOST_NAMED = 5
SEED_WORD = re.compile(r"^(?:seed|s)[\s_=:#.-]*(?=\d)", re.IGNORECASE)
"""What may stand before the number of a seed."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of one or more studies, as read; every fact about them is a field."""

    frame: pd.DataFrame
    """One row a run; see the module's table of columns."""
    plans: dict[str, StudyPlan] = field(default_factory=dict)
    """Study -> its frozen plan, where it has one."""
    not_started: tuple[PlannedRun, ...] = ()
    """Cells that a command asked for and that have no record yet: arm, seeds, cell."""
    not_named: tuple[PlannedRun, ...] = ()
    """Planned cells that have a record outside of the folders that were named."""
    unreadable: tuple[RecordError, ...] = ()
    """Files that could not be read; a cell whose record is one is no row."""
    given: tuple[str, ...] = ()
    """Columns of the tables that were read, under their own names."""
    taken_from: dict[str, str] = field(default_factory=dict)
    """Our column -> the table's name for it, where it was guessed."""
    names: dict[str, str] = field(default_factory=dict)
    """Our column -> the table's name for it, guessed or told."""
    notes: tuple[str, ...] = ()
    """How a table was read, beyond its columns' names; each a clause without a full stop."""
    names_made_up: bool = False
    """The runs had no names of their own, so that `run_id` is a row's place."""
    summary: bool = False
    """Figures behind the rows are means, sds and numbers of runs; no run itself is known."""
    shared: dict[str, float] = field(default_factory=dict)
    """Runs whose cell several studies hold, which counts once -> how far its test losses differ."""
    evaluations: tuple[Evaluation, ...] = ()
    """Of models that the studies did not train, or not to this step."""
    home: Path | None = None
    """Folder beside which results are written."""
    stem: str = "results"
    """Name of the results' files without their ending."""

    @property
    def references(self) -> tuple[Evaluation, ...]:
        """The models that were evaluated on the runs' one test set."""
        known = set(self.frame["test_set"].dropna()) if "test_set" in self.frame else set()
        return tuple(item for item in self.evaluations if {item.test_set_sha256} == known)

    def called(self, ours: str) -> str:
        """Return what the table calls a column of ours."""
        return self.names.get(ours, ours)


def join(parts: Sequence[Runs]) -> Runs:
    """Return the runs of all parts; results are written beside the first."""
    if len(parts) == 1:
        return parts[0]
    frame = pd.concat([part.frame for part in parts], ignore_index=True)
    return replace(reduce(_with_facts_of, parts), frame=frame)


def _with_facts_of(one: Runs, other: Runs) -> Runs:
    return replace(
        one,
        plans=one.plans | other.plans,
        not_started=one.not_started + other.not_started,
        not_named=one.not_named + other.not_named,
        unreadable=one.unreadable + other.unreadable,
        given=tuple(dict.fromkeys(one.given + other.given)),
        taken_from=one.taken_from | other.taken_from,
        names=one.names | other.names,
        notes=tuple(dict.fromkeys(one.notes + other.notes)),
        names_made_up=one.names_made_up and other.names_made_up,
        summary=one.summary or other.summary,
        shared=one.shared | other.shared,
        evaluations=one.evaluations + other.evaluations,
    )


def with_names(runs: pd.DataFrame) -> pd.DataFrame:
    """Return runs with a status and a name each: by default complete, and the number of the row."""
    named_runs = runs.copy()
    if "status" not in runs:
        named_runs["status"] = "complete"
    if "run_id" not in runs:
        named_runs["run_id"] = [f"row {i + 1} ({arm})" for i, arm in enumerate(runs["arm"])]
    named_runs["run_id"] = named_runs["run_id"].astype(str)
    return named_runs


def complete(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the complete runs, in an order that does not depend on the input's.

    Runs equal in arm, seeds and loss are one: a trainer that repeats itself says nothing new. So
    are those of a table that holds all its runs several times, where no seed tells them apart.
    """
    keys = ["arm", *(seed for seed in SEEDS if seed in runs), "loss"]
    done = runs[runs["status"] == "complete"]
    if len(keys) > 2:
        done = done[~done.duplicated(keys) | done[keys].isna().any(axis=1)]
    if (copies := times_exported(done)) > 1:
        equal = done.groupby(_figures(done), dropna=False)
        done = done[equal.cumcount() < equal["loss"].transform("size") / copies]
    order = lambda c: c if c.name == "loss" else c.astype(str)  # noqa: E731
    return done.sort_values(keys, key=order, kind="stable").reset_index(drop=True)


def possible_copies(done: pd.DataFrame) -> pd.DataFrame:
    """Return runs without a known seed that equal another run of their arm in every figure.

    An arm whose runs all have one loss is another matter: a trainer without noise.
    """
    plain = _unseeded(done)
    varied = plain.groupby("arm")["loss"].transform("nunique") > 1
    return plain[plain.duplicated(_figures(plain), keep=False) & varied]


def times_exported(done: pd.DataFrame) -> int:
    """Return how many times a table without seeds repeats all of its runs; 1: they differ.

    Examples
    --------
    >>> frame = pd.DataFrame({"arm": ["a", "a", "b", "b"] * 2, "loss": [3.1, 3.2, 3.3, 3.4] * 2})
    >>> times_exported(frame), times_exported(frame.iloc[:7])
    (2, 1)
    """
    if not len(done) or len(_unseeded(done)) < len(done):
        return 1
    if len(possible_copies(done)) == 0:
        return 1
    return math.gcd(*done.groupby(_figures(done), dropna=False).size())


def _unseeded(done: pd.DataFrame) -> pd.DataFrame:
    seeds = [seed for seed in SEEDS if seed in done]
    return done[done[seeds].isna().any(axis=1)] if seeds else done


def _figures(runs: pd.DataFrame) -> list[str]:
    """Return the columns that the copies of a run share: its arm and every figure."""
    return ["arm", "loss", *(name for name in FIGURES if name in runs)]


def arm_name(interventions: object) -> str:
    """Return the name of an arm: sorted intervention names joined with ``+``.

    They come as a list, or as text that separates them by ``+`` or commas; none: the baseline.

    Examples
    --------
    >>> arm_name("no_dropout, clipping")
    'clipping+no_dropout'
    >>> arm_name("['no_dropout', 'clipping']")
    'clipping+no_dropout'
    >>> arm_name("")
    'baseline'
    """
    if is_missing(interventions):
        return BASELINE
    if isinstance(interventions, str):
        names = _listed(interventions)
    elif isinstance(interventions, Iterable):
        names = interventions
    else:
        names = [interventions]
    parts = sorted({str(name).strip() for name in names} - {"", BASELINE})
    return "+".join(parts) or BASELINE


def _listed(text: str) -> Iterable[object]:
    """Return the names in a text; a list that went through CSV or JSON has its brackets still."""
    if text.strip().startswith("[") and text.strip().endswith("]"):
        for read in (json.loads, ast.literal_eval):
            with suppress(ValueError, SyntaxError):
                parsed: list[object] = read(text.strip())
                return parsed
    return re.split("[+,]", text)


def is_missing(value: object) -> bool:
    """Tell whether there is no value: None, NaN, NaT or NA; a list is a value."""
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))  # type: ignore[call-overload]


def labels(values: Iterable[object]) -> list[str | None]:
    """Return names or seeds as text, None where there is none.

    A column of numbers alone gives one text for each number: 3, 3.0, "3" and "3e0" are one.
    """
    given = ["" if is_missing(value) else str(value).strip() for value in values]
    texts = [text or None for text in given]
    numbers = {text: _number(text) for text in {*texts} - {None} if text is not None}
    if None in numbers.values():
        return texts
    return [None if text is None else numbers[text] for text in texts]


def seed_labels(values: Iterable[object]) -> list[str | None]:
    """Return seeds as text, None where there is none; if all are numbers, without a word before.

    Examples
    --------
    >>> seed_labels([0, "seed_0", "s0", "Seed 0.0", None]), seed_labels(["0", "s0", "main"])
    (['0', '0', '0', '0', None], ['0', 's0', 'main'])
    """
    texts = labels(values)
    bare = labels(None if text is None else SEED_WORD.sub("", text) for text in texts)
    return bare if all(text is None or _number(text) for text in bare) else texts


def written_in_several_ways(seeds: Sequence[str | None]) -> str:
    """Say that some seeds are numbers and others are not; empty where they are alike."""
    known = [seed for seed in seeds if seed is not None]
    number = next((seed for seed in known if _number(seed)), None)
    word = next((seed for seed in known if not _number(seed)), None)
    if number is None or word is None:
        return ""
    return f"seeds are written in several ways ({number}, {word}): only equal ones are pairs"


def _number(text: str) -> str | None:
    """Return the shortest form of a finite number, None of anything else."""
    with suppress(ValueError):
        return str(int(text))
    with suppress(ValueError, OverflowError):
        value = float(text)
        return str(int(value)) if value == int(value) else repr(value)
    return None


def rows_of(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return each run's row; `DataFrame.to_dict` takes five times as long over texts."""
    names = [str(name) for name in runs]
    columns = (runs[name].tolist() for name in runs)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def is_foreign(runs: pd.DataFrame) -> bool:
    """Tell whether none of the runs is from this project's records."""
    return "folder" not in runs


SEED_AT_THE_END = re.compile(r"(.*?)(?:[\W_]+s|[\W_]*seed)[\W_]?\d+", re.IGNORECASE)
"""A run's name as many give it: ``adamw-seed0``."""
SEEDS_IN_ARMS = (
    "end in a seed, and each counts as an arm of its own: give the table a column arm without it, "
    "and a column seed"
)


def arms_with_seeds(runs: pd.DataFrame) -> list[str]:
    """Return the arms of one run, in a table, whose names differ in the seed at their end."""
    if not is_foreign(runs) or runs["arm"].duplicated().any():
        return []
    names = {str(arm): SEED_AT_THE_END.fullmatch(str(arm)) for arm in runs["arm"]}
    counts = Counter(match[1] for match in names.values() if match)
    return [arm for arm, match in names.items() if match and counts[match[1]] > 1]


def how_to_get(runs: pd.DataFrame, command: str, rows: str) -> str:
    """Return the command that trains what is missing, or the rows that a foreign table lacks."""
    return rows if is_foreign(runs) else command


def named(runs: Iterable[object]) -> str:
    """Return the first few names, and how many more there are."""
    names = [str(run) for run in runs]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
