"""Exit codes of the commands."""

EXIT_REFUSED = 2
"""What was asked for cannot be done; one line on stderr says why."""
EXIT_BUSY = 75
"""Another process runs the cell; sysexits.h calls it EX_TEMPFAIL."""
