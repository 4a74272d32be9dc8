"""Exit codes of a cell and of a study, and what counts as one request to stop."""

from __future__ import annotations

import sys

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
    """Name the command that goes on: to overwrite again would delete what is finished."""
    overwrites = any(word.lstrip("+").startswith("overwrite=") for word in sys.argv[1:])
    return "the same command" + ", without overwrite=true," * overwrites
