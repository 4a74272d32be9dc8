"""One run in Weights & Biases, by the real client."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import Any

from harness.mirror import Exhibits, Identity, MirrorError, Target

API_SECONDS = 15
INIT_SECONDS = 20


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

    def finish(self, summary: dict[str, Any], exhibits: Exhibits) -> None:
        """Send what remains, close the run, and ask the server whether it has all of it."""
        wandb = _client()
        shown: dict[str, Any] = {
            name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])
            for name, (columns, rows) in exhibits.tables.items()
        }
        shown |= {picture.stem: wandb.Image(str(picture)) for picture in exhibits.pictures}
        if shown:
            self._run.log(shown)
        if exhibits.files:
            artifact = wandb.Artifact(f"{self._run.group}-report", type="report")
            for file in exhibits.files:
                artifact.add_file(str(file))
            logged = self._run.log_artifact(artifact)
            if self._online:
                logged.wait(API_SECONDS)  # raises what went wrong; finish() would not
        self._run.summary.update(summary)
        self._run.finish()
        if self._online:
            self._check_arrival()

    def _check_arrival(self) -> None:
        """Ask the server: the client gives up some uploads without an error."""
        path = f"{self._run.entity}/{self._run.project}/{self._run.id}"
        state = _client().Api(timeout=API_SECONDS).run(path).state
        if state != "finished":
            raise MirrorError(f"the server has this run as {state}, not finished")


def settled(target: Target) -> Target:
    """Return the target with the account that it goes to; offline if nobody is logged in.

    Raises
    ------
    MirrorError
        The server refuses the key, or does not answer.
    """
    wandb = _client()
    if not wandb.login(prompt=False, verify=False):
        return replace(target, online=False)
    try:
        return replace(
            target, entity=target.entity or wandb.Api(timeout=API_SECONDS).default_entity
        )
    except Exception as error:
        raise MirrorError(f"{type(error).__name__}: {error}") from error


def delete(target: Target, identity: Identity) -> None:
    """Delete a run, if it is there."""
    for left in identity.folder.glob(f"wandb/offline-run-*-{identity.id}"):
        shutil.rmtree(left)
    if not target.online:
        return
    wandb = _client()
    try:
        run = wandb.Api(timeout=API_SECONDS).run(f"{target.entity}/{target.project}/{identity.id}")
    except (wandb.errors.CommError, ValueError) as error:
        if "could not find" in str(error).lower():
            return
        raise
    run.delete(delete_artifacts=True)


def _client() -> Any:
    """Return the module, with its greetings and its reports about us turned off."""
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb
