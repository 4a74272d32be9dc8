"""Send runs, and note beside the files they were made from what was sent where: ``mirrors.json``.

An entry is written before anything is sent and again when all of it has been: an entry that says
``sending`` is an attempt that broke off. What it left is deleted and made again from the start,
under a new id, since W&B never takes a deleted run's id again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from harness.records.files import as_json, now, write_atomic
from harness.records.reading import Positive, RecordError, is_there, read_json
from harness.tracking.backends import forget, open_mirror
from harness.tracking.base import Ending, Identity, Target

SENT_FILE = "mirrors.json"
SENDING: Final = "sending"
DONE: Final = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one place has of a cell, or of a study's report."""

    content: str
    """See `Identity`."""
    state: Literal["sending", "done"]
    """``sending`` or ``done``."""
    attempt: Positive
    """Counts from 1."""
    at: str
    url: str | None = None
    """Where to look at it; None offline."""


def was_sent(target: Target, identity: Identity) -> bool:
    """Tell whether this very content was sent, all of it."""
    entry = entry_of(identity.folder, target)
    return entry is not None and (entry.state, entry.content) == (DONE, identity.content)


def send(
    target: Target,
    identity: Identity,
    rows: Iterable[dict[str, Any]],
    ending: Callable[[], Ending],
    *,
    go_on: bool = False,
) -> None:
    """Send a run's metrics as they come and then its ending, and note that all has arrived.

    What was there before is deleted first; or, with `go_on`, continued if it is the run of a cell
    that was interrupted.
    """
    entry = entry_of(identity.folder, target)
    unfinished = entry is not None and (entry.state, entry.content) == (SENDING, identity.content)
    go_on = go_on and unfinished
    if entry is None or not go_on:
        if entry is not None:
            forget(target, _numbered(identity, entry.attempt))
        attempt = entry.attempt + 1 if entry else 1
        entry = Entry(content=identity.content, state=SENDING, attempt=attempt, at=now())
        _write(identity.folder, target, entry)
    run = open_mirror(target, _numbered(identity, entry.attempt), go_on=go_on)
    for row in rows:
        run.log(row)
    last = ending()
    run.finish(last)
    if last.whole:
        _write(identity.folder, target, replace(entry, state=DONE, at=now(), url=run.url))


def entry_of(folder: Path, target: Target) -> Entry | None:
    """Return what was sent to this place, or None."""
    return _read(folder).get(target.key)


def arrived(folder: Path, target: Target) -> bool:
    """Tell whether a run of these files is in the target's project, whoever's, online or off."""
    try:
        entries = _read(folder).items()
    except RecordError:
        return False
    first, last = f"{target.backend}:", f"/{target.project}"
    return any(
        entry.state == DONE and key.startswith(first) and key.endswith(last)
        for key, entry in entries
    )


def _numbered(identity: Identity, attempt: int) -> Identity:
    return identity if attempt == 1 else replace(identity, id=f"{identity.id}-{attempt}")


def _write(folder: Path, target: Target, entry: Entry) -> None:
    entries = _read(folder) | {target.key: entry}
    content = {key: asdict(entry) for key, entry in entries.items()}
    write_atomic(folder / SENT_FILE, as_json(content, indent=1) + "\n")


def _read(folder: Path) -> dict[str, Entry]:
    file = folder / SENT_FILE
    return read_json(file, dict[str, Entry]) if is_there(file) else {}
