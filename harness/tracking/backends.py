"""The tracker that a target names; its client is imported when it is needed."""

from __future__ import annotations

from harness.config import Backend, WandbMode
from harness.extras import require
from harness.tracking.base import Identity, Mirror, Target


def open_mirror(target: Target, identity: Identity, *, go_on: bool = False) -> Mirror:
    """Open a run; with `go_on` it may be there already, and is continued."""
    if target.backend == "trackio":
        from harness.tracking.trackio_run import TrackioMirror

        return TrackioMirror(target, identity, go_on=go_on)
    from harness.tracking.wandb_run import WandbMirror

    return WandbMirror(target, identity, go_on=go_on)


def foreseen(backend: Backend, mode: WandbMode) -> str:
    """Return what every cell would log of its tracker, empty for nothing; asks no server.

    `ConfigError` where the tracker's client is not installed.
    """
    if backend is Backend.none:
        return ""
    require(backend.value, f"tracking={backend.value}", "leave it out: runs/ holds everything")
    if backend is Backend.trackio or mode is WandbMode.offline:
        return ""
    from harness.tracking.wandb_run import LOGGED_OUT, is_logged_in

    return "" if is_logged_in() else LOGGED_OUT


def settled(target: Target) -> Target:
    """Return the target with its account, offline if nobody is logged in; says so.

    Raises `MirrorError` if the server refuses the key, or does not answer.
    """
    if target.backend != "wandb" or not target.online:
        return target
    from harness.tracking.wandb_run import logged_in

    return logged_in(target)


def forget(target: Target, identity: Identity) -> None:
    """Delete what an earlier attempt left there, so that the next one is not a second run."""
    if target.backend == "trackio":
        from harness.tracking.trackio_run import delete
    else:
        from harness.tracking.wandb_run import delete
    delete(target, identity)
