"""What went wrong in a cell, in one line, with the line of one's own code to fix."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable
from pathlib import Path

from harness.cell.sources import kept_files, origin, parse
from harness.engine.memory import out_of_memory


def failure(error: BaseException, folder: Path) -> str:
    """Return what went wrong in a cell and, if its own code raised it, which line to fix."""
    while error.__cause__ is not None and _raised_in(error).startswith("hydra."):
        error = error.__cause__  # what went wrong in a target
    text, line = f"{type(error).__name__}: {error}", _own_line(error, folder)
    return f"{text}; fix {line} and run it again" if line and not out_of_memory(error) else text


def _raised_in(error: BaseException) -> str:
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__")) if frames else ""


def line_to_fix(text: str) -> str:
    """Return the line of own code that a `failure` names, empty if it names none."""
    found = re.search(r"; fix (.+:\d+) and run it again$", text)
    return found[1] if found else ""


def _own_line(error: BaseException, folder: Path) -> str:
    """Return the last line of the cell's own code that an error passed, as FILE:LINE.

    Of code that was edited since it was frozen, no line: the next cell has another.
    """
    own = kept_files(folder)
    lines = [
        f"{frame.f_code.co_filename}:{number}"
        for frame, number in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__") in own
    ]
    line = lines[-1] if lines else _definition(error, own)
    return "" if line.startswith(str(folder.absolute())) else line


def _definition(error: BaseException, own: Iterable[str]) -> str:
    """Return where own code defines what was called with other arguments than it takes."""
    called = re.match(r"(\w+)[\w.]*\(\) (takes|missing|got) ", str(error))
    if called is None or not isinstance(error, TypeError):
        return ""
    for module in own:
        if file := origin(module):
            for node in parse(file, module).body:
                if getattr(node, "name", "") == called[1]:
                    return f"{file}:{node.lineno}"
    return ""
