"""Exit codes of the commands, and how a study ends badly."""

EXIT_REFUSED = 2
"""What was asked for cannot be done; one line on stderr says why."""
EXIT_BUSY = 75
"""Another process runs the cell; sysexits.h calls it EX_TEMPFAIL."""


class StudyFailed(Exception):  # noqa: N818 - an outcome: the failures have been listed
    """At least one cell of a study has no result."""
