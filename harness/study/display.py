"""What a person sees while a study runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.cell.console import duration, say, wants_bar
from harness.records import RecordError
from harness.study.states import cell_states, table

_REFRESH_SECONDS = 1.0


class Screen:
    """Use as a context; `say` and `done` print lines, `refresh` brings the table up to date."""

    def __init__(self, study: Path, n_cells: int, n_slots: int) -> None:
        self.study, self.n_cells = study, n_cells
        self.n_done, self.start, self.shown = 0, time.perf_counter(), 0.0
        self.live: Any = None
        self.first = f"{n_cells} cells to train, {min(n_slots, n_cells)} at a time; {study}"

    def __enter__(self) -> Screen:
        if wants_bar():
            from rich.console import Console
            from rich.live import Live

            self.live = Live(console=Console(stderr=True), auto_refresh=False)
            self.live.start()
        self.say(self.first)
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.refresh(now=True)
            with suppress(OSError):
                self.live.stop()

    def refresh(self, *, now: bool = False) -> None:
        """Redraw the table, at most once a second; what cannot be shown stops nothing."""
        if self.live is None:
            return
        if now or time.perf_counter() - self.shown >= _REFRESH_SECONDS:
            self.shown = time.perf_counter()
            width = self.live.console.width
            with suppress(RecordError, OSError):
                shown = table(cell_states(self.study), self._title(), width)
                self.live.update(shown, refresh=True)

    def done(self, text: str) -> None:
        """Count a cell that ended, and say how."""
        self.n_done += 1
        self.say(f"[{self.n_done}/{self.n_cells}] {text}  ({self._left()} left)")

    def say(self, text: str) -> None:
        """Print a line; on a terminal, above the table."""
        if self.live is not None:
            from rich.text import Text

            with suppress(OSError):  # the terminal was closed
                self.live.console.print(Text(text))
        else:
            say(text)

    def _title(self) -> str:
        return f"{self.study}  {self.n_done}/{self.n_cells} done, {self._left()} left"

    def _left(self) -> str:
        if not self.n_done:
            return "?"
        seconds = (time.perf_counter() - self.start) / self.n_done * (self.n_cells - self.n_done)
        return duration(seconds)
