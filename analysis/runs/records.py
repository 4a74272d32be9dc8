"""Runs from the record files that the harness leaves behind."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import AnalysisError
from analysis.runs.cell.files import broken_files
from analysis.runs.frame import SEEDS, SUPERSEDED, TWIN, Runs
from analysis.runs.settings import difference
from harness.records import (
    BASELINE,
    PLAN_FILE,
    RECORD_FILE,
    PlannedRun,
    RecordError,
    RunRecord,
    Status,
    StudyPlan,
    read_plan,
)
from harness.records.evaluation import read_evaluations
from harness.records.reading import is_there
from harness.records.study import Command, Found, Study, read_all
from harness.records.versions import Rank, last_asked, rank, superseded_by

Commands = list[Command]
Tensors = frozenset[int]
"""A run's initial tensors, each as a hash of its name and its content."""

BATCH_KEY = "train.batch_size"


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
    found = read_all(paths)
    if not found.records:
        raise _nothing(paths, found.unreadable)
    if len(paths) > 1:
        _refuse_empty(paths, found)
    judged = {at: record for at, record in found.records.items() if not record.tuning}
    # Trials that chose settings count only where they were asked for by name.
    kept, shared = _once(judged or found.records)
    homes, unreadable = list(dict.fromkeys(map(_study_of, kept))), found.unreadable
    plans = _plans(paths, {record.study for record in kept.values()}, homes, unreadable)
    commands = {home: _commands(home, unreadable) for home in homes}
    frame = _frame(kept, superseded_by(_ranked(kept, plans, commands)))
    started = {record.cell for record in kept.values()}
    waiting = [cell for home in homes for cell in _waiting(home, commands[home], started)]
    evaluated = [item for home in homes for item in read_evaluations(home, unreadable).values()]
    unreadable += [error for at, record in kept.items() for error in broken_files(at, record)]
    return Runs(
        frame,
        plans,
        not_started=tuple(waiting),
        unreadable=tuple(unreadable),
        evaluations=tuple(item for item in evaluated if not item.in_study),
        shared=shared,
        home=paths[0] if paths[0].is_dir() else paths[0].parent,
    )


def _refuse_empty(paths: list[Path], found: Found) -> None:
    """Refuse a folder without records beside others."""
    files = [*found.records, *(error.file for error in found.unreadable)]
    full = {place for file in files for place in (file, *file.parents)}
    for path in paths:
        if (path if path.is_dir() else path.parent) not in full:
            raise _nothing([path], [])


def _once(
    records: dict[Path, RunRecord],
) -> tuple[dict[Path, RunRecord], dict[str, float]]:
    """Return each cell once, complete if it is so anywhere, and those that several studies hold.

    Of these, with how far apart their test losses are. Copies within a study's folder stay.
    """
    copies: defaultdict[str, dict[Path, Path]] = defaultdict(dict)
    for folder, record in records.items():
        copies[record.cell].setdefault(_study_of(folder), folder)
    left_out, shared = set(), {}
    for homes in copies.values():
        folders = list(homes.values())
        if len(folders) > 1:
            best = min(folders, key=lambda at: records[at].status is not Status.COMPLETE)
            left_out |= {*folders} - {best}
            losses = [loss for at in folders if (loss := records[at].losses.test) is not None]
            name = f"{records[best].arm}/{records[best].cell}"
            shared[name] = max(losses) - min(losses) if losses else 0.0
    return {at: record for at, record in records.items() if at not in left_out}, shared


