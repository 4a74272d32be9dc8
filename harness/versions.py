"""Which cell counts where an arm was edited and trained again with the same seeds.

One rule for the analysis and for `harness.status`: of cells that share arm, seeds and recipe, and
so differ in the arm's overlay or code alone, the planned one counts, else the one asked for last.
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

from harness.records import RunRecord, now

COMMANDS_FILE = "commands.jsonl"
"""A study's: what was asked for, one line a command."""


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
        with (study / COMMANDS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def read_commands(study: Path) -> list[dict[str, Any]]:
    """Return what was asked for of a study, the oldest command first; a torn line is left out."""
    file = study / COMMANDS_FILE
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    found = []
    for line in lines:
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def last_asked(commands: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Return when each cell was last asked for."""
    return {cell["cell"]: command["time"] for command in commands for cell in command["cells"]}


def superseded_by(
    records: Sequence[RunRecord], planned: Collection[str], asked: Mapping[str, str]
) -> list[RunRecord | None]:
    """Return for each record the one that counts instead; None: it counts itself.

    Parameters
    ----------
    records
        Of one or more studies.
    planned
        Cells of their plans.
    asked
        When each cell was last asked for; a cell of which that is not known: when it started.
    """
    versions: defaultdict[tuple[Any, ...], list[RunRecord]] = defaultdict(list)
    for record in records:
        versions[_place(record)].append(record)

    def rank(record: RunRecord) -> tuple[bool, str]:
        return record.cell in planned, asked.get(record.cell) or record.started or ""

    counts = {place: max(same, key=rank) for place, same in versions.items()}
    chosen = [counts[_place(record)] for record in records]
    return [new if _edited(old, new) else None for old, new in zip(records, chosen, strict=True)]


def _place(record: RunRecord) -> tuple[Any, ...]:
    seeds = record.seeds
    return (record.study, record.arm, seeds.init, seeds.data, seeds.loop, record.recipe)


def _edited(old: RunRecord, new: RunRecord) -> bool:
    if old.recipe is None:  # an older record: of edits, it knows those of the arm's own code
        return old.provenance.sources != new.provenance.sources
    return old.cell != new.cell
