"""One process per cell, on any number of machines that share the folder.

The owner touches ``lock.json`` every few seconds. A lock that has not been touched for a minute,
or whose process on this very machine is gone, is taken over.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.records import write_atomic

LOCK_FILE = "lock.json"
HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 60.0


class CellBusy(Exception):  # noqa: N818 - not an error: somebody else is at it
    """Another process runs this cell."""


class Lock:
    """Held while a cell runs; `lost` turns true if another process took it over."""

    def __init__(self, path: Path, token: str) -> None:
        self.path, self.token = path, token
        self.lost = False
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Stop the heartbeat and remove the lock, if it is still ours."""
        self._released.set()
        self._thread.join()
        with _guard(self.path.parent):
            if _read(self.path).get("token") == self.token:
                self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_SECONDS):
            if _read(self.path).get("token") != self.token:
                self.lost = True
                return
            with suppress(OSError):  # a hiccup of the file system: the next beat comes soon
                os.utime(self.path)


class NoLock:
    """What the other processes of a cell hold: the first one keeps the lock for all."""

    lost = False


NO_LOCK = NoLock()


@contextmanager
def locked(folder: Path) -> Iterator[Lock]:
    """Hold the cell's lock.

    Raises
    ------
    CellBusy
        A living process holds it.
    """
    path = folder / LOCK_FILE
    token = uuid.uuid4().hex
    with _guard(folder):
        if (owner := living_owner(folder)) is not None:
            raise CellBusy(f"{folder.parent.name} {folder.name} is being run by {owner}")
        content = {"host": socket.gethostname(), "pid": os.getpid(), "token": token}
        write_atomic(path, json.dumps(content))
    lock = Lock(path, token)
    try:
        yield lock
    finally:
        lock.release()


def living_owner(folder: Path) -> str | None:
    """Return "host:pid" of the process that runs the cell, None if nobody does."""
    path = folder / LOCK_FILE
    held = _read(path)
    if not held:
        return None
    if held["host"] == socket.gethostname() and not _alive(held["pid"]):
        return None
    if _age(path) > STALE_SECONDS:
        return None
    return f"{held['host']}:{held['pid']}"


def _alive(pid: int) -> bool:
    """Tell whether a process of this machine lives; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return Path("/proc").exists() is False and _signalled(pid)
    return state != "Z"


def _signalled(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _age(path: Path) -> float:
    """Return seconds since the last heartbeat, by the clock of the file system."""
    probe = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    probe.touch()
    try:
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return {}
    return content


@contextmanager
def _guard(folder: Path) -> Iterator[None]:
    """Let one process at a time look at the lock; the kernel frees it however we end."""
    with (folder / ".lock.guard").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
