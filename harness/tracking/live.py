"""Mirror a cell to Weights & Biases or trackio while it trains.

The local files are the truth; this may fail, and say so. The client runs in a thread of its own:
training hands over plain data and never waits for it.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Any

from harness.config import Backend, Config, WandbMode
from harness.records import RunRecord, Status
from harness.records.files import plain
from harness.tracking.backends import settled
from harness.tracking.base import (
    PROJECT,
    SAMPLE_COLUMNS,
    Exhibits,
    Mirror,
    Target,
    cell_identity,
    cell_summary,
    one_line,
)
from harness.tracking.receipts import cell_content, done, start

log = logging.getLogger(__name__)

FINISH_SECONDS = 45.0
"""How long a finished cell waits for a slow tracker before it goes on without."""
UPLOAD_SECONDS = 30.0
"""How long the client may take to upload what is left by then."""
_QUEUE_SIZE = 10_000


class Tracker:
    """Hands metrics to the tracking backend of the config, or to nobody."""

    def __init__(self, config: Config, record: RunRecord, folder: Path) -> None:
        self._tasks: queue.Queue[Callable[[Mirror], None] | None] = queue.Queue(_QUEUE_SIZE)
        self._thread: threading.Thread | None = None
        self._samples: list[list[Any]] = []
        self._fresh = not record.cost.train_seconds
        self._whole = self._fresh
        """Nothing was left out; whether a resumed cell's first part got there is not known."""
        self._given_up = False
        if config.tracking.backend is not Backend.none:
            work = (target(config), plain(asdict(config)), record, folder)
            study = quote(str(folder.parent.parent))
            self._later = f"python -m harness.sync {study}{_flags(work[0])}"
            self._thread = threading.Thread(target=self._work, args=work, daemon=True)
            self._thread.start()

    def log(self, metrics: dict[str, Any]) -> None:
        """Mirror the metrics of one logged step."""
        self._put(lambda run: run.log(metrics))

    def samples(self, rows: list[dict[str, Any]]) -> None:
        """Keep completions for the samples table."""
        self._samples += [[row[str(name)] for name in SAMPLE_COLUMNS] for row in rows]

    def finish(self, record: RunRecord) -> None:
        """Mirror the summary and the samples, then wait for the tracker, but not for ever."""
        if self._thread is None:
            return
        summary = cell_summary(record)
        self._whole &= record.losses.test is not None
        if self._whole and record.status is Status.RUNNING:
            summary["status"] = Status.COMPLETE.value  # the record says so a moment later
        columns = [str(name) for name in SAMPLE_COLUMNS]
        exhibits = Exhibits(tables={"samples": (columns, self._samples)})
        self._put(lambda run: run.finish(summary, exhibits))
        self._put(None)
        self._thread.join(FINISH_SECONDS)
        if self._thread.is_alive():
            self._warn(f"did not finish within {FINISH_SECONDS:.0f} s")
            self._given_up = True

    def _put(self, task: Callable[[Mirror], None] | None) -> None:
        if self._thread is None:
            return
        try:
            self._tasks.put_nowait(task)
        except queue.Full:
            if self._whole:
                self._warn(f"is more than {_QUEUE_SIZE} points behind; some are left out")
            self._whole = False

    def _work(
        self, target: Target, config: dict[str, Any], record: RunRecord, folder: Path
    ) -> None:
        """Be the thread: the only place that the client is called from."""
        try:
            target = settled(target)
            identity = cell_identity(target, config, record, folder)
            content = cell_content(record)
            run = start(folder, target, content, identity, go_on=not self._fresh)
            while (task := self._tasks.get()) is not None:
                task(run)
            if self._whole:
                done(folder, target, run)
        except Exception as error:
            self._whole = False
            if not self._given_up:
                self._warn(f"stopped ({type(error).__name__}: {one_line(error)})")

    def _warn(self, message: str) -> None:
        log.warning("tracker %s; nothing is lost: %s sends it later", message, self._later)


def target(config: Config) -> Target:
    """Return where a config mirrors to."""
    tracking = config.tracking
    return Target(
        backend=tracking.backend.value,
        project=tracking.project,
        entity=tracking.entity,
        online=tracking.mode is WandbMode.online,
        tags=tuple(tracking.tags),
        patience_seconds=UPLOAD_SECONDS,
    )


def _flags(target: Target) -> str:
    """Return what `harness.sync` needs to be told to send to the same place."""
    flags = "" if target.backend == "wandb" else f" --backend {target.backend}"
    flags += " --online" if target.online else ""
    flags += f" --project {target.project}" if target.project != PROJECT else ""
    return flags + (f" --entity {target.entity}" if target.entity else "")
