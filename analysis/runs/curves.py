"""Losses along training: of cells from what they logged, of tables with one line a step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.runs.cell.files import found_in, read_metrics
from analysis.runs.frame import SEEDS, Runs, is_foreign, rows_of, with_names
from analysis.runs.reading import is_unknown
from harness.records import Status

TOKENS, FLOPS, SECONDS = "tokens", "FLOPs", "seconds"
COSTS = (TOKENS, FLOPS, SECONDS)
"""What training can be counted in."""
VALIDATION = "val_loss"
STEPS = ("step", "_step", "global_step", "iteration", "iter", "epoch")
"""Columns of tables that have one line a step instead of one a run."""
OF_A_WHOLE_RUN = ("batch_size", "n_params", "n_steps")
"""Columns that do not change along a run: a sweep of them has a line a run, of as many steps."""
COMPLETE, DIVERGED = Status.COMPLETE.value, Status.DIVERGED.value


@dataclass(frozen=True, slots=True)
class Curve:
    """One run's loss at the points where it was measured; arrays of equal length."""

    run: dict[str, Any]
    """The run's row: arm, seeds, run_id."""
    loss: np.ndarray
    """Nats per token."""
    step: np.ndarray
    costs: dict[str, np.ndarray] = field(default_factory=dict)
    """What the run had spent by each point, by name; only what is known."""
    has_tokens: bool = True
    """Else ``tokens`` are steps."""


def read_curves(runs: Runs, metric: str = VALIDATION) -> list[Curve]:
    """Return the curve of every complete run that has one, and of every run that diverged.

    A table needs ``arm``, the metric and ``tokens`` or ``step``, and seeds or ``run_id`` to tell
    its runs apart; ``hours`` and ``flops`` are read where they are given.
    """
    if not is_foreign(runs.frame):
        own = runs.frame[runs.frame["folder"].notna()]  # others may stand beside them in a table
        ended = own[own["status"].isin((COMPLETE, DIVERGED))]
        found = [_of_cell(row, metric) for row in rows_of(ended)]
        return [curve for curve in found if len(curve.loss) or curve.run["status"] == DIVERGED]
    return list(_of_table(runs, metric))


def _of_cell(row: dict[Any, Any], metric: str) -> Curve:
    lines = found_in(partial(read_metrics, holding=f'"{metric}"'), Path(row["folder"]))
    points = [line for line in lines if line.get(metric) is not None and line.get("tokens")]
    tokens, seconds, loss, step = (
        np.array([line.get(name, np.nan) for line in points], dtype=float)
        for name in ("tokens", "train_seconds", metric, "step")
    )
    costs = {TOKENS: tokens}
    if row.get("flops") and row.get("tokens"):
        costs[FLOPS] = tokens * (row["flops"] / row["tokens"])
    if np.isfinite(seconds).all():
        costs[SECONDS] = seconds
    return Curve(row, loss, step, costs)


def _of_table(runs: Runs, metric: str) -> Iterable[Curve]:
    frame = runs.frame
    column = _step_column(frame)
    missing = [name for name in ("arm", metric) if name not in frame]
    missing += [] if "tokens" in frame or column else ["tokens (or step)"]
    if missing:
        raise AnalysisError(
            f"no column {', '.join(missing)}: a table of curves has one line a step, with arm, "
            f"{metric}, tokens or step, and a seed; name them with --column"
        )
    if column:
        _refuse_unnamed_runs(runs, column)
        frame = frame.assign(step=frame[column])
    runs = replace(runs, frame=with_names(frame))
    known = runs.frame[frame[metric].notna()]
    for _, lines in known.groupby(_keys(runs), sort=False, dropna=False):
        yield _of_lines(lines, metric)


def last_lines(runs: Runs, metric: str) -> Runs:
    """Return one line a run: of a table with one line a step, each run's last with the metric.

    Of such a table the lines of each run stand in the order of their steps.
    """
    frame = runs.frame
    column = _step_column(frame)
    if column is None or not is_foreign(frame):
        return runs
    _refuse_unnamed_runs(runs, column)
    lines = frame.assign(
        _step=pd.to_numeric(frame[column], errors="coerce"),
        _known=[not is_unknown(value) for value in frame[metric]],
    )
    of_runs = lines[lines["_known"]].groupby(_keys(runs), sort=False, dropna=False)["_step"]
    grown = (of_runs.diff().dropna() > 0).all() and lines["_step"].notna().all()
    if not grown or of_runs.size().max() == 1:
        return runs
    ranked = lines.sort_values(["_known", "_step"], kind="stable")
    last = ranked.groupby(_keys(runs), sort=False, dropna=False).tail(1).index.sort_values()
    note = f"one line a step ({column}): the last of each run counts, {len(last)} of {len(lines)}"
    return replace(runs, frame=frame.loc[last], notes=(*runs.notes, note))


def _step_column(frame: pd.DataFrame) -> str | None:
    return next((str(name) for name in frame if str(name).casefold() in STEPS), None)


def _refuse_unnamed_runs(runs: Runs, column: str) -> None:
    """Refuse a table in which several runs of an arm follow one another and nothing names them."""
    if _keys(runs) != ["arm"]:
        return
    step = pd.to_numeric(runs.frame[column], errors="coerce")
    by_arm = step.groupby(runs.frame["arm"], sort=False)
    begins = ~(by_arm.diff() > 0)
    at_first = step == by_arm.transform("min")
    n_lines, n_curves = len(step), int(begins.sum())
    if at_first[begins].all() and n_curves > by_arm.ngroups and n_lines >= 2 * n_curves:
        raise AnalysisError(
            f"{column!r} starts again within an arm, so {n_curves} curves stand one below the "
            "other and nothing names them: add a column of seeds, e.g. --column seed=NAME"
        )


def _keys(runs: Runs) -> list[str]:
    """Return the columns that tell a table's runs apart."""
    seeds = [name for name in SEEDS if name in runs.frame and runs.frame[name].notna().all()]
    sizes = [name for name in OF_A_WHOLE_RUN if name in runs.frame]
    is_place = runs.names_made_up and runs.frame["run_id"].is_unique
    return ["arm", *seeds, *sizes, *([] if is_place else ["run_id"])]


def _of_lines(lines: pd.DataFrame, metric: str) -> Curve:
    step = pd.to_numeric(lines["step"] if "step" in lines else lines["tokens"]).to_numpy(float)
    order = np.argsort(step, kind="stable")
    sources = {TOKENS: ("tokens", 1.0), FLOPS: ("flops", 1.0), SECONDS: ("hours", 3600.0)}
    costs = {
        cost: lines[name].to_numpy(float)[order] * unit
        for cost, (name, unit) in sources.items()
        if name in lines and lines[name].notna().all()
    }
    has_tokens = TOKENS in costs
    costs.setdefault(TOKENS, step[order])
    lost = DIVERGED in set(lines["status"])
    status = DIVERGED if lost else COMPLETE
    run = {str(k): v for k, v in lines.iloc[0].items()} | {"status": status}
    return Curve(run, lines[metric].to_numpy(float)[order], step[order], costs, has_tokens)
