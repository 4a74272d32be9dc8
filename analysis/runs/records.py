"""Runs from the record files that the harness leaves behind."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from analysis.errors import AnalysisError
from analysis.runs.cell.files import broken_files
from analysis.runs.frame import Runs
from analysis.runs.record_rows import one_row_a_record
from harness.records import (
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


def read_records(paths: list[Path]) -> Runs:
    """Read every record at or below some paths: folders of studies, arms or cells, record files.

    `AnalysisError` where there is no record, or none that can be read.
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
    frame = one_row_a_record(kept, superseded_by(_ranked(kept, plans, commands)))
    started = {record.cell for record in kept.values()}
    waiting = [cell for home in homes for cell in _waiting(home, commands[home], started)]
    read = {*started, *(error.file.parent.name for error in unreadable)}
    outside = [cell for home in homes for cell in _outside(home, plans.values(), read)]
    evaluated = [item for home in homes for item in read_evaluations(home, unreadable).values()]
    unreadable += [error for at, record in kept.items() for error in broken_files(at, record)]
    return Runs(
        frame,
        plans,
        not_started=tuple(waiting),
        not_named=tuple(outside),
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
    """Return each cell once, a complete copy if there is one, and those that several studies hold.

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


def _study_of(cell: Path) -> Path:
    """Return the study's folder of a cell, which may have been named from within the cell."""
    return Path(os.path.abspath(f"{cell}/../.."))  # noqa: PTH100 - resolve takes a second


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


def _outside(home: Path, plans: Iterable[StudyPlan], read: set[str]) -> list[PlannedRun]:
    """Return the planned cells of a study that have a record, which nobody asked to be read."""
    planned = [cell for plan in plans for cell in plan.cells if cell["cell"] not in read]
    return [cell for cell in planned if is_there(home / cell["arm"] / cell["cell"] / RECORD_FILE)]


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
