"""The console script ``llm-interventions``: the modules that ``python -m`` runs, by their names.

usage: llm-interventions MODULE [ARGUMENTS ...]

  llm-interventions harness +study=demo        as python -m harness +study=demo
  llm-interventions harness.status runs/demo   as python -m harness.status runs/demo
  llm-interventions analysis runs/demo         as python -m analysis runs/demo
  llm-interventions interventions              as python -m interventions
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from harness.cell.console import EXIT_REFUSED, say
from harness.config.messages import COMMANDS

MODULES = ("harness", "analysis", "interventions", *(f"harness.{name}" for name in COMMANDS))


def main() -> None:
    """Run the module that is named first; what is imported comes from this directory first."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(__doc__)
        return
    if name not in MODULES:
        say(f"error: {name!r} is no module of this program: {', '.join(MODULES)}")
        sys.exit(EXIT_REFUSED)
    sys.path[0] = str(Path.cwd())  # as python -m has it: a person's own modules lie there
    del sys.argv[1]
    runpy.run_module(name, run_name="__main__", alter_sys=True)
