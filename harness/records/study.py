"""A study's folder, ``runs/NAME``: its plan, what was asked for of it, its cells."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.records import (
    CONFIG_FILE,
    RECORD_FILE,
    RunRecord,
    StudyPlan,
    find_records,
    read_plan,
    read_record,
)
from harness.records.files import append_json_lines, now, read_json_lines
from harness.records.secrets import masked

TRIAL = "_tune_"
"""Stands in the name of a study of trials, between the judged study's and what is tried."""
COMMANDS_FILE = "commands.jsonl"
"""What was asked for, one line a command."""


@dataclass(frozen=True, slots=True)
class Study:
    """Reads from its folder whenever it is asked: other processes write there, too."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    def plan(self) -> StudyPlan | None:
        """Return the plan, None if there never was one; `RecordError` if it cannot be read."""
        return read_plan(self.folder)

    def commands(self) -> list[dict[str, Any]]:
        """Return what was asked for, the oldest command first; a torn line is left out."""
        return read_json_lines(self.folder / COMMANDS_FILE, skip_broken=True)

    def note_command(self, cells: list[dict[str, Any]]) -> None:
        """Append what this command asks for, cells as in a plan, unless the last asked the same.

        A folder that cannot be written stays as it is.
        """
        with suppress(OSError):
            earlier = self.commands()
            if not earlier or earlier[-1]["cells"] != cells:
                command = masked(sys.orig_argv)
                line = {"time": now("milliseconds"), "command": command, "cells": cells}
                append_json_lines(self.folder / COMMANDS_FILE, [line])

    def cells(self) -> list[Path]:
        """Return the folders of the cells that are frozen or have a record, sorted by path."""
        names = (CONFIG_FILE, RECORD_FILE)
        return sorted({file.parent for name in names for file in self.folder.glob(f"*/*/{name}")})

    def with_tuning(self) -> list[Study]:
        """Return the study and the trials that its settings were chosen by, or are being chosen."""
        name = self.folder.name.split(TRIAL)[0]
        trials = sorted(self.folder.parent.glob(f"{name}{TRIAL}*"))
        return [Study(self.folder.parent / name), *map(Study, trials)]

    def records(self) -> dict[Path, RunRecord]:
        """Return the record of every cell by its folder; `RecordError` if one cannot be read."""
        return {file.parent: read_record(file) for file in find_records(self.folder)}
