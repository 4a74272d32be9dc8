"""Runs in Weights & Biases or trackio, behind one small interface.

Everything that is sent comes from the local files, live by `harness.tracking` or afterwards by
`harness.sync`; a mirror has no figure of its own.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from harness.records import RunRecord

log = logging.getLogger(__name__)

PROJECT = "llm-interventions"
"""The default one."""

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
    patience_seconds: float = 30.0
    """How long a run may take to send what is left once it has ended."""

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


class MirrorError(RuntimeError):
    """What went wrong between a mirror and its server."""


class Mirror(Protocol):
    """One open run."""

    url: str | None
    """Where to look at it, if it has an address."""

    def log(self, metrics: dict[str, Any]) -> None:
        """Send one logged step; ``metrics["step"]`` is its number."""

    def finish(self, summary: dict[str, Any], exhibits: Exhibits) -> None:
        """Send what remains, and close the run; raises unless all of it has arrived."""


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


def one_line(error: Exception, limit: int = 200) -> str:
    """Return an error's words on one line: clients' messages may span many."""
    text = " ".join(str(error).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
