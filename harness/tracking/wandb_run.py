"""One run in Weights & Biases, by the real client."""

from __future__ import annotations

import importlib
import logging
import os
import shutil
from contextlib import suppress
from dataclasses import replace
from typing import Any

from harness.tracking.base import Ending, Identity, MirrorError, Target

log = logging.getLogger(__name__)

API_SECONDS = 15
INIT_SECONDS = 20
LOGGED_OUT = "tracking.mode=online, but nobody is logged in: staying offline (run: wandb login)"
ARM = "JobType"
"""W&B's name for what we set to the arm."""
WORKSPACE = "Studies: noise band, curves by arm, cost"


class WandbMirror:
    """An open run; offline it is a folder that ``wandb sync`` uploads."""

    def __init__(self, target: Target, identity: Identity, *, go_on: bool) -> None:
        wandb = _client()
        resume = "allow" if go_on else "never"
        self._run = wandb.init(
            project=target.project,
            entity=target.entity,
            group=identity.group,
            job_type=identity.job_type,
            name=identity.name,
            id=identity.id,
            resume=resume if target.online else None,
            tags=list(dict.fromkeys(tag[:64] for tag in identity.tags if tag)),
            config=identity.config,
            dir=str(identity.folder),
            mode="online" if target.online else "offline",
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,  # the record's provenance says it, whole
                init_timeout=INIT_SECONDS,
                finish_timeout=target.patience_seconds,
                finish_timeout_raises=True,
            ),
        )
        self._online = target.online
        self.url: str | None = self._run.url
        self._run.define_metric("tokens")
        self._run.define_metric("*", step_metric="tokens")

    def log(self, metrics: dict[str, Any]) -> None:
        """Send one logged step."""
        self._run.log(dict(metrics), step=metrics["step"])

    def finish(self, ending: Ending) -> None:
        """Send what remains, close the run, and ask the server whether it has all of it."""
        wandb = _client()
        shown: dict[str, Any] = {
            name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])
            for name, (columns, rows) in ending.tables.items()
        }
        shown |= {picture.stem: wandb.Image(str(picture)) for picture in ending.pictures}
        if shown:
            self._run.log(shown)
        if ending.files:
            artifact = wandb.Artifact(f"{self._run.group}-report", type="report")
            for file in ending.files:
                artifact.add_file(str(file))
            logged = self._run.log_artifact(artifact)
            if self._online:
                logged.wait(API_SECONDS)  # raises what went wrong; finish() would not
        self._run.summary.update(ending.summary)
        self._run.finish()
        if self._online:
            self._check_arrival()

    def _check_arrival(self) -> None:
        """Ask the server: the client gives up some uploads without an error."""
        path = f"{self._run.entity}/{self._run.project}/{self._run.id}"
        state = _client().Api(timeout=API_SECONDS).run(path).state
        if state != "finished":
            raise MirrorError(f"the server has this run as {state}, not finished")


def is_logged_in() -> bool:
    """Tell whether this machine has a key of W&B's, right or wrong."""
    return bool(_client().login(prompt=False, verify=False))


def logged_in(target: Target) -> Target:
    """Return the target with the account that it goes to; offline if nobody is logged in."""
    if not is_logged_in():
        log.warning(LOGGED_OUT)
        return replace(target, online=False)
    try:
        entity = target.entity or _client().Api(timeout=API_SECONDS).default_entity
        return replace(target, entity=entity)
    except Exception as error:  # the key is refused, or nobody answers
        raise MirrorError(f"{type(error).__name__}: {error}") from error


def delete(target: Target, identity: Identity) -> None:
    """Delete a run, if it is there."""
    for left in identity.folder.glob(f"wandb/offline-run-*-{identity.id}"):
        shutil.rmtree(left)
    if not target.online:
        return
    api = _client().Api(timeout=API_SECONDS)
    with suppress(ValueError):  # it never got there
        api.run(f"{target.entity}/{target.project}/{identity.id}").delete(delete_artifacts=True)


def _client() -> Any:
    """Return the module, with its greetings and its reports about us turned off."""
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb


def save_workspace(target: Target) -> str:
    """Save the workspace to the project and return its address."""
    if target.backend != "wandb" or not target.online:
        raise ValueError("a workspace is saved on W&B's server: add --online, after `wandb login`")
    if not target.entity:
        raise ValueError("a workspace belongs to somebody: name them with --entity")
    made = workspace(target)
    made.save()
    address: str = made.url
    return address


def workspace(target: Target) -> Any:
    """Return the workspace's definition, which needs no network."""
    ws = importlib.import_module("wandb_workspaces.workspaces")
    sections = [
        ws.Section(name=name, panels=panels, is_open=True) for name, panels in _panels().items()
    ]
    return ws.Workspace(
        entity=target.entity, project=target.project, name=WORKSPACE, sections=sections
    )


def _panels() -> dict[str, list[Any]]:
    """Return section -> its panels."""
    wr = importlib.import_module("wandb_workspaces.reports.v2")
    loss = wr.SummaryMetric("test_loss")
    by_arm = {"groupby": ARM, "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
    curves = {
        "val_loss": "Validation loss by arm, lowest to highest seed",
        "train_loss": "Training loss by arm, lowest to highest seed",
        "grad_norm": "Gradient norm by arm",
    }
    runs = wr.ScatterPlot(title="Test loss of every run", x=wr.Config("seeds.init"), y=loss)
    seconds = wr.SummaryMetric("cost/train_seconds")
    return {
        "Noise band": [runs, wr.BarPlot(title="Test loss by arm", metrics=[loss], **by_arm)],
        "Curves by arm": [
            wr.LinePlot(title=title, x="tokens", y=[metric], **by_arm)
            for metric, title in curves.items()
        ],
        "Cost": [wr.ScatterPlot(title="Test loss against seconds", x=seconds, y=loss)],
        "Report": [wr.MediaBrowser(media_keys=["noise_band", "effects", "verdicts"])],
    }
