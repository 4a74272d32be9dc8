"""What has been mirrored where, beside the files it was made from: ``mirrors.json``.

An entry is written before anything is sent and again when all of it has been: an entry that says
``sending`` is an attempt that broke off, to be made again from the start.
"""

from __future__ import annotations

import json
from pathlib import Path

from harness.mirror import Target
from harness.records import RunRecord, canonical_hash, now, write_atomic

SENT_FILE = "mirrors.json"
SENDING, DONE = "sending", "done"


def state_of(folder: Path, target: Target, content: str) -> str | None:
    """Return ``done`` or ``sending`` for this very content, None if it was never sent there."""
    entry = _read(folder).get(target.key)
    if entry is None:
        return None
    same = entry["content"] == content
    return entry["state"] if same or entry["state"] == SENDING else SENDING


def mark(folder: Path, target: Target, content: str, state: str) -> None:
    """Note that `content` is being sent, or has been."""
    entries = _read(folder)
    entries[target.key] = {"content": content, "state": state, "at": now()}
    write_atomic(folder / SENT_FILE, json.dumps(entries, indent=1) + "\n")


def mark_sent(folder: Path, target: Target, record: RunRecord) -> None:
    """Note that a cell was mirrored while it trained."""
    mark(folder, target, cell_content(record), DONE)


def cell_content(record: RunRecord) -> str:
    """Return what tells one training of a cell from another."""
    return canonical_hash([record.cell, record.started])


def _read(folder: Path) -> dict[str, dict[str, str]]:
    file = folder / SENT_FILE
    if not file.exists():
        return {}
    found: dict[str, dict[str, str]] = json.loads(file.read_text())
    return found
