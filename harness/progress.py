"""How far a cell is: lines in its log, and a bar where somebody watches a terminal."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

log = logging.getLogger(__name__)


def wants_bar() -> bool:
    """Tell whether somebody is watching a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it: ``12 s``, ``3.5 min``, ``40.2 h``."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


class Progress:
    """Shows loss, tokens per second and time left."""

    def __init__(self, arm: str, n_steps: int, done: int) -> None:
        self.n_steps, self.first = n_steps, done
        self.start = time.perf_counter()
        self.bar: Any = None
        if wants_bar():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self.bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[text]}", markup=False),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self.task = self.bar.add_task(arm, total=n_steps, completed=done, text="")
            self.bar.start()

    def update(self, metrics: dict[str, Any]) -> None:
        """Show the metrics of a logged step."""
        text = f"loss {_number(metrics['train_loss'])}"
        if "val_loss" in metrics:
            text += f"  val {_number(metrics['val_loss'])}"
        text += f"  {metrics['tokens_per_second']:,.0f} tok/s"
        if self.bar is not None:
            self.bar.update(self.task, completed=metrics["step"], text=text)
        elapsed = time.perf_counter() - self.start
        left = elapsed / (metrics["step"] - self.first) * (self.n_steps - metrics["step"])
        minutes, seconds = divmod(round(left), 60)
        log.info(
            "step %d/%d  %s  %d:%02d left", metrics["step"], self.n_steps, text, minutes, seconds
        )

    def close(self) -> None:
        """Give the terminal back."""
        if self.bar is not None:
            self.bar.stop()


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"
