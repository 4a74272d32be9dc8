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

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from harness.records import BASELINE, Status, StudyPlan

SEEDS = ("init_seed", "data_seed", "loop_seed")
TAKEN_FROM = "taken from"
"""Key in a frame's `attrs`: our column -> the foreign table's name for it, where it was guessed."""
SUPERSEDED = "superseded"
"""Status of a run whose arm's own code was edited since and trained again."""
STATUSES = (*(status.value for status in Status), SUPERSEDED)
MOST_NAMED = 5


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
        A missing column, an unknown status, NaN in a complete run, duplicated runs, mixed test
        sets, an arm of mixed sizes; the message names the runs.
    """
    runs = frame.reset_index(drop=True).copy()
    runs["arm"] = _arms(runs)
    if metric not in runs:
        raise AnalysisError(
            f"no column {metric!r} in the runs: choose one of {_listed(_numeric(runs))} "
            "with --metric"
        )
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

    Runs equal in arm, seeds and loss to the last digit are one: a trainer that repeats itself
    exactly says nothing new.
    """
    keys = ["arm", *(seed for seed in SEEDS if seed in runs), "loss"]
    done = runs[runs["status"] == "complete"]
    if len(keys) > 2:
        done = done[~done.duplicated(keys) | done[keys].isna().any(axis=1)]
    return done.sort_values(keys, key=_sortable, kind="stable").reset_index(drop=True)


def arm_name(interventions: object) -> str:
    """Return the name of an arm: sorted intervention names joined with ``+``.

    Parameters
    ----------
    interventions
        A list of names, or text that separates them by ``+`` or ``,``; empty: the baseline.

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
        names: Iterable[object] = interventions.replace(",", "+").split("+")
    elif isinstance(interventions, Iterable):
        names = interventions
    else:
        names = [interventions]
    parts = sorted({str(name).strip() for name in names} - {"", BASELINE})
    return "+".join(parts) or BASELINE


def named(runs: Iterable[object]) -> str:
    """Return the first few names, and how many more there are."""
    names = [str(run) for run in runs]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _arms(runs: pd.DataFrame) -> pd.Series:
    source = "arm" if "arm" in runs else "interventions"
    if source not in runs:
        raise AnalysisError(
            f"no column 'arm' or 'interventions' among {_listed(runs.columns)}: name the column "
            "that says what was changed, e.g. --column arm=NAME"
        )
    values = runs[source].map(arm_name, na_action=None)
    return values.astype(object)


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
        raise AnalysisError(
            f"unknown status {_listed(sorted(set(unknown['status'].astype(str))))} of "
            f"{named(unknown['run_id'])}: allowed are {', '.join(STATUSES)}"
        )


def _check_finite(runs: pd.DataFrame, metric: str) -> None:
    bad = runs[(runs["status"] == "complete") & ~np.isfinite(runs["loss"])]
    if len(bad):
        raise AnalysisError(
            f"{metric} is not a finite number in {len(bad)} run(s) called complete: "
            f"{named(bad['run_id'])}; if they diverged, their status is 'diverged'"
        )


def _check_duplicates(runs: pd.DataFrame, allow_reruns: bool) -> None:
    names = runs["run_id"]
    if not names.is_unique:
        raise AnalysisError(f"runs given twice: {named(names[names.duplicated()].unique())}")
    done = runs[runs["status"] == "complete"]
    seeds = [seed for seed in SEEDS if seed in runs]
    if allow_reruns or not seeds:
        return
    seeded = done[done[seeds].notna().all(axis=1)]
    again = seeded[seeded.duplicated(["arm", *seeds], keep=False)]
    if len(again):
        raise AnalysisError(
            f"{len(again)} runs have the same arm and the same seeds as another: "
            f"{named(again['run_id'])}; move what is not meant to count out of the folder (cells "
            "of earlier code, say), or declare reruns with --allow-reruns"
        )


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


def _sortable(column: pd.Series) -> pd.Series:
    return column if column.name == "loss" else column.astype(str)


def _numeric(runs: pd.DataFrame) -> list[str]:
    return [str(name) for name in runs.columns if pd.api.types.is_numeric_dtype(runs[name])]


def _listed(names: Iterable[object]) -> str:
    return ", ".join(repr(str(name)) for name in names) or "none"
