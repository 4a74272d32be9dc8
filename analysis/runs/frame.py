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
``status``         complete, diverged, failed, running, preempted or superseded
``tokens``         training tokens
``hours``          of training
``usd``            dollars
``test_set``       hash of the test set: compared runs must agree
``init_shared``    share of seed-dependent tensors equal to the baseline's of that seed, 0 to 1
=================  =========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from harness.records import BASELINE, Status, StudyPlan

SEEDS = ("init_seed", "data_seed", "loop_seed")
INTERVENTIONS = "interventions"
"""Column of lists of names; in a column `arm`, a comma is part of the name."""
COLUMNS = (
    *("run_id", "study", "arm", INTERVENTIONS, "seed", *SEEDS, "status"),
    *("test_loss", "val_loss", "train_loss", "tokens", "hours", "usd", "n_params", "n_steps"),
    *("step", "test_set", "init_shared", "batch_size", "published_delta"),
)
"""What the analysis reads; ``seed`` stands for all three seeds."""
GIVEN = "given"
"""Key in a frame's `attrs`: the foreign table's own columns."""
TAKEN_FROM = "taken from"
"""Key in a frame's `attrs`: our column -> the foreign table's name for it, where it was guessed."""
NOT_STARTED = "not started"
"""Key in a frame's `attrs`: cells that a command asked for and that have no record yet."""
SUPERSEDED = "superseded"
"""Status of a run whose arm was edited since and asked for again: `harness.records.versions`."""
STATUSES = (*(status.value for status in Status), SUPERSEDED)
MOST_NAMED = 5
STEPS = ("step", "_step", "global_step", "iteration", "iter", "epoch")
"""Columns of tables that have one line a step instead of one a run."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of one or more studies, as read from disk."""

    frame: pd.DataFrame
    """One row a run; see the module's table of columns."""
    plans: dict[str, StudyPlan] = field(default_factory=dict)
    """Study -> its frozen plan, where it has one."""
    home: Path | None = None
    """Folder beside which results are written."""
    stem: str = "results"
    """Name of the results' files without their ending."""


def prepare(
    frame: pd.DataFrame, *, metric: str = "test_loss", allow_reruns: bool = False
) -> pd.DataFrame:
    """Return the runs with every column that the analysis reads, or refuse them.

    Parameters
    ----------
    frame
        One row a run; `arm` (or `interventions`) and `metric` are needed.
    metric
        Column of the loss.
    allow_reruns
        Accept several runs of one arm with equal seeds as declared repeats.

    Returns
    -------
    A new frame; the metric is in column ``loss`` (nats per token), the arm's name is normalised.

    Raises
    ------
    AnalysisError
        A missing column, unknown status, NaN in a complete run, duplicates, mixed test sets, sizes.
    """
    runs = frame.reset_index(drop=True).copy()
    runs["arm"] = _arms(runs)
    if metric not in runs:
        numbers = _numeric(runs)
        advice = "nor any other column of numbers; a result for each run is needed"
        if numbers:
            advice = f"choose one of {_listed(numbers)} with --metric (and --higher-is-better)"
        raise AnalysisError(f"no column {metric!r} in the runs: {advice}")
    runs["loss"] = _numbers(runs, metric)
    runs = with_names(runs)
    for seed in SEEDS:
        if seed in runs:
            runs[seed] = pd.Series([_seed(value) for value in runs[seed]], dtype=object)
    _check_status(runs)
    _check_finite(runs, metric)
    _check_duplicates(runs, allow_reruns)
    _check_test_set(runs)
    _check_one_recipe(runs)
    return runs


def with_names(runs: pd.DataFrame) -> pd.DataFrame:
    """Return runs that all have a status and a name; where none is given: complete, and the row."""
    named_runs = runs.copy()
    if "status" not in runs:
        named_runs["status"] = "complete"
    if "run_id" not in runs:
        named_runs["run_id"] = [f"row {i + 1} ({arm})" for i, arm in enumerate(runs["arm"])]
    named_runs["run_id"] = named_runs["run_id"].astype(str)
    return named_runs


