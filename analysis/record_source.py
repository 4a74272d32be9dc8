"""Runs from the record files that the harness leaves behind."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import AnalysisError
from analysis.runs import SEEDS, SUPERSEDED, Runs
from harness.records import (
    BASELINE,
    PLAN_FILE,
    RECORD_FILE,
    RecordError,
    RunRecord,
    StudyPlan,
    find_records,
    read_plan,
    read_record,
)

Tensors = frozenset[int]
"""A run's initial tensors, each as a hash of its name and its content."""

BATCH_KEY = "train.batch_size"
SHARED_ENOUGH = 0.5
"""An arm that shares fewer of its random tensors with the baseline counts as unpaired."""


def read_records(paths: list[Path]) -> Runs:
    """Read every ``record.json`` at or below some paths.

    Parameters
    ----------
    paths
        Studies' folders, arms' folders, cells' folders or record files.

    Raises
    ------
    AnalysisError
        A path without records, a record that cannot be read.
    """
    rows: list[dict[str, Any]] = []
    tensors: list[Tensors] = []
    cards: dict[str, dict[str, Any]] = {}
    for file in _files(paths):
        try:
            record = read_record(file)
        except RecordError as error:
            raise AnalysisError(str(error)) from error
        rows.append(_row(record, file.parent))
        tensors.append(frozenset(hash(item) for item in record.fingerprints.init.items()))
        cards.update(record.cards)
    frame, plans = pd.DataFrame(rows), _plans(paths)
    frame.loc[_superseded(frame, plans), "status"] = SUPERSEDED
    frame["batch_size"] = _batch_sizes([row["changes"] for row in rows])
    frame["init_shared"] = _init_shared(rows, tensors)
    _name(frame)
    frame["published_delta"] = [_published(arm, cards) for arm in frame["arm"]]
    return Runs(frame, plans, paths[0] if paths[0].is_dir() else paths[0].parent)


def _files(paths: list[Path]) -> list[Path]:
    files: dict[Path, None] = {}
    for path in paths:
        found = [path] if path.is_file() else list(find_records(path))
        if not found:
            raise AnalysisError(
                f"no {RECORD_FILE} at or below {path}: give the folder of a study, e.g. runs/demo"
            )
        files.update(dict.fromkeys(found))
    return list(files)


def _row(record: RunRecord, folder: Path) -> dict[str, Any]:
    hours = record.cost.train_seconds / 3600 if record.cost.train_seconds else None
    return {
        "run_id": f"{record.arm}/{record.cell}",
        "study": record.study,
        "arm": record.arm,
        "cell": record.cell,
        "init_seed": record.seeds.init,
        "data_seed": record.seeds.data,
        "loop_seed": record.seeds.loop,
        "test_loss": record.losses.test,
        "val_loss": record.losses.val,
        "train_loss": record.losses.train,
        "status": record.status.value,
        "step": record.step,
        "n_steps": record.n_steps,
        "tokens": record.tokens or None,
        "hours": hours,
        "usd": record.cost.usd,
        "n_params": record.n_params or None,
        "test_set": record.provenance.test_set_sha256,
        "data_shuffled": record.fingerprints.data_shuffled,
        "git_sha": record.provenance.git_sha,
        "own_code": " ".join(map("=".join, sorted(record.provenance.sources.items()))),
        "started": record.started,
        "changes": record.changes,
        "folder": str(folder),
        "error": record.error,
    }


def _name(frame: pd.DataFrame) -> None:
    """Put the study before the name wherever one name is used in several studies."""
    if frame["study"].nunique() > 1:
        frame["run_id"] = frame["study"] + "/" + frame["run_id"]


def _superseded(frame: pd.DataFrame, plans: dict[str, StudyPlan]) -> pd.Index:
    """Return the rows whose arm was edited since: its own code is another in a later cell.

    Of one study's cells of equal arm and seeds the planned one counts, else the latest.
    """
    planned = {str(cell.get("cell")) for plan in plans.values() for cell in plan.cells}
    ranked = frame.assign(
        planned=frame["cell"].isin(planned),
        started=frame["started"].fillna(""),
    ).sort_values(["planned", "started"], kind="stable")
    same = ranked.groupby(["study", "arm", *SEEDS], dropna=False, sort=False)
    return ranked.index[ranked["own_code"] != same["own_code"].transform("last")]


def _init_shared(rows: list[dict[str, Any]], tensors: list[Tensors]) -> list[float | None]:
    """Return each run's share of random tensors that equal the baseline's of the same seed.

    Tensors that are equal in baselines of different seeds (ones, zeros) are not random: they say
    nothing about pairing.
    """
    by_seed: dict[Any, Tensors] = {}
    for row, mine in zip(rows, tensors, strict=True):
        if row["arm"] == BASELINE and mine:
            by_seed.setdefault(row["init_seed"], mine)
    seeds_of: defaultdict[int, int] = defaultdict(int)
    for known in by_seed.values():
        for tensor in known:
            seeds_of[tensor] += 1
    constant = frozenset(tensor for tensor, count in seeds_of.items() if count > 1)
    shares: list[float | None] = []
    for row, mine in zip(rows, tensors, strict=True):
        theirs = by_seed.get(row["init_seed"])
        random = mine - constant
        shares.append(len(random & theirs) / len(random) if theirs and random else None)
    return shares


def _batch_sizes(changes: list[dict[str, list[Any]]]) -> list[float | None]:
    """Return the batch size of each run that differs from the baseline in nothing else.

    A record holds only what its arm changed, so the baseline's own comes from the other arms.
    """
    baseline = next((c[BATCH_KEY][0] for c in changes if BATCH_KEY in c), None)
    sizes: list[float | None] = []
    for change in changes:
        only = set(change) <= {BATCH_KEY, "hardware.micro_batch"}
        size = change[BATCH_KEY][1] if BATCH_KEY in change else baseline
        sizes.append(float(size) if only and size is not None else None)
    return sizes


def _published(arm: str, cards: dict[str, dict[str, Any]]) -> float | None:
    # A stack has no published figure of its own: only one intervention's card speaks for it.
    value = cards.get(arm, {}).get("published_delta")
    return None if value is None else float(value)


def _plans(paths: list[Path]) -> dict[str, StudyPlan]:
    plans: dict[str, StudyPlan] = {}
    for path in paths:
        folders = [path, *list(path.resolve().parents)[:3]] if path.is_dir() else []
        if path.is_file():
            folders = list(path.resolve().parents)[:4]
        below = [file.parent for file in path.glob(f"*/{PLAN_FILE}")] if path.is_dir() else []
        for folder in [*folders, *below]:
            try:
                plan = read_plan(folder)
            except RecordError as error:
                raise AnalysisError(str(error)) from error
            if plan is not None:
                plans.setdefault(plan.study, plan)
                if folder not in below:
                    break
    return plans
