"""One run in trackio, by the real client."""

from __future__ import annotations

import contextlib
import importlib
import io
from typing import Any

from harness.tracking.base import Ending, Identity, Target


class TrackioMirror:
    """An open run, in trackio's database on this machine."""

    url: str | None = None

    def __init__(self, target: Target, identity: Identity) -> None:
        with _quiet():
            self._run = _trackio().init(
                project=target.project,
                name=identity.name,
                group=identity.group,
                config={**identity.config, "arm": identity.job_type, "tags": identity.tags},
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        self._step = 0

    def log(self, metrics: dict[str, Any]) -> None:
        """Send one logged step."""
        self._step = metrics["step"]
        rest = {name: value for name, value in metrics.items() if name != "step"}
        self._run.log(rest, step=self._step)  # a key "step" is its own

    def finish(self, ending: Ending) -> None:
        """Send the summary's figures and the tables, and close the run."""
        import pandas as pd

        trackio = _trackio()
        shown: dict[str, Any] = {
            name: trackio.Table(dataframe=pd.DataFrame(rows, columns=columns))
            for name, (columns, rows) in ending.tables.items()
            if rows
        }
        figures = {k: v for k, v in ending.summary.items() if isinstance(v, int | float)}
        shown |= {f"final/{name}": value for name, value in figures.items()}
        self._run.log(shown, step=self._step)
        with _quiet():
            trackio.finish()


def delete(target: Target, identity: Identity) -> None:
    """Delete a run, if it is there."""
    storage = _trackio().SQLiteStorage
    if identity.name in storage.get_runs(target.project):
        storage.delete_run(target.project, identity.name)


def _trackio() -> Any:
    """Return the module, which is an extra."""
    return importlib.import_module("trackio")


def _quiet() -> contextlib.redirect_stdout[io.StringIO]:
    """Keep the client's greetings off the standard output."""
    return contextlib.redirect_stdout(io.StringIO())