def complete(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the complete runs, in an order that does not depend on the input's.

    Runs equal in arm, seeds and loss are one: a trainer that repeats itself says nothing new.
    """
    keys = ["arm", *(seed for seed in SEEDS if seed in runs), "loss"]
    done = runs[runs["status"] == "complete"]
    if len(keys) > 2:
        done = done[~done.duplicated(keys) | done[keys].isna().any(axis=1)]
    order = lambda c: c if c.name == "loss" else c.astype(str)  # noqa: E731
    return done.sort_values(keys, key=order, kind="stable").reset_index(drop=True)


def arm_name(interventions: object, separators: str = "+,") -> str:
    """Return the name of an arm: sorted intervention names joined with ``+``.

    Parameters
    ----------
    interventions
        A list of names, or text that separates them; empty: the baseline.
    separators
        Characters that separate names in a text.

    Examples
    --------
    >>> arm_name("no_dropout, clipping")
    'clipping+no_dropout'
    >>> arm_name("")
    'baseline'
    """
    if interventions is None or (isinstance(interventions, float) and np.isnan(interventions)):
        return BASELINE
    if isinstance(interventions, str):
        names: Iterable[object] = re.split(f"[{re.escape(separators)}]", interventions)
    elif isinstance(interventions, Iterable):
        names = interventions
    else:
        names = [interventions]
    parts = sorted({str(name).strip() for name in names} - {"", BASELINE})
    return "+".join(parts) or BASELINE


def is_foreign(runs: pd.DataFrame) -> bool:
    """Tell whether none of the runs is from this project's records."""
    return "folder" not in runs


def named(runs: Iterable[object]) -> str:
    """Return the first few names, and how many more there are."""
    names = [str(run) for run in runs]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _arms(runs: pd.DataFrame) -> pd.Series:
    if "arm" in runs:
        names = [arm_name(value, "+") for value in runs["arm"]]
    elif INTERVENTIONS in runs:
        names = [arm_name(value) for value in runs[INTERVENTIONS]]
    else:
        given = runs.attrs.get(GIVEN, runs.columns)
        raise AnalysisError(
            f"no column 'arm' or 'interventions' among {_listed(given)}: name the column "
            "that says what was changed, e.g. --column arm=NAME"
        )
    return pd.Series(names, index=runs.index, dtype=object)


def _numbers(runs: pd.DataFrame, column: str) -> pd.Series:
    numbers = pd.to_numeric(runs[column], errors="coerce")
    wrong = numbers.isna() & runs[column].notna() & (runs[column].astype(str).str.strip() != "")
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise AnalysisError(
            f"row {row + 1}, column {column!r}: {runs[column].iloc[row]!r} is not a number"
        )
    return numbers.astype(float)


def _seed(value: object) -> str | None:
    """Return a seed as text, so that 3, 3.0 and "3" are one seed; None where it is not known."""
    text = "" if value is None or value is pd.NA else str(value).strip()
    return None if text.lower() in ("", "nan", "none", "null", "na") else text.removesuffix(".0")


def _check_status(runs: pd.DataFrame) -> None:
    unknown = runs[~runs["status"].astype(str).isin(STATUSES)]
    if len(unknown):
        words = _listed(sorted(set(unknown["status"].astype(str))))
        allowed = f"{named(unknown['run_id'])}: allowed are {', '.join(STATUSES)}"
        raise AnalysisError(f"unknown status {words} of {allowed}")


def _check_finite(runs: pd.DataFrame, metric: str) -> None:
    bad = runs[(runs["status"] == "complete") & ~np.isfinite(runs["loss"])]
    if len(bad):
        raise AnalysisError(
            f"{metric} is not a finite number in {len(bad)} run(s) called complete: "
            f"{named(bad['run_id'])}; a run without a result is marked 'diverged' or 'failed' in "
            f"a column 'status', and every table needs the column {metric!r}"
        )


def _check_duplicates(runs: pd.DataFrame, allow_reruns: bool) -> None:
    names = runs["run_id"]
    if not names.is_unique:
        raise AnalysisError(
            f"runs given twice: {named(names[names.duplicated()].unique())}{_one_line_a_run(runs)}"
        )
    done = runs[runs["status"] == "complete"]
    seeds = [seed for seed in SEEDS if seed in runs]
    if allow_reruns or not seeds:
        return
    seeded = done[done[seeds].notna().all(axis=1)]
    again = seeded[seeded.duplicated(["arm", *seeds], keep=False)]
    if len(again):
        raise AnalysisError(
            f"{len(again)} runs have the same arm and the same seeds as another: "
            f"{named(again['run_id'])}{_one_line_a_run(runs)}, or declare them with --allow-reruns"
        )


def _one_line_a_run(runs: pd.DataFrame) -> str:
    """Return what to do about runs that are there twice."""
    if not is_foreign(runs):
        return "; move the copies that are not meant to count out of the folder"
    steps = [str(name) for name in runs if str(name).lower() in STEPS]
    why = f", its last ({steps[0]!r} looks like one line a step)" if steps else ""
    return f"; keep one line a run{why}"


def _check_test_set(runs: pd.DataFrame) -> None:
    if "test_set" not in runs:
        return
    known = runs[(runs["status"] == "complete") & runs["test_set"].notna()]
    groups = known.groupby("test_set")["run_id"]
    if groups.ngroups <= 1:
        return
    sets = "; ".join(f"{str(key)[:12]}: {named(ids)}" for key, ids in groups)
    raise AnalysisError(
        f"the runs were measured on {groups.ngroups} different test sets ({sets}): "
        "compare runs of one test set"
    )


def _check_one_recipe(runs: pd.DataFrame) -> None:
    """Refuse an arm whose runs differ in size or length: their mean would mean nothing."""
    done = runs[runs["status"] == "complete"]
    for column, what in (("n_params", "parameters"), ("n_steps", "steps")):
        if column not in done:
            continue
        for arm, group in done.dropna(subset=[column]).groupby("arm"):
            if group[column].nunique() > 1:
                sizes = ", ".join(f"{value:,.0f}" for value in sorted(group[column].unique()))
                firsts = group.drop_duplicates(column)["run_id"]
                raise AnalysisError(
                    f"the runs of {arm} differ in their number of {what} ({sizes}; e.g. "
                    f"{named(firsts)}): compare runs of one scale; name their folders instead of "
                    "the whole study's, and give each scale a study_name of its own"
                )


def _numeric(runs: pd.DataFrame) -> list[str]:
    """Return the columns that mostly hold numbers, which may still be text, seeds excepted."""
    names = [name for name in runs.attrs.get(GIVEN, runs.columns) if name not in (*SEEDS, "seed")]
    return [
        str(name)
        for name in names
        if pd.to_numeric(runs[name].astype(str), errors="coerce").notna().mean() > 0.5
    ]


def _listed(names: Iterable[object]) -> str:
    return ", ".join(repr(str(name)) for name in names) or "none"
