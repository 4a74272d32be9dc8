"""Mirror a cell to Weights & Biases or trackio while it trains.

The local files are the truth; this may fail, and say so. The client runs in a thread of its own:
training hands over plain data and never waits for it.
"""

from __future__ import annotations

import logging
import queue
import threading
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any

from harness.config import Backend, Config, WandbMode
from harness.records import RunRecord, Status
from harness.records.cell import Cell
from harness.records.files import plain
from harness.tracking.backends import settled
from harness.tracking.base import Ending, Target, default_project, one_line
from harness.tracking.cell_run import cell_ending, cell_identity
from harness.tracking.receipts import send

log = logging.getLogger(__name__)

FINISH_SECONDS = 45.0
"""How long a finished cell waits for a slow tracker before it goes on without."""
UPLOAD_SECONDS = 30.0
"""How long the client may take to upload what is left by then."""
_MOST_ROWS = 10_000
"""So many points wait for a slow tracker."""


class Tracker:
    """Hands metrics to the tracking backend of the config, or to nobody."""

    def __init__(self, config: Config, record: RunRecord, folder: Path) -> None:
        self._record, self._folder = record, folder
        self._fresh = not record.cost.train_seconds
        self._whole = self._fresh
        """Nothing was left out; whether a resumed cell's first part got there is not known."""
        self._given_up = False
        self._rows: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        if config.tracking.backend is not Backend.none:
            self._target = target_of(config)
            self._later = sync_command(config, Cell(folder))
            work = (plain(config),)
            self._thread = threading.Thread(target=self._work, args=work, daemon=True)
            self._thread.start()

    def log(self, metrics: dict[str, Any]) -> None:
        """Mirror the metrics of one logged step."""
        if self._thread is None:
            return
        if self._rows.qsize() < _MOST_ROWS:
            self._rows.put(metrics)
            return
        if self._whole:
            self._warn(f"is more than {_MOST_ROWS} points behind; some are left out")
        self._whole = False

    def finish(self) -> None:
        """Mirror the summary and the samples, then wait for the tracker, but not for ever."""
        if self._thread is None:
            return
        self._rows.put(None)
        self._thread.join(FINISH_SECONDS)
        if self._thread.is_alive():
            self._warn(f"did not finish within {FINISH_SECONDS:.0f} s")
            self._given_up = True

    def _work(self, config: dict[str, Any]) -> None:
        """Be the thread: the only place that the client is called from."""
        try:
            target = settled(self._target)
            identity = cell_identity(target, config, self._record, self._folder)
            rows = iter(self._rows.get, None)
            send(target, identity, rows, self._ending, go_on=not self._fresh)
        except Exception as error:
            if not self._given_up:
                self._warn(f"stopped ({type(error).__name__}: {one_line(error)})")

    def _ending(self) -> Ending:
        whole, record = self._whole and self._record.losses.test is not None, self._record
        if whole and record.status is Status.RUNNING:
            record = replace(record, status=Status.COMPLETE)  # its file says so a moment later
        return replace(cell_ending(record, self._folder), whole=whole)

    def _warn(self, message: str) -> None:
        log.warning("tracker %s; nothing is lost: %s sends it later", message, self._later)


def target_of(config: Config) -> Target:
    """Return where the config's tracking mirrors to."""
    tracking = config.tracking
    return Target(
        backend=tracking.backend.value,
        project=tracking.project or default_project(tracking.backend.value, config.study_name),
        entity=tracking.entity,
        online=tracking.mode is WandbMode.online,
        tags=tuple(tracking.tags),
        patience_seconds=UPLOAD_SECONDS,
    )


def sync_command(config: Config, cell: Cell) -> str:
    """Return the command that sends what a study's cells did not."""
    flags = _flags(target_of(config), config.study_name)
    return f"python -m harness.sync {quote(str(cell.study))}{flags}"


def _flags(target: Target, study: str) -> str:
    """Return what `harness.sync` needs to be told to send to the same place."""
    flags = "" if target.backend == "wandb" else f" --backend {target.backend}"
    flags += " --online" if target.online else ""
    named = target.project != default_project(target.backend, study)
    flags += f" --project {quote(target.project)}" if named else ""
    return flags + (f" --entity {target.entity}" if target.entity else "")