def _frame(kept: dict[Path, RunRecord], newer: list[RunRecord | None]) -> pd.DataFrame:
    """Return a row a record; `newer` are the versions that count in the place of some."""
    records = list(kept.values())
    rows = [_row(record, folder) for folder, record in kept.items()]
    tensors = [frozenset(map(hash, record.fingerprints.init.items())) for record in records]
    cards = {name: card for record in records for name, card in record.cards.items()}
    frame = pd.DataFrame(rows)
    frame["edit"] = _edits(kept, newer)
    frame.loc[frame["edit"].notna(), "status"] = SUPERSEDED
    frame.loc[_twins(frame), "status"] = TWIN
    frame["batch_size"] = _batch_sizes([row["changes"] for row in rows])
    frame["init_shared"] = _init_shared(rows, tensors)
    if frame["study"].nunique() > 1:  # where one name is used in several studies
        frame["run_id"] = frame["study"] + "/" + frame["run_id"]
    _refuse_other_settings(frame)
    # A stack has no published figure of its own: only one intervention's card speaks for it.
    frame["published_delta"] = [cards.get(a, {}).get("published_delta") for a in frame["arm"]]
    return frame


def _ranked(
    kept: dict[Path, RunRecord], plans: dict[str, StudyPlan], commands: dict[Path, Commands]
) -> list[tuple[RunRecord, Rank]]:
    asked = {home: last_asked(found) for home, found in commands.items()}
    planned = {name: {cell["cell"] for cell in plan.cells} for name, plan in plans.items()}
    return [
        (record, rank(record, planned.get(record.study, ()), asked[_study_of(folder)]))
        for folder, record in kept.items()
    ]


def _nothing(paths: list[Path], unreadable: list[RecordError]) -> AnalysisError:
    """Return why there are no runs."""
    if unreadable:
        more = f" (and {len(unreadable) - 1} more)" if len(unreadable) > 1 else ""
        return AnalysisError(f"no run can be read: {unreadable[0]}{more}")
    return AnalysisError(
        f"no {RECORD_FILE} at or below {paths[0]}: give the folder of a study, e.g. runs/demo"
    )


def _commands(home: Path, unreadable: list[RecordError]) -> Commands:
    try:
        return Study(home).commands()
    except RecordError as error:
        unreadable.append(error)
        return []


def _row(record: RunRecord, folder: Path) -> dict[str, Any]:
    hours = record.cost.train_seconds / 3600 if record.cost.train_seconds else None
    return _tests(record) | {
        "run_id": f"{record.arm}/{record.cell}",
        "study": record.study,
        "arm": record.arm,
        "cell": record.cell,
        "init_seed": record.seeds.init,
        "data_seed": record.seeds.data,
        "loop_seed": record.seeds.loop,
        "test_loss": record.losses.test,
        "bits_per_byte": record.losses.bits_per_byte,
        "val_loss": record.losses.val,
        "train_loss": record.losses.train,
        "status": record.status.value,
        "step": record.step,
        "n_steps": record.n_steps,
        "tokens": record.tokens or None,
        "hours": hours,
        "flops": record.cost.flops,
        "usd": record.cost.usd,
        "n_params": record.n_params or None,
        "test_set": record.provenance.test_set_sha256,
        "data_shuffled": record.fingerprints.data_shuffled,
        "final_weights": record.fingerprints.final_weights,
        "git_sha": record.provenance.git_sha,
        "version": record.version,
        "code": " ".join(map("=".join, sorted(record.provenance.sources.items()))),
        "recipe": record.recipe,
        "equal_budget": record.equal_budget,
        "control": _is_control(record),
        "started": record.started,
        "changes": record.changes,
        "folder": str(folder),
        "error": record.error,
    }


def _is_control(record: RunRecord) -> bool:
    """Tell whether an arm is made of A/A controls alone."""
    cards = [record.cards.get(name, {}) for name in record.interventions]
    return bool(cards) and all(card.get("control") for card in cards)


def _twins(frame: pd.DataFrame) -> pd.Series:
    """Tell which complete runs of controls have the baseline's weights at the same seeds."""
    keys, done = [*SEEDS, "final_weights"], frame["status"] == "complete"
    known = done & frame["final_weights"].notna()
    base = frame.loc[known & (frame["arm"] == BASELINE), keys].drop_duplicates()
    found = frame[keys].merge(base.assign(found=True), on=keys, how="left")["found"].notna()
    return known & frame["control"] & found.set_axis(frame.index)


