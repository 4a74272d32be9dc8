"""The ways out to a terminal or a file: any encoding, closed, full, or nobody reading."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def open_streams() -> None:
    """Give a process that was started without stdin, stdout or stderr an empty one.

    Else the next file to be opened would take the place, and receive what is said. What a stream's
    encoding cannot show is replaced.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


@contextmanager
def printing() -> Iterator[None]:
    """Let a command print: a reader that has seen enough is no error, a full disk is one line.

    It stands on every command's `main`, also as a decorator.
    """
    open_streams()
    try:
        try:
            yield
        finally:  # else Python does it after the last line that can say why
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head
        _discard_output()
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        _discard_output()
        print(f"error: cannot print: {error.strerror}", file=sys.stderr)
        sys.exit(1)


def _discard_output() -> None:
    """Send what is flushed at the end into nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
