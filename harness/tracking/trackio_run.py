"""One run in trackio, by the real client."""

from __future__ import annotations

import contextlib
import importlib
import io
from typing import Any

from harness.tracking.base import Ending, Identity, Target

IDENTITY = "mirror_of"
"""Key of a run's config that says which cell it shows: its name does not."""


class TrackioMirror:
    """An open run, in trackio's database on this machine."""

    url: str | None = None

    def __init__(self, target: Target, identity: Identity, *, go_on: bool = False) -> None:
        if not go_on:
            delete(target, identity)  # of the same cell, run in another folder or once more
        with _quiet():
            self._run = _trackio().init(
                project=target.project,
                name=_name(target, identity),
                group=identity.group,
                config={
                    **identity.config,
                    "arm": identity.job_type,
                    "tags": identity.tags,
                    IDENTITY: identity.id,
                },
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
    storage, name = _trackio().SQLiteStorage, _name(target, identity)
    if name in storage.get_runs(target.project):
        storage.delete_run(target.project, name)


def _name(target: Target, identity: Identity) -> str:
    """Return the run's name, with its cell where an earlier version of the arm has the short one.

    The client goes on with the run that has the name.
    """
    config = _trackio().SQLiteStorage.get_run_config(target.project, identity.name)
    short = config is None or config.get(IDENTITY) == identity.id
    return identity.name if short else f"{identity.name} ({identity.folder.name})"


def _trackio() -> Any:
    """Return the module, which is an extra."""
    return importlib.import_module("trackio")


def _quiet() -> contextlib.redirect_stdout[io.StringIO]:
    """Keep the client's greetings off the standard output."""
    return contextlib.redirect_stdout(io.StringIO())
