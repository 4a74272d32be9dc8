"""What a process tells: lines on stderr and in a cell's ``log.txt``, progress, exit codes."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.records import LOG_FILE
from harness.records.files import printable

EXIT_REFUSED = 2
"""What was asked for cannot be done; one line on stderr says why."""

EXIT_BUSY = 75
"""Another process runs the cell; sysexits.h calls it EX_TEMPFAIL."""

EXIT_STOPPED = 130
"""Asked to stop, as after Ctrl-C; the state is saved."""

ONE_REQUEST_SECONDS = 2.0
"""Signals so close together are one request: a process's, its group's, its launcher's."""


class StudyFailed(Exception):  # noqa: N818 - an outcome: the failures have been listed
    """At least one cell of a study has no result."""


def same_command() -> str:
    """Name the command that goes on; with overwrite=true it would delete what is finished."""
    overwrites = any(word.lstrip("+").startswith("overwrite=") for word in sys.argv[1:])
    return "the same command" + ", without overwrite=true," * overwrites


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        prefix = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        return prefix + super().format(record)


def say(text: str) -> None:
    """Print a line on stderr; from when nobody listens any more, into nothing."""
    try:
        print(printable(text, keep="\n\t"), file=sys.stderr, flush=True)
    except OSError:  # a closed pipe or terminal
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


@contextmanager
def logging_to(folder: Path, *, bar: bool) -> Iterator[None]:
    """Send the harness's log to ``log.txt`` in `folder` and to stderr.

    Where a progress bar holds the terminal, only warnings go to stderr. Where stderr is already
    that file, as in a cell that a study started, nothing is written twice.
    """
    logger = logging.getLogger("harness")
    path = folder / LOG_FILE
    handlers: list[logging.Handler] = [logging.FileHandler(path, delay=True, encoding="utf-8")]
    if not _stderr_is(path):
        handlers.append(logging.StreamHandler())
        handlers[-1].setLevel(logging.WARNING if bar else logging.INFO)
    for handler in handlers:
        handler.setFormatter(_Plain("%(message)s"))
        logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


def _stderr_is(path: Path) -> bool:
    try:
        return path.exists() and os.path.samestat(os.fstat(sys.stderr.fileno()), path.stat())
    except (OSError, ValueError, AttributeError):  # stderr is no real file
        return False


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

    def __init__(
        self, arm: str, n_steps: int, done: int, tokens_after: Callable[[int], int]
    ) -> None:
        self.n_steps, self.first, self.tokens_after = n_steps, done, tokens_after
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
        first, now, last = map(self.tokens_after, (self.first, metrics["step"], self.n_steps))
        left = elapsed * (last - now) / (now - first)
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
