"""What has been mirrored where, beside the files it was made from: ``mirrors.json``.

An entry is written before anything is sent and again when all of it has been: an entry that says
``sending`` is an attempt that broke off. What it left is deleted and made again from the start,
under a new id, since W&B never takes a deleted run's id again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.records import RunRecord
from harness.records.files import canonical_hash, now, write_atomic
from harness.tracking.backends import forget, open_mirror
from harness.tracking.base import Identity, Mirror, Target

SENT_FILE = "mirrors.json"
SENDING, DONE = "sending", "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one place has of a cell, or of a study's report."""

    content: str
    """Tells one training, or one report, from another."""
    state: str
    """``sending`` or ``done``."""
    attempt: int
    """Counts from 1."""
    at: str
    url: str | None = None
    """Where to look at it; None offline."""


def entry_of(folder: Path, target: Target) -> Entry | None:
    """Return what was sent to this place, or None."""
    found = _read(folder).get(target.key)
    return Entry(**found) if found else None


def has(folder: Path, target: Target, content: str) -> bool:
    """Tell whether this very content was sent, all of it."""
    entry = entry_of(folder, target)
    return entry is not None and (entry.state, entry.content) == (DONE, content)


def start(
    folder: Path, target: Target, content: str, identity: Identity, *, go_on: bool = False
) -> Mirror:
    """Open the run that `content` is sent to, after deleting what was there before.

    Parameters
    ----------
    folder, target, content, identity
        What is sent where.
    go_on
        Go on with the run of a cell that was interrupted, if it had got so far.
    """
    entry = entry_of(folder, target)
    if go_on and entry is not None and (entry.state, entry.content) == (SENDING, content):
        return open_mirror(target, _numbered(identity, entry.attempt), go_on=True)
    attempt = 1
    if entry is not None:
        forget(target, _numbered(identity, entry.attempt))
        attempt += entry.attempt
    _write(folder, target, Entry(content=content, state=SENDING, attempt=attempt, at=now()))
    return open_mirror(target, _numbered(identity, attempt))


def done(folder: Path, target: Target, mirror: Mirror) -> None:
    """Note that all of what was started has arrived."""
    entry = entry_of(folder, target)
    if entry is not None:
        _write(folder, target, replace(entry, state=DONE, at=now(), url=mirror.url))


def cell_content(record: RunRecord) -> str:
    """Return what tells one training of a cell from another."""
    return canonical_hash([record.cell, record.started])


def _numbered(identity: Identity, attempt: int) -> Identity:
    return identity if attempt == 1 else replace(identity, id=f"{identity.id}-{attempt}")


def _write(folder: Path, target: Target, entry: Entry) -> None:
    entries = _read(folder) | {target.key: asdict(entry)}
    write_atomic(folder / SENT_FILE, json.dumps(entries, indent=1) + "\n")


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    file = folder / SENT_FILE
    if not file.exists():
        return {}
    found: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return found