def _tests(record: RunRecord) -> dict[str, Any]:
    """Return the columns of the test sets by name: see `analysis.runs.frame`."""
    columns: dict[str, Any] = {"test_set.bits_per_byte": record.provenance.test_text}
    for name, found in record.losses.tests.items():
        columns |= {
            f"test_loss.{name}": found["loss"],
            f"test_set.test_loss.{name}": found["test_set_sha256"],
            f"bits_per_byte.{name}": found["bits_per_byte"],
            f"test_set.bits_per_byte.{name}": found["text"],
        }
    return columns


def _study_of(cell: Path) -> Path:
    """Return the study's folder of a cell, which may have been named from within the cell."""
    return Path(os.path.abspath(f"{cell}/../.."))  # noqa: PTH100 - resolve takes a second


def _edits(kept: dict[Path, RunRecord], newer: list[RunRecord | None]) -> list[str | None]:
    """Return what was edited since in the arm of each superseded run; None: the run counts."""
    homes = {id(record): folder for folder, record in kept.items()}
    found: dict[tuple[str | None, ...], str] = {}
    edits: list[str | None] = []
    for old, new in zip(kept.values(), newer, strict=True):
        if new is None:
            edits.append(None)
            continue
        pair = (old.arm, old.version, new.version)
        if pair not in found:
            settings = difference(homes[id(old)], homes[id(new)])
            code = "its code" * (old.provenance.sources != new.provenance.sources)
            found[pair] = ", ".join(part for part in (settings, code) if part) or "its settings"
        edits.append(found[pair])
    return edits


def _refuse_other_settings(frame: pd.DataFrame) -> None:
    """Refuse complete runs of equal arm and seeds that are no repeats: their settings differ."""
    done = frame[frame["status"] == "complete"].drop_duplicates(["arm", *SEEDS, "cell"])
    unlike = done[done.duplicated(["arm", *SEEDS], keep=False)]
    if len(unlike):
        ordered = unlike.sort_values(["arm", *SEEDS, "started"])
        first, second = ordered.iloc[:2].to_dict("records")
        how = difference(Path(first["folder"]), Path(second["folder"]))
        raise AnalysisError(
            f"{first['run_id']} and {second['run_id']} have the same arm and the same seeds, but "
            f"other settings ({how or 'or another version of the harness'}), so they are no "
            "repeats: give each setting an overlay or a study_name of its own, and move what is "
            "not meant to count out of the folder"
        )


def _waiting(home: Path, commands: Commands, started: set[str]) -> list[PlannedRun]:
    """Return the cells of a study that were asked for last with their seeds and never started."""
    asked = (cell for command in commands for cell in command["cells"])
    last = {(cell["arm"], *cell["seeds"].values()): cell for cell in asked}
    frozen = [
        (cell, home / cell["arm"] / cell["cell"])
        for cell in last.values()
        if cell["cell"] not in started
    ]
    return [cell for cell, at in frozen if at.is_dir() and not is_there(at / RECORD_FILE)]


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
        sizes.append(float(size) if only and isinstance(size, int | float) else None)
    return sizes


def _plans(
    paths: list[Path], studies: set[str], homes: list[Path], unreadable: list[RecordError]
) -> dict[str, StudyPlan]:
    """Return the studies' plans, from the named folders, those below and those above them."""
    folders = dict.fromkeys(homes)
    for path in paths:
        below = [file.parent.absolute() for file in sorted(path.glob(f"*/{PLAN_FILE}"))]
        folders |= dict.fromkeys([path.absolute(), *path.absolute().parents[:3], *below])
    plans: dict[str, StudyPlan] = {}
    for folder in folders:
        try:
            plan = read_plan(folder)
        except RecordError as error:  # elsewhere it may be any program's
            unreadable += [error] if folder in homes else []
            continue
        if plan is not None and plan.study in studies:
            plans.setdefault(plan.study, plan)
    return plans
