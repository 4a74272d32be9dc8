"""Runs with every column that the analysis reads, and what is refused."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.runs.curves import STEPS, TOKENS, last_lines
from analysis.runs.frame import (
    COLUMNS,
    OTHER_TEST,
    SEEDS,
    STATUSES,
    Runs,
    is_foreign,
    named,
    seed_labels,
    with_names,
    written_in_several_ways,
)
from analysis.runs.reading import has_words, is_unknown, to_number
from harness.records import BASELINE

CHART_COLUMN = "__MIN"
"""How W&B ends the name of a column that a chart's export has for each run."""


def prepare(
    runs: Runs,
    *,
    metric: str = "test_loss",
    baseline: str = BASELINE,
    allow_reruns: bool = False,
) -> Runs:
    """Return the runs with every column that the analysis reads; `AnalysisError` if they cannot be.

    The frame's column ``loss`` is the metric. Complete runs of one arm with equal seeds are refused
    unless `allow_reruns` says that they are repeats; runs that were measured on another test set
    than the baseline's are marked so.
    """
    _refuse_missing(runs, metric)
    runs = last_lines(runs, metric)
    frame = runs.frame.reset_index(drop=True).copy()
    frame = with_names(frame)
    notes = []
    for seed in [seed for seed in SEEDS if seed in frame]:
        known = seed_labels(None if is_unknown(value) else value for value in frame[seed])
        frame[seed] = pd.Series(known, dtype=object)
        notes += [said] if (said := written_in_several_ways(known)) else []
    runs = replace(runs, notes=tuple(dict.fromkeys((*runs.notes, *notes))))
    _check_status(frame)
    _check_duplicates(replace(runs, frame=frame), allow_reruns)
    pairs = zip(frame[metric], frame["run_id"], strict=True)
    theirs = runs.called(metric)
    frame["loss"] = [to_number(value, f"{run}, column {theirs!r}") for value, run in pairs]
    _check_finite(frame, theirs)
    _leave_out_other_tests(frame, metric, baseline)
    _check_one_recipe(frame)
    return replace(runs, frame=frame)


def _refuse_missing(runs: Runs, metric: str) -> None:
    """Refuse runs without arms or without the metric, and say which column it may be."""
    if "arm" not in runs.frame:
        given = runs.given or tuple(map(str, runs.frame))
        how = _how_to_name(runs, given)
        raise AnalysisError(f"no column 'arm' or 'interventions' among {_listed(given)}: {how}")
    if metric not in runs.frame:
        numbers = _numeric(runs)
        advice = "nor any other column of numbers; a result for each run is needed"
        if numbers:
            option = "--metric (and --higher-is-better)"
            if runs.home is None:
                option = "metric= (and higher_is_better=True)"
            advice = f"choose one of {_listed(numbers)} with {option}"
        if len(parts := metric.split(",")) > 1 and {*parts} <= {*numbers}:
            each = " ".join(f"--metric {shlex.quote(part)}" for part in parts)
            advice = f"each metric has an option of its own: {each}"
        raise AnalysisError(f"no column {metric!r} in the runs: {advice}")


def _how_to_name(runs: Runs, given: Iterable[str]) -> str:
    """Return how arms can be named."""
    if any(name.endswith(CHART_COLUMN) for name in given):
        return (
            "this is a chart's export of W&B, whose runs have names alone; export the table of "
            "runs, or read them from W&B, wandb:ENTITY/PROJECT"
        )
    free = [name for name in given if name not in _with_a_role(runs)]
    columns = {name: runs.frame[name].astype(str) for name in free}
    names = [
        name
        for name, values in columns.items()
        if has_words(values) and (values.nunique() > 1 or len(values) == 1)
    ]
    if not names:  # numbers, such as a learning rate's, of which each was run several times
        names = [name for name, v in columns.items() if 1 < v.nunique() < len(v)]
    if not names:
        return "none of them says what was changed: add one that does"
    best = min(names, key=lambda name: columns[name].is_unique)
    how = f"e.g. --column {_pasted('arm', best)}"
    if runs.home is None:  # a frame
        how = f"e.g. frame.rename(columns={{{best!r}: 'arm'}})"
    return f"name the column that says what was changed, {how}"


def _pasted(ours: str, theirs: str) -> str:
    """Return an assignment as it can be pasted into a shell."""
    return shlex.quote(f"{ours}={theirs}")


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


