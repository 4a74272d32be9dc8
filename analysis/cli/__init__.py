"""The subcommands of ``python -m analysis``: one module each, with `add_arguments` and `run`.

A module's docstring is its help. `add_arguments` must be quick: what is slow to import is imported
in `run`.
"""

from __future__ import annotations

COMMANDS = (
    "table",
    "noise",
    "stack",
    "plan",
    "design",
    "sequential",
    "batch-size",
    "speed",
    "scale",
    "benchmarks",
    "judged",
    "verify",
    "plot",
    "report",
    "watch",
)
"""``table`` is the default: its name may be left out."""
