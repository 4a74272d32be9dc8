"""Which cell counts where an arm was edited and trained again, and whose losses compare.

One rule for the analysis and for `harness.status`: of a study's cells that share arm, seeds and
recipe, and so differ in the arm's overlay or code alone, the planned one counts, else the one asked
for last.
Standard library only, as `harness.records`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from harness.records import RunRecord
from harness.records.study import Command

TEST_SET = ("data.", "eval.", "model.block_size")
"""How the names of settings begin that can change which tokens are tested."""
Rank = tuple[bool, str]
"""Planned or not, and when it was last asked for."""


def changes_of_test_set(changes: object) -> str:
    """Return in words what an arm's `RunRecord.changes` may change of its test set."""
    pairs = changes.items() if isinstance(changes, dict) else ()
    of_test = [(key, *pair) for key, pair in pairs if key.startswith(TEST_SET)]
    return ", ".join(f"{key} {before} -> {after}" for key, before, after in of_test)


def last_asked(commands: Iterable[Command]) -> dict[str, str]:
    """Return when each cell was last asked for."""
    return {cell["cell"]: command["time"] for command in commands for cell in command["cells"]}


def rank(record: RunRecord, planned: Collection[str], asked: Mapping[str, str]) -> Rank:
    """Return what decides between two versions of a cell: the greater counts.

    `planned` are the cells of its study's plan; `asked` says when each was last asked for, and
    where it does not, when the cell started serves.
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
