"""One process per cell, on any number of machines that share the folder.

The owner holds an flock on ``lock.json`` and touches the file every few seconds. A lock that has
not been touched for a minute is taken over; at once if it was taken on this machine and nobody
holds its flock any more, for the kernel drops that however a process ends. An owner that was held
up for so long looks before it writes, and leaves everything to the new one.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.records.files import flocked

LOCK_FILE = "lock.json"
HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 60.0


class CellBusy(Exception):  # noqa: N818 - not an error: somebody else is at it
    """Another process runs this cell."""


class LockLost(Exception):  # noqa: N818 - not an error: the other process goes on
    """Another process took the cell over; nothing more may be written."""


class Lock:
    """Held while a cell runs; `lost` turns true if another process took it over."""

    def __init__(self, path: Path, token: str) -> None:
        self.path, self.token = path, token
        self.lost = False
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Look at the lock before something is written; `LockLost` if it is no longer ours."""
        with suppress(OSError):  # a hiccup of the file system: the next look comes soon
            self.lost = self.lost or _read(self.path).get("token") != self.token
        if self.lost:
            raise LockLost("another process took this cell over: its lock was silent too long")

    def release(self) -> None:
        """Stop the heartbeat and remove the lock, if it is still ours."""
        self._released.set()
        self._thread.join()
        with _guard(self.path.parent):
            if _read(self.path).get("token") == self.token:
                self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_SECONDS):
            try:
                self.check()
                os.utime(self.path)
            except LockLost:
                return
            except OSError:
                continue


class NoLock:
    """What the other processes of a cell hold: the first one keeps the lock for all."""

    lost = False

    def check(self) -> None:
        """Do nothing."""


NO_LOCK = NoLock()


@contextmanager
def locked(folder: Path) -> Iterator[Lock]:
    """Hold the cell's lock; `CellBusy` if a living process holds it."""
    path, token = folder / LOCK_FILE, uuid.uuid4().hex
    with ExitStack() as held:
        with _guard(folder):
            if (owner := living_owner(folder)) is not None:
                raise CellBusy(f"{folder.parent.name} {folder.name} is being run by {owner}")
            held.enter_context(_taken(path, token))
        lock = Lock(path, token)
        held.callback(lock.release)
        yield lock


@contextmanager
def _taken(path: Path, token: str) -> Iterator[None]:
    """Put a new lock file in place, its flock held; a former owner keeps that of the old file."""
    new = path.with_name(f".{path.name}.{token}")
    try:
        content = {"host": socket.gethostname(), "pid": os.getpid(), "token": token}
        new.write_text(json.dumps(content), encoding="utf-8")
        with flocked(new):
            new.replace(path)
            yield
    finally:
        new.unlink(missing_ok=True)


def living_owner(folder: Path) -> str | None:
    """Return "host:pid" of the process that runs the cell, None if nobody does."""
    path = folder / LOCK_FILE
    if not path.exists():
        return None
    held = _read(path)
    if held.get("host") == socket.gethostname() and not _is_flocked(path):
        return None
    age = _age(path)
    if age < -HEARTBEAT_SECONDS:  # a living owner sets it ahead again, a dead one's ages from now
        with suppress(OSError):
            os.utime(path)
    if age > STALE_SECONDS:
        return None
    return f"{held.get('host', 'somebody')}:{held.get('pid', 'unknown')}"


def _is_flocked(path: Path) -> bool:
    """Tell whether a process holds the lock's flock; true where that cannot be told."""
    try:
        # shared: two who look do not see each other
        with flocked(path, shared=True, busy=BlockingIOError()):
            return False
    except FileNotFoundError:  # released meanwhile
        return False
    except OSError:
        return True


def _age(path: Path) -> float:
    """Return seconds since the last heartbeat, by the clock of the file system if it lets us."""
    probe = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        probe.touch()
        now = probe.stat().st_mtime
    except OSError:  # a full disk, or somebody else's study
        now = time.time()
    finally:
        with suppress(OSError):
            probe.unlink()
    try:
        return now - path.stat().st_mtime
    except FileNotFoundError:  # released meanwhile
        return float("inf")


def _read(path: Path) -> dict[str, Any]:
    """Return the lock's content, nothing if it is gone or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@contextmanager
def _guard(folder: Path) -> Iterator[None]:
    """Let one process at a time look at the lock and take it."""
    with flocked(folder / ".lock.guard"):
        yield
