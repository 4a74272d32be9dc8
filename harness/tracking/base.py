"""Runs in Weights & Biases or trackio, behind one small interface.

Everything that is sent comes from the local files, live by `harness.tracking.live` or afterwards
by `harness.sync`; a mirror has no figure of its own.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

PROJECT = "llm-interventions"
"""W&B's default one."""

Table = tuple[list[str], list[list[Any]]]
"""Columns and rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to mirror to."""

    backend: str
    """``wandb`` or ``trackio``."""
    project: str
    entity: str | None = None
    online: bool = False
    tags: tuple[str, ...] = ()
    patience_seconds: float = 30.0
    """How long a run may take to send what is left once it has ended."""

    @property
    def key(self) -> str:
        """Names the place in the list of what has been sent."""
        where = "online" if self.online else "offline"
        return f"{self.backend}:{where}:{self.entity or ''}/{self.project}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a run is called there, the same whenever and however it is mirrored."""

    group: str
    """The study."""
    job_type: str
    """The arm."""
    name: str
    id: str
    tags: list[str]
    config: dict[str, Any]
    folder: Path
    """What is shown: a cell, or a study. wandb keeps its files there, too."""
    content: str
    """Tells one training, or one report, from another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What a run shows beside its metrics, sent last; all but the summary may be empty."""

    summary: dict[str, Any]
    tables: dict[str, Table] = field(default_factory=dict)
    pictures: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    whole: bool = True
    """False: some metrics were left out, so that the run has to be sent again."""


def default_project(backend: str, study: str) -> str:
    """Return the project of whoever names none: trackio tells runs apart by their names alone."""
    return study if backend == "trackio" else PROJECT


class MirrorError(RuntimeError):
    """What went wrong between a mirror and its server."""


class Mirror(Protocol):
    """One open run."""

    url: str | None
    """Where to look at it, if it has an address."""

    def log(self, metrics: dict[str, Any]) -> None:
        """Send one logged step; ``metrics["step"]`` is its number."""

    def finish(self, ending: Ending) -> None:
        """Send what remains, and close the run; raises unless all of it has arrived."""


def one_line(error: Exception) -> str:
    """Return an error's words on one line of 200 characters: clients' messages may span many."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:199] + "…"


def upload_command(study: Path) -> str | None:
    """Return the command that uploads a study's offline W&B runs; None: there are none."""
    places = ("*/*/wandb/offline-run-*", "wandb/offline-run-*")
    there = [f"{shlex.quote(str(study))}/{place}" for place in places if any(study.glob(place))]
    return f"wandb sync {' '.join(there)}" if there else None
