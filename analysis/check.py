"""One thing that was looked at, and how it came out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from analysis.text import prose


class Level(StrEnum):
    """How a check came out, the worst first."""

    FAIL = "FAIL"
    """A figure cannot be trusted."""
    WARNING = "warning"
    """A figure holds, but not for what someone may take it for."""
    NOTE = "note"
    """Worth knowing."""
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    level: Level
    what: str
    detail: str = ""
    arms: tuple[str, ...] = ()
    """Whom it is about, where a table has a place for it."""
    mark: str = ""
    """What is said there; empty: nothing."""

    def __str__(self) -> str:
        return f"{self.what}: {self.detail}" if self.detail else self.what


def warning(what: str, arms: tuple[str, ...] = (), mark: str = "") -> Check:
    """Return a warning; `mark` stands in the table beside the `arms`."""
    return Check(Level.WARNING, what, arms=arms, mark=mark)


def bullets(checks: Iterable[Check]) -> list[str]:
    """Return one line of markdown a check, the worst first.

    Examples
    --------
    >>> bullets([Check(Level.OK, "ledger", "9 complete"), Check(Level.FAIL, "no config.yaml")])
    ['- FAIL: no config.yaml', '- ok: ledger: 9 complete']
    """
    order = list(Level)
    worst_first = sorted(checks, key=lambda check: order.index(check.level))
    return [f"- {check.level}: {prose(str(check))}" for check in worst_first]
