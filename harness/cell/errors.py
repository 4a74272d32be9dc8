"""What went wrong in a cell, in one line, with the line of one's own code to fix."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from harness.engine.memory import out_of_memory
from harness.records import RunRecord, Status
from harness.records.sources import kept_files


def enter_failure(record: RunRecord, error: BaseException, folder: Path) -> None:
    """Enter into a cell's record what went wrong and, if its own code raised it, the line to fix.

    Code that was edited since the cell was frozen has no line to fix: the next cell has new code.
    """
    error = cause(error)
    record.status = Status.FAILED
    record.error = f"{type(error).__name__}: {error}"
    lines = [] if out_of_memory(error) else _own_lines(error, kept_files(folder))
    if lines and not lines[-1][0].is_relative_to(folder.absolute()):
        record.line_to_fix = "{}:{}".format(*lines[-1])
        record.error += f"; fix {record.line_to_fix} and run it again"


def cause(error: BaseException) -> BaseException:
    """Return what went wrong in a target, where Hydra says only that something did."""
    while error.__cause__ is not None and _raised_by_hydra(error):
        error = error.__cause__
    return error


def _raised_by_hydra(error: BaseException) -> bool:
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and str(frames[-1].f_globals.get("__name__")).startswith("hydra.")


def _own_lines(error: BaseException, own: Collection[str]) -> list[tuple[Path, int]]:
    """Return the lines of own code that an error passed, or of what was called wrongly."""
    frames = list(traceback.walk_tb(error.__traceback__))
    passed = [
        (Path(frame.f_code.co_filename), number)
        for frame, number in frames
        if frame.f_globals.get("__name__") in own
    ]
    if frames and not passed and isinstance(error, TypeError):
        return list(_called_by(frames[-1][0], own))
    return passed


def _called_by(frame: FrameType, own: Collection[str]) -> Iterator[tuple[Path, int]]:
    """Yield where own code defines what a frame may have called: its arguments did not fit."""
    for value in frame.f_locals.values():
        function: Any = value.func if isinstance(value, partial) else value
        if getattr(function, "__module__", None) in own:
            function = function.__init__ if inspect.isclass(function) else function
            code = getattr(function, "__code__", None)
            if code is not None:
                yield Path(code.co_filename), code.co_firstlineno
