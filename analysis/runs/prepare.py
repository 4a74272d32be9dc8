"""Runs with every column that the analysis reads, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.runs.frame import (
    OTHER_TEST,
    SEEDS,
    STATUSES,
    Runs,
    arm_name,
    is_foreign,
    named,
    with_names,
)
from analysis.runs.normalise import to_number
from harness.records import BASELINE

STEPS = ("step", "_step", "global_step", "iteration", "iter", "epoch")
"""Columns of tables that have one line a step instead of one a run."""


def prepare(
    runs: Runs,
    *,
    metric: str = "test_loss",
    baseline: str = BASELINE,
    allow_reruns: bool = False,
) -> Runs:
    """Return the runs with every column that the analysis reads, or refuse them.

    Parameters
    ----------
    runs
        As read; `arm` (or `interventions`) and `metric` are needed.
    metric
        Column of the loss.
    baseline
        The arm whose test set counts.
    allow_reruns
        Accept several runs of one arm with equal seeds as declared repeats.

    Returns
    -------
    Runs with the metric in the frame's column ``loss`` (nats per token) and normalised arm names.

    Raises
    ------
    AnalysisError
        A missing column, unknown status, NaN in a complete run, duplicates, mixed test sets, sizes.
    """
    frame = runs.frame.reset_index(drop=True).copy()
    frame["arm"] = _arms(runs)
    if metric not in frame:
        numbers = _numeric(runs)
        advice = "nor any other column of numbers; a result for each run is needed"
        if numbers:
            advice = f"choose one of {_listed(numbers)} with --metric (and --higher-is-better)"
        raise AnalysisError(f"no column {metric!r} in the runs: {advice}")
    frame = with_names(frame)
    pairs = zip(frame[metric], frame["run_id"], strict=True)
    frame["loss"] = [to_number(value, f"{run}, column {metric!r}") for value, run in pairs]
    for seed in SEEDS:
        if seed in frame:
            frame[seed] = pd.Series([_seed(value) for value in frame[seed]], dtype=object)
    _check_status(frame)
    _check_finite(frame, metric)
    _check_duplicates(frame, allow_reruns)
    _leave_out_other_tests(frame, baseline)
    _check_one_recipe(frame)
    return replace(runs, frame=frame)


def _arms(runs: Runs) -> list[str]:
    if "arm" in runs.frame:
        return [arm_name(value, "+") for value in runs.frame["arm"]]
    raise AnalysisError(
        f"no column 'arm' or 'interventions' among {_listed(runs.given or runs.frame.columns)}: "
        "name the column that says what was changed, e.g. --column arm=NAME"
    )


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


def _leave_out_other_tests(runs: pd.DataFrame, baseline: str) -> None:
    """Mark complete runs that were measured on another test set than the baseline's."""
    if "test_set" not in runs:
        return
    known = runs[(runs["status"] == "complete") & runs["test_set"].notna()]
    theirs = known.loc[known["arm"] == baseline, "test_set"].unique()
    if len(theirs) == 1:
        others = known.index[known["test_set"] != theirs[0]]
        runs.loc[others, "status"] = OTHER_TEST
        return
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


def _numeric(runs: Runs) -> list[str]:
    """Return the columns that mostly hold numbers, which may still be text, seeds excepted."""
    names = [name for name in runs.given or runs.frame.columns if name not in (*SEEDS, "seed")]
    return [
        str(name)
        for name in names
        if pd.to_numeric(runs.frame[name].astype(str), errors="coerce").notna().mean() > 0.5
    ]


def _listed(names: Iterable[object]) -> str:
    return ", ".join(repr(str(name)) for name in names) or "none"
