"""Which mirror a config asks for, and what a dead one costs."""

from __future__ import annotations

from harness.tracking.base import Identity, Mirror, Target, log
from harness.tracking.trackio_run import _Trackio, _trackio


def open_mirror(target: Target, identity: Identity, *, go_on: bool = False) -> Mirror:
    """Open a run with the real client.

    Parameters
    ----------
    target, identity
        Where, and as what.
    go_on
        The run may be there already, and is continued.

    Raises
    ------
    ImportError
        The backend is not installed.
    """
    if target.backend == "trackio":
        return _Trackio(target, identity)
    from harness.tracking.wandb_run import WandbMirror

    return WandbMirror(target, identity, go_on=go_on)


def settled(target: Target) -> Target:
    """Return the target with its account, offline if nobody is logged in; says so.

    Raises
    ------
    MirrorError
        The server refuses the key, or does not answer.
    """
    if target.backend != "wandb" or not target.online:
        return target
    from harness.tracking import wandb_run as mirror_wandb

    settled = mirror_wandb.settled(target)
    if not settled.online:
        log.warning(
            "tracker mode=online, but nobody is logged in: staying offline (run: wandb login)"
        )
    return settled


def forget(target: Target, identity: Identity) -> None:
    """Delete what an earlier attempt left there, so that the next one is not a second run."""
    if target.backend == "wandb":
        from harness.tracking import wandb_run as mirror_wandb

        mirror_wandb.delete(target, identity)
        return
    storage = _trackio().SQLiteStorage
    if identity.name in storage.get_runs(target.project):
        storage.delete_run(target.project, identity.name)