def _check_duplicates(given: Runs, allow_reruns: bool) -> None:
    runs, names = given.frame, given.frame["run_id"]
    if not names.is_unique:
        raise AnalysisError(
            f"runs given twice: {named(names[names.duplicated()].unique())}{_one_line_a_run(runs)}"
        )
    again = repeated(runs)
    if allow_reruns or not len(again):
        return
    apart = differing(given)
    advice = _one_line_a_run(runs)
    if apart:
        column, values = next(iter(apart.items()))
        both = f"{given.called('arm')},{column}"
        advice = (
            f"; they differ in {differences(apart)}: make that part of the arm, --column "
            f"{_pasted('arm', both)}, or keep some, --where "
            f"{_pasted(column, values[0])}"
        )
    raise AnalysisError(
        f"{len(again)} runs have the same arm and the same seeds as another: "
        f"{named(again['run_id'])}{advice}, or declare them with --allow-reruns"
    )


def repeated(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the complete runs that share arm and seeds with another."""
    seeds = known_seeds(runs)
    if not seeds:
        return runs.iloc[:0]
    done = runs[runs["status"] == "complete"]
    seeded = done[done[seeds].notna().all(axis=1)]
    return seeded[seeded.duplicated(["arm", *seeds], keep=False)]


def known_seeds(runs: pd.DataFrame) -> list[str]:
    """Return the kinds of seed that any run names."""
    return [seed for seed in SEEDS if seed in runs and runs[seed].notna().any()]


def differing(given: Runs) -> dict[str, list[str]]:
    """Return the settings in which runs that count as repeats differ, with their values.

    Repeats are runs of equal arm and seeds; where no run names a seed, all runs of an arm. A
    setting is a column of the table that nothing else is read from; the fewer values, the sooner
    it is named, and one whose values seldom come again is a result.
    """
    runs, seeds = given.frame, known_seeds(given.frame)
    again = repeated(runs) if seeds else runs[runs["status"] == "complete"]
    if not is_foreign(runs) or not len(again):
        return {}
    read = {*given.taken_from.values(), *COLUMNS, *STEPS}
    found = {}
    for name in [n for n in given.given if n in again and n.casefold() not in read]:
        values = again[name].astype(str)
        groups = values.groupby([again[key] for key in ("arm", *seeds)])
        if values.nunique() <= len(values) / 2 and (groups.nunique() > 1).any():
            found[name] = list(dict.fromkeys(values))
    return dict(sorted(found.items(), key=lambda item: len(item[1])))


def differences(apart: dict[str, list[str]]) -> str:
    """Return the settings with their values, in words."""
    return "; ".join(f"{name} ({named(values)})" for name, values in apart.items())


def _one_line_a_run(runs: pd.DataFrame) -> str:
    """Return advice on a table that has runs twice."""
    if not is_foreign(runs):
        return "; move the copies that are not meant to count out of the folder"
    steps = [str(name) for name in runs if str(name).lower() in STEPS]
    if steps:
        return f"; keep one line a run, its last, or a run's lines in the order of {steps[0]!r}"
    if TOKENS in runs:
        return f"; keep one line a run, or say that lines are steps, --column step={TOKENS}"
    return "; keep one line a run"


def _leave_out_other_tests(runs: pd.DataFrame, metric: str, baseline: str) -> None:
    """Mark complete runs that were measured on another test set than the baseline's."""
    own = f"test_set.{metric}"
    column = own if own in runs else "test_set"
    if column not in runs:
        return
    known = runs[(runs["status"] == "complete") & runs[column].notna()]
    theirs = known.loc[known["arm"] == baseline, column].unique()
    if len(theirs) == 1:
        others = known.index[known[column] != theirs[0]]
        runs.loc[others, "status"] = OTHER_TEST
        return
    groups = known.groupby(column)["run_id"]
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
        counts = done.groupby("arm")[column].nunique()
        for arm in counts.index[counts > 1]:
            firsts = done[done["arm"] == arm].dropna(subset=[column]).drop_duplicates(column)
            sizes = ", ".join(f"{value:,.0f}" for value in sorted(firsts[column]))
            raise AnalysisError(
                f"the runs of {arm} differ in their number of {what} ({sizes}; e.g. "
                f"{named(firsts['run_id'])}): compare runs of one scale; name their folders "
                "instead of the whole study's, and give each scale a study_name of its own"
            )


def _numeric(runs: Runs) -> list[str]:
    """Return the columns that mostly hold numbers, which may still be text, seeds excepted."""
    taken = _with_a_role(runs)
    names = [name for name in runs.given or runs.frame.columns if name not in taken]
    return [
        str(name)
        for name in names
        if pd.to_numeric(runs.frame[name].astype(str), errors="coerce").notna().mean() > 0.5
    ]


def _with_a_role(runs: Runs) -> set[str]:
    """Return the columns that say which run it is and how it ended: neither arm nor result."""
    roles = (*SEEDS, "seed", "status", "run_id", "study")
    return {*roles, *(runs.taken_from[role] for role in roles if role in runs.taken_from)}


def _listed(names: Iterable[object]) -> str:
    return ", ".join(repr(str(name)) for name in names) or "none"
