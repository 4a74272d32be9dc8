"""A study's folder, ``runs/NAME``: its plan, what was asked for of it, its cells."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TypedDict

from harness.records import (
    CONFIG_FILE,
    PLAN_FILE,
    RECORD_FILE,
    PlannedRun,
    RecordError,
    RunRecord,
    Status,
    StudyPlan,
    find_records,
    read_plan,
    read_record,
)
from harness.records.files import append_json_lines, now
from harness.records.reading import decoder, is_there, read_json_lines
from harness.records.secrets import masked

TRIAL = "_tune_"
"""Stands in the name of a study of trials, between the judged study's and what is tried."""
RUNS = Path("runs")
"""Where studies lie, unless somebody says otherwise."""
COMMANDS_FILE = "commands.jsonl"
"""What was asked for, one line a command."""


class Command(TypedDict):
    """What one command asked for."""

    time: str
    cells: list[PlannedRun]


class Look(TypedDict):
    """What is known of a look that was taken at a sequential study."""

    look: int


@dataclass(frozen=True, slots=True)
class Intent:
    """What was meant to be run."""

    plan: StudyPlan | None = None
    commands: list[Command] = field(default_factory=list)
    unreadable: list[RecordError] = field(default_factory=list)

    def asked(self) -> dict[str, PlannedRun]:
        """Return every cell that was ever planned or asked for, by its name."""
        planned = self.plan.cells if self.plan else []
        cells = [*(cell for command in self.commands for cell in command["cells"]), *planned]
        return {cell["cell"]: cell for cell in cells}


@dataclass(frozen=True, slots=True)
class Found:
    """The records below some folders, and what could not be read."""

    records: dict[Path, RunRecord] = field(default_factory=dict)
    """By the cell's folder."""
    unreadable: list[RecordError] = field(default_factory=list)


def read_all(roots: Iterable[Path]) -> Found:
    """Read every record at or below some folders; one that cannot be read stops no other."""
    found = Found()
    files = [file for root in roots for file in find_records(root, found.unreadable)]
    for file in dict.fromkeys(files):
        try:
            record = read_record(file)
            if record.status is Status.COMPLETE and record.losses.test is None:
                raise RecordError(file, "it is called complete, and has no test loss")
            found.records[file.parent] = record
        except RecordError as error:
            found.unreadable.append(error)
    return found


def meant(given: str | Path) -> str:
    """Ask for the studies that one which is not there may have meant, empty if none is near.

    They are looked for beside it, and in ``runs/`` beside the command.
    """
    path, signs = Path(given), (COMMANDS_FILE, PLAN_FILE)
    tops = [path.parent, RUNS]
    places = {file.parent for top in tops for name in signs for file in top.glob(f"*/{name}")}
    studies = {place.name: str(place) for place in sorted(places) if place != path}
    near = get_close_matches(path.name, studies, n=2, cutoff=0.6)
    return f"did you mean {' or '.join(studies[name] for name in near)}?" if near else ""


@dataclass(frozen=True, slots=True)
class Study:
    """Reads from its folder whenever it is asked: other processes write there, too."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    def plan(self) -> StudyPlan | None:
        """Return the plan, None if there never was one; `RecordError` if it cannot be read."""
        return read_plan(self.folder)

    def commands(self) -> list[Command]:
        """Return what was asked for, the oldest command first; a torn line is left out.

        `RecordError` if another line cannot be read.
        """
        file = self.folder / COMMANDS_FILE
        found: list[Command] = read_json_lines(file, decoder(Command), skip_torn=True)
        return found

    def intent(self) -> Intent:
        """Return plan and commands as far as they can be read."""
        unreadable: list[RecordError] = []
        plan, commands = None, []
        try:
            plan = self.plan()
        except RecordError as error:
            unreadable.append(error)
        try:
            commands = self.commands()
        except RecordError as error:
            unreadable.append(error)
        return Intent(plan, commands, unreadable)

    def note_command(self, cells: list[PlannedRun]) -> None:
        """Append what this command asks for, cells as in a plan, unless the last asked the same.

        A folder that cannot be written stays as it is.
        """
        with suppress(OSError, RecordError):
            earlier = self.commands()
            if not earlier or earlier[-1]["cells"] != cells:
                command = masked(sys.orig_argv)
                line = {"time": now("milliseconds"), "command": command, "cells": cells}
                append_json_lines(self.folder / COMMANDS_FILE, [line])

    def cells(self) -> list[Path]:
        """Return the folders of the cells that are frozen or have a record, sorted by path."""
        found: dict[tuple[int, int], Path] = {}
        for folder in sorted(self.folder.glob("*/*")):
            if any(is_there(folder / name) for name in (CONFIG_FILE, RECORD_FILE)):
                state = folder.stat()  # two links to one are one
                found.setdefault((state.st_dev, state.st_ino), folder)
        return list(found.values())

    def with_tuning(self) -> list[Study]:
        """Return the study and the trials that its settings were chosen by, or are being chosen."""
        name = self.folder.name.split(TRIAL)[0]
        trials = sorted(self.folder.parent.glob(f"{name}{TRIAL}*"))
        studies = [self.folder.parent / name, *trials]
        return [Study(folder) for folder in studies if folder.is_dir()]

    def found(self) -> Found:
        """Return the record of every cell, and what cannot be read."""
        return read_all([self.folder])
