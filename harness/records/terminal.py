"""The ways out to a terminal or a file: any encoding, closed, full, or nobody reading."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from harness.records.files import printable


class Parser(argparse.ArgumentParser):
    """Every command's: says what is wrong with a command line in one line."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # of every option whose type is `Path`, and of every one that has none
        self.register("type", Path, lambda given: Path(source(given)))
        self.register("type", None, text)

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        line = printable(" ".join(message.split("\n")))
        self.exit(2, f"error: {line}; see: {self.prog} --help\n")


def source(given: str) -> str:
    """Return an option's text that may be a path: of any bytes, but not empty."""
    if not given:  # Path("") would be the current folder, which nobody named
        raise argparse.ArgumentTypeError("empty: give a value")
    return given


def text(given: str) -> str:
    """Return an option's text that is a name, or words: neither empty nor other bytes."""
    if any("\ud800" <= c <= "\udfff" for c in given):
        raise argparse.ArgumentTypeError(f"{given!r} is not UTF-8")
    return source(given)


def complain(error: object) -> None:
    """Say in a line on stderr what was refused, or what went wrong."""
    print(f"error: {printable(str(error))}", file=sys.stderr)


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

    So is a file that cannot be opened. It stands on every command's `main`, also as a decorator.
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
        if error.filename is not None:
            complain(f"{error.filename}: {error.strerror}")
            sys.exit(1 if error.errno == errno.ENOSPC else 2)
        if error.errno == errno.ENOENT:  # of os.getcwd, which names no file
            complain("the current folder was deleted: change to one that exists")
            sys.exit(2)
        if error.errno != errno.ENOSPC:
            raise
        _discard_output()
        complain(f"cannot print: {error.strerror}")
        sys.exit(1)


def _discard_output() -> None:
    """Send what is flushed at the end into nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
