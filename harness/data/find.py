"""The files that a path names: a file, a folder or a glob, through links, without our own."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.data.manifest import MANIFEST_FILE
from harness.records import CONFIG_FILE, PLAN_FILE, RECORD_FILE
from harness.records.files import expanded
from harness.records.study import COMMANDS_FILE

OURS = ({COMMANDS_FILE}, {PLAN_FILE}, {CONFIG_FILE, RECORD_FILE}, {MANIFEST_FILE, "train.bin"})
"""What a folder of this program holds: a study, a cell or a corpus."""


@dataclass(frozen=True, slots=True)
class Found:
    """Files, and how they were come by."""

    files: list[Path]
    """Sorted; each once, however many links lead to it."""
    links: list[str] = field(default_factory=list)
    """Linked folders that were followed."""
    ours: list[str] = field(default_factory=list)
    """Folders that this program wrote, which are no text."""


def find(text: str) -> Found:
    """Return the regular files; hidden ones in a folder are left out."""
    path = expanded(text)
    if path.is_file():
        return Found([path])
    links: dict[str, None] = {}
    ours: dict[str, None] = {}
    if path.is_dir():
        found = list(_below(path, links, ours))
    else:
        named = [Path(name) for name in glob.glob(str(path), recursive=True)]  # noqa: PTH207
        found = [file for file in named if not _is_ours(file.parent, ours)]
        linked = (file for file in named if file.is_symlink() and file.is_dir())
        links.update(dict.fromkeys(map(str, linked)))
    once: dict[str, Path] = {}
    for file in sorted((file for file in found if file.is_file()), key=_depth):
        once.setdefault(os.path.realpath(file), file)
    return Found(sorted(once.values()), [*links], [*ours])


def _depth(file: Path) -> tuple[int, Path]:
    return len(file.parts), file


def _below(root: Path, links: dict[str, None], ours: dict[str, None]) -> Iterator[Path]:
    """Yield the files below a folder; a folder that links lead to again is walked once."""
    seen = {os.path.realpath(root)}
    for here, folders, files in os.walk(root, followlinks=True):
        at, kept = Path(here), []
        for name in sorted(name for name in folders if not name.startswith(".")):
            folder, real = at / name, os.path.realpath(at / name)
            if real in seen or _holds_ours(folder, ours):
                continue
            if folder.is_symlink():
                links[str(folder)] = None
            seen.add(real)
            kept.append(name)
        folders[:] = kept
        yield from (at / name for name in files if not name.startswith("."))


def _is_ours(folder: Path, ours: dict[str, None]) -> bool:
    """Tell whether a file's folder, or one above it up to here, is of this program."""
    above = [part for part in (folder, *folder.parents) if part not in (Path(), Path("/"))]
    return any(_holds_ours(part, ours) for part in reversed(above))


def _holds_ours(folder: Path, ours: dict[str, None]) -> bool:
    if str(folder) in ours:
        return True
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    if any(mark <= names for mark in OURS):
        ours[str(folder)] = None
    return str(folder) in ours
