"""Start a cell in a process of its own; there it enters its slot, and ends with its launcher."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import util
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from harness.cell.start import start_cell
from harness.records import LOG_FILE
from harness.study.slots import Slot

STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""Asked to stop, closed the terminal: what the launcher passes on to its cells."""
LONGEST_TMPDIR_BYTES = 60
_FORKS = multiprocessing.get_context("forkserver")


def prepare(modules: Sequence[str], threads: int) -> None:
    """Have the process that all others fork from import these modules first."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    _shorten_socket_paths()
    _FORKS.set_forkserver_preload(list(modules))


def _shorten_socket_paths() -> None:
    """Keep the fork server's sockets out of a long TMPDIR: their paths hold about 100 bytes."""
    chosen = tempfile.gettempdir()
    if len(os.fsencode(chosen)) > LONGEST_TMPDIR_BYTES:
        tempfile.tempdir = "/tmp"  # noqa: S108 - a folder of its own is made in it
        util.get_temp_dir()
        tempfile.tempdir = chosen


def start(function: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Start a function in a process of its own; a fork server that dies meanwhile is replaced."""
    for patience in (0.1, 1.0):
        with suppress(EOFError, ConnectionError):
            return _fork(function, arguments)
        time.sleep(patience)
    return _fork(function, arguments)


def _fork(function: Callable[..., None], arguments: tuple[Any, ...]) -> BaseProcess:
    process = _FORKS.Process(target=function, args=arguments)
    process.start()
    return process


def run_in_slot(folder: Path, slot: Slot, command: list[str]) -> None:
    """Train the cell on its slot; everything it prints goes to the cell's log."""
    _enter(folder, slot, command)
    sys.exit(start_cell(folder, slot.n_devices))


def rehearse_in_slot(folder: Path, slot: Slot, command: list[str], n_slots: int) -> None:
    """Take one small step of the cell, and throw it away."""
    _enter(folder, slot, command)
    from harness.cell.rehearsal import rehearse

    sys.exit(rehearse(folder, n_slots))


def rehearse_alone(folder: Path) -> int:
    """Rehearse a cell that is no part of a sweep, in a process of its own; return its exit code."""
    child = start(_rehearse, folder, sys.orig_argv)
    child.join()
    return int(child.exitcode or 0)


def _rehearse(folder: Path, command: list[str]) -> None:
    sys.orig_argv = command
    from harness.cell.rehearsal import rehearse

    sys.exit(rehearse(folder, 1))


def _enter(folder: Path, slot: Slot, command: list[str]) -> None:
    try:
        log = os.open(folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError:  # the launcher sees why
        sys.exit(1)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # blocked in the nursery
    os.setsid()  # Ctrl-C reaches the launcher alone, which asks the cells to stop
    sys.orig_argv = command  # what the person typed belongs in the record
    threading.Thread(target=_follow_launcher, daemon=True).start()
    slot.occupy()


def _follow_launcher() -> None:
    """Let no cell outlive its launcher: it saves its state, and the next launcher goes on."""
    launcher = multiprocessing.parent_process()
    if launcher is not None:
        launcher.join()
        os.kill(os.getpid(), signal.SIGTERM)
