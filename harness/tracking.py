"""Mirror a cell to Weights & Biases. The local files are the truth; this may fail, and say so.

The client runs in a thread of its own: training hands over plain data and never waits for it.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.config import Backend, Config, WandbMode, plain
from harness.records import RunRecord

log = logging.getLogger(__name__)

FINISH_SECONDS = 60.0
"""How long a finished cell waits for a slow tracker before it goes on without."""
_QUEUE_SIZE = 10_000


class Tracker:
    """Hands metrics to the tracking backend of the config, or to nobody."""

    def __init__(self, config: Config, record: RunRecord, folder: Path) -> None:
        self._tasks: queue.Queue[Callable[[Any], None] | None] = queue.Queue(_QUEUE_SIZE)
        self._thread: threading.Thread | None = None
        self._samples: list[list[Any]] = []
        if config.tracking.backend is Backend.wandb:
            arguments = _wandb_arguments(config, record, folder)
            self._thread = threading.Thread(target=self._work, args=(arguments,), daemon=True)
            self._thread.start()

    def log(self, metrics: dict[str, Any]) -> None:
        """Mirror the metrics of one logged step."""
        self._put(lambda run: run.log(dict(metrics), step=metrics["step"]))

    def samples(self, rows: list[dict[str, Any]]) -> None:
        """Keep completions for the samples table."""
        self._samples += [[r["step"], r["tokens"], r["prompt"], r["completion"]] for r in rows]

    def finish(self, record: RunRecord) -> None:
        """Mirror the summary and the samples, then wait for the tracker, but not for ever."""
        if self._thread is None:
            return
        summary, rows = _summary(record), self._samples
        self._put(lambda run: _finish(run, summary, rows))
        self._put(None)
        self._thread.join(FINISH_SECONDS)
        if self._thread.is_alive():
            _warn(f"did not finish within {FINISH_SECONDS:.0f} s; the local files are complete")

    def _put(self, task: Callable[[Any], None] | None) -> None:
        if self._thread is None:
            return
        try:
            self._tasks.put_nowait(task)
        except queue.Full:
            _warn(f"is more than {_QUEUE_SIZE} points behind; this one is not mirrored")

    def _work(self, arguments: dict[str, Any]) -> None:
        try:
            import wandb

            run = wandb.init(**arguments)
            while (task := self._tasks.get()) is not None:
                task(run)
        except Exception as error:
            _warn(f"stopped ({type(error).__name__}: {error}); the local files are complete")


def _wandb_arguments(config: Config, record: RunRecord, folder: Path) -> dict[str, Any]:
    import wandb

    tracking = config.tracking
    online = tracking.mode is WandbMode.online
    if online and not wandb.api.api_key:
        _warn("mode=online, but nobody is logged in: staying offline (run: wandb login)")
        online = False
    return {
        "project": tracking.project,
        "entity": tracking.entity,
        "group": record.study,
        "job_type": record.arm,
        "name": f"{record.arm} {record.cell}",
        "id": f"{record.study}-{record.cell}",
        "resume": "allow" if online else None,
        "tags": [record.arm, config.scale_name, *record.interventions, *tracking.tags],
        "config": plain(asdict(config)),
        "dir": str(folder),
        "mode": "online" if online else "offline",
        "settings": wandb.Settings(silent=True, console="off", init_timeout=30),
    }


def _finish(run: Any, summary: dict[str, Any], rows: list[list[Any]]) -> None:
    import wandb

    columns: list[str | int] = ["step", "tokens", "prompt", "completion"]
    run.log({"samples": wandb.Table(columns=columns, data=list(rows))})
    run.summary.update(summary)
    run.finish()


def _summary(record: RunRecord) -> dict[str, Any]:
    return {
        "status": record.status.value,
        "test_loss": record.losses.test,
        "val_loss": record.losses.val,
        "tokens": record.tokens,
        "n_params": record.n_params,
        "skipped_steps": record.skipped_steps,
        **{f"cost/{name}": value for name, value in asdict(record.cost).items()},
    }


def _warn(message: str) -> None:
    log.warning("tracker %s", message)
