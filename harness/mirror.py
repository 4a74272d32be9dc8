"""Runs in Weights & Biases or trackio, behind one small interface.

Everything that is sent comes from the local files, live by `harness.tracking` or afterwards by
`harness.sync`; a mirror has no figure of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from harness.records import RunRecord

log = logging.getLogger(__name__)

INIT_SECONDS = 30
SAMPLE_COLUMNS: list[str | int] = ["step", "tokens", "prompt", "completion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to mirror to."""

    backend: str
    """``wandb`` or ``trackio``."""
    project: str
    entity: str | None = None
    online: bool = False
    tags: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Names the place in the list of what has been sent."""
        where = "online" if self.online else "offline"
        return f"{self.backend}:{where}:{self.entity or ''}/{self.project}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a run is called there."""

    group: str
    """The study."""
    job_type: str
    """The arm."""
    name: str
    id: str
    tags: list[str]
    config: dict[str, Any]
    folder: Path
    """Where wandb keeps its files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibits:
    """What a study shows beside its cells: tables, pictures, files; all may be empty."""

    tables: dict[str, tuple[list[str], list[list[Any]]]] = field(default_factory=dict)
    """Name -> (columns, rows)."""
    pictures: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


class Mirror(Protocol):
    """One open run."""

    def log(self, metrics: dict[str, Any]) -> None:
        """Send one logged step; ``metrics["step"]`` is its number."""

    def finish(self, summary: dict[str, Any], exhibits: Exhibits) -> None:
        """Send what remains, and close the run."""


def cell_identity(
    target: Target, config: dict[str, Any], record: RunRecord, folder: Path
) -> Identity:
    """Return a cell's identity: the same whenever and however it is mirrored.

    Parameters
    ----------
    target
        Whose tags are added.
    config
        The cell's config as plain data.
    record, folder
        The cell.
    """
    scale = str(config.get("scale_name", ""))
    return Identity(
        group=record.study,
        job_type=record.arm,
        name=f"{record.arm} {record.cell}",
        id=f"{record.study}-{record.cell}",
        tags=[record.arm, scale, *record.interventions, *target.tags],
        config=config,
        folder=folder,
    )


def cell_summary(record: RunRecord) -> dict[str, Any]:
    """Return the figures that a finished cell is listed with."""
    return {
        "status": record.status.value,
        "test_loss": record.losses.test,
        "val_loss": record.losses.val,
        "tokens": record.tokens,
        "n_params": record.n_params,
        "skipped_steps": record.skipped_steps,
        **{f"cost/{name}": value for name, value in asdict(record.cost).items()},
    }


def open_mirror(target: Target, identity: Identity) -> Mirror:
    """Open a run with the real client.

    Raises
    ------
    ImportError
        The backend is not installed.
    """
    return (_Wandb if target.backend == "wandb" else _Trackio)(target, identity)


def settled(target: Target) -> Target:
    """Return the target, offline if nobody is logged in; says so."""
    if target.backend != "wandb" or not target.online:
        return target
    import wandb

    if wandb.api.api_key:
        return target
    log.warning("tracker mode=online, but nobody is logged in: staying offline (run: wandb login)")
    return Target(backend="wandb", project=target.project, entity=target.entity, tags=target.tags)


def forget(target: Target, identity: Identity) -> None:
    """Delete what a broken attempt left locally, so that the next one is not a second run."""
    if target.backend == "trackio":
        storage = _trackio().SQLiteStorage
        if identity.name in storage.get_runs(target.project):
            storage.delete_run(target.project, identity.name)
        return
    import shutil

    for left in identity.folder.glob(f"wandb/offline-run-*-{identity.id}"):
        shutil.rmtree(left)


class _Wandb:
    def __init__(self, target: Target, identity: Identity) -> None:
        import wandb

        self._run = wandb.init(
            project=target.project,
            entity=target.entity,
            group=identity.group,
            job_type=identity.job_type,
            name=identity.name,
            id=identity.id,
            resume="allow" if target.online else None,
            tags=list(dict.fromkeys(tag[:64] for tag in identity.tags if tag)),
            config=identity.config,
            dir=str(identity.folder),
            mode="online" if target.online else "offline",
            settings=wandb.Settings(silent=True, console="off", init_timeout=INIT_SECONDS),
        )
        self._run.define_metric("tokens")
        self._run.define_metric("*", step_metric="tokens")

    def log(self, metrics: dict[str, Any]) -> None:
        self._run.log(dict(metrics), step=metrics["step"])

    def finish(self, summary: dict[str, Any], exhibits: Exhibits) -> None:
        import wandb

        shown: dict[str, Any] = {
            name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])
            for name, (columns, rows) in exhibits.tables.items()
        }
        shown |= {picture.stem: wandb.Image(str(picture)) for picture in exhibits.pictures}
        if shown:
            self._run.log(shown)
        if exhibits.files:
            artifact = wandb.Artifact(f"{self._run.id}-report", type="report")
            for file in exhibits.files:
                artifact.add_file(str(file))
            self._run.log_artifact(artifact)
        self._run.summary.update(summary)
        self._run.finish()


class _Trackio:
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
        self._step = metrics["step"]
        rest = {name: value for name, value in metrics.items() if name != "step"}
        self._run.log(rest, step=self._step)  # a key "step" is its own

    def finish(self, summary: dict[str, Any], exhibits: Exhibits) -> None:
        import pandas as pd

        trackio = _trackio()
        shown: dict[str, Any] = {
            name: trackio.Table(dataframe=pd.DataFrame(rows, columns=columns))
            for name, (columns, rows) in exhibits.tables.items()
            if rows
        }
        figures = {f"final/{k}": v for k, v in summary.items() if isinstance(v, int | float)}
        self._run.log(figures | shown, step=self._step)
        with _quiet():
            trackio.finish()


def _trackio() -> Any:
    """Return the module, which is an extra."""
    return importlib.import_module("trackio")


def _quiet() -> contextlib.redirect_stdout[io.StringIO]:
    """Keep the client's greetings off the standard output."""
    return contextlib.redirect_stdout(io.StringIO())
