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
``flops``          of training
``usd``            dollars
``test_set``       hash of the test set: compared runs must agree
``init_shared``    share of seed-dependent tensors equal to the baseline's of that seed, 0 to 1
=================  =========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.records import BASELINE, Status, StudyPlan

SEEDS = ("init_seed", "data_seed", "loop_seed")
INTERVENTIONS = "interventions"
"""Column of lists of names; in a column `arm`, a comma is part of the name."""
COLUMNS = (
    *("run_id", "study", "arm", INTERVENTIONS, "seed", *SEEDS, "status"),
    *("test_loss", "val_loss", "train_loss", "tokens", "hours", "flops", "usd", "n_params"),
    *("n_steps", "step", "test_set", "init_shared", "batch_size", "published_delta"),
)
"""What the analysis reads; ``seed`` stands for all three seeds."""
SUPERSEDED = "superseded"
"""Status of a run whose arm was edited since and asked for again: `harness.records.versions`."""
STATUSES = (*(status.value for status in Status), SUPERSEDED)
SHARED_ENOUGH = 0.5
"""An arm that shares fewer of its random tensors with the baseline counts as unpaired."""
MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of one or more studies, as read; every fact about them is a field."""

    frame: pd.DataFrame
    """One row a run; see the module's table of columns."""
    plans: dict[str, StudyPlan] = field(default_factory=dict)
    """Study -> its frozen plan, where it has one."""
    not_started: tuple[dict[str, Any], ...] = ()
    """Cells that a command asked for and that have no record yet: arm, seeds, cell."""
    given: tuple[str, ...] = ()
    """Columns of the tables that were read, under their own names."""
    taken_from: dict[str, str] = field(default_factory=dict)
    """Our column -> the table's name for it, where it was guessed."""
    references: tuple[tuple[str, float], ...] = ()
    """Names and test losses of models that the studies did not train, on the same test set."""
    home: Path | None = None
    """Folder beside which results are written."""
    stem: str = "results"
    """Name of the results' files without their ending."""


def join(parts: Sequence[Runs]) -> Runs:
    """Return the runs of all parts; results are written beside the first."""
    if len(parts) == 1:
        return parts[0]
    return Runs(
        frame=pd.concat([part.frame for part in parts], ignore_index=True),
        plans={name: plan for part in parts for name, plan in part.plans.items()},
        not_started=tuple(cell for part in parts for cell in part.not_started),
        given=tuple(dict.fromkeys(name for part in parts for name in part.given)),
        taken_from={ours: name for part in parts for ours, name in part.taken_from.items()},
        references=tuple(pair for part in parts for pair in part.references),
        home=parts[0].home,
        stem=parts[0].stem,
    )


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
