"""Which cell counts where an arm was edited and trained again with the same seeds.

One rule for the analysis and for `harness.status`: of a study's cells that share arm, seeds and
recipe, and so differ in the arm's overlay or code alone, the planned one counts, else the one asked
for last.
Standard library only, as `harness.records`.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.records import RunRecord
from harness.records.files import now

COMMANDS_FILE = "commands.jsonl"
"""A study's: what was asked for, one line a command."""
Rank = tuple[bool, str]
"""Planned or not, and when it was last asked for."""


def note_command(study: Path, cells: list[dict[str, Any]]) -> None:
    """Append what this command asks for to the study's ``commands.jsonl``.

    Parameters
    ----------
    study
        The study's folder; one that cannot be written stays as it is.
    cells
        As in a plan: ``{"arm": ..., "seeds": {...}, "cell": ...}``.
    """
    line = {"time": now("milliseconds"), "command": sys.orig_argv, "cells": cells}
    with suppress(OSError):
        earlier = read_commands(study)
        if earlier and earlier[-1]["cells"] == cells:  # asked once more
            return
        with (study / COMMANDS_FILE).open("a+b", buffering=0) as file:
            file.seek(0)
            torn = file.read()[-1:] not in (b"", b"\n")  # by a kill
            # In one piece: other launchers append, too.
            file.write(b"\n" * torn + json.dumps(line).encode() + b"\n")


def read_commands(study: Path) -> list[dict[str, Any]]:
    """Return what was asked for of a study, the oldest command first; a torn line is left out."""
    file = study / COMMANDS_FILE
    lines = file.read_bytes().splitlines() if file.exists() else []
    found = []
    for line in lines:
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def last_asked(commands: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Return when each cell was last asked for."""
    return {cell["cell"]: command["time"] for command in commands for cell in command["cells"]}


def rank(record: RunRecord, planned: Collection[str], asked: Mapping[str, str]) -> Rank:
    """Return what decides between two versions: the greater counts.

    Parameters
    ----------
    record
        A cell's.
    planned
        Cells of its study's plan.
    asked
        When each cell of its study was last asked for; if that is not known: when it started.
    """
    return record.cell in planned, asked.get(record.cell) or record.started or ""


def superseded_by(ranked: Sequence[tuple[RunRecord, Rank]]) -> list[RunRecord | None]:
    """Return for each record, given with its `rank`, the one that counts instead; None: itself."""
    same: defaultdict[tuple[Any, ...], list[tuple[RunRecord, Rank]]] = defaultdict(list)
    for record, its in ranked:
        same[_place(record)].append((record, its))
    newer: list[RunRecord | None] = []
    for old, _ in ranked:
        versions = [pair for pair in same[_place(old)] if _one_recipe(old, pair[0])]
        new = max(versions, key=lambda pair: pair[1])[0]
        newer.append(new if _edited(old, new) else None)
    return newer


def _place(record: RunRecord) -> tuple[Any, ...]:
    seeds = record.seeds
    return record.study, record.arm, seeds.init, seeds.data, seeds.loop


def _one_recipe(one: RunRecord, other: RunRecord) -> bool:
    return one.recipe == other.recipe or None in (one.recipe, other.recipe)


def _edited(old: RunRecord, new: RunRecord) -> bool:
    if None in (old.recipe, new.recipe):  # an older record knows edits of the arm's own code alone
        return old.provenance.sources != new.provenance.sources
    return old.cell != new.cell
