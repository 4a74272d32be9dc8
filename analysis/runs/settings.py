"""What two cells of one arm were trained with: in words, from their frozen configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from analysis.runs.frame import named
from harness.records import CONFIG_FILE
from harness.records.files import flatten

SCIENCE = (
    *("model.", "train.", "optim.", "schedule.", "precision.", "data.", "interventions."),
    *("eval.test_sequences", "eval.block_size", "eval.test_set", "eval.data."),
)
"""Keys that can change a cell's numbers begin so; its seeds' apart."""
HOOKS = {"event", "fn"}
"""What of a card is part of the arm; the rest is words."""
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe one; ten times as fast where it is compiled."""


def difference(old: Path, new: Path) -> str:
    """Return the settings in which two cells differ, each as ``key old -> new``.

    Empty where there are none, or where they are not known.
    """
    before, after = _science(old), _science(new)
    if not (before and after):
        return ""
    keys = [key for key in sorted(before | after) if before.get(key) != after.get(key)]
    return named(f"{key} {before.get(key)} -> {after.get(key)}" for key in keys)


def read_config(cell: Path) -> dict[str, Any]:
    """Return what a cell was frozen with; empty where that cannot be read."""
    try:
        config = yaml.load((cell / CONFIG_FILE).read_text(encoding="utf-8"), LOADER)  # noqa: S506
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}


def _science(cell: Path) -> dict[str, Any]:
    return {
        key: value
        for key, value in flatten(read_config(cell)).items()
        if key.startswith(SCIENCE) and _trained(key)
    }


def _trained(key: str) -> bool:
    group, *rest = key.split(".")
    return group != "interventions" or bool(HOOKS & {*rest})
