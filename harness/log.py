"""What a cell says goes to stderr and into its ``log.txt``."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.records import LOG_FILE


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        prefix = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        return prefix + super().format(record)


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
