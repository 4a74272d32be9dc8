"""Saved training states: written whole or not at all, the newest few kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

FOLDER = "checkpoints"
_NAME = re.compile(r"step_(\d+)\.pt")


def save(cell: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write ``checkpoints/step_N.pt`` atomically, then delete all but the newest `keep`."""
    folder = cell / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"step_{step:09d}.pt"
    temporary = path.with_suffix(".partial")
    try:
        torch.save(state, temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    for old in _saved(cell)[:-keep]:
        old.unlink()
    return path


def load_newest(cell: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the newest readable state, None if there is none, and a line for each unreadable one.

    Only tensors and plain data are read (``weights_only=True``), never code.
    """
    complaints: list[str] = []
    for path in reversed(_saved(cell)):
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            return state, complaints
        except Exception as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            complaints.append(f"{path.name} cannot be read ({first}): using the one before it")
    return None, complaints


def delete_all(cell: Path) -> None:
    """Delete the checkpoints of a finished cell, leftovers of a killed save included."""
    folder = cell / FOLDER
    if folder.exists():
        for path in [*folder.glob("*.pt"), *folder.glob("*.partial")]:
            path.unlink()
        folder.rmdir()


def _saved(cell: Path) -> list[Path]:
    return sorted(p for p in (cell / FOLDER).glob("step_*.pt") if _NAME.fullmatch(p.name))
