"""Run or resume one frozen cell: ``python -m harness.cell runs/STUDY/ARM/CELL``.

Whatever happens to a cell is in its record: complete, diverged, preempted, or failed with the
error. All randomness follows from the seeds and the step, so a resumed cell ends with the weights
of an undisturbed one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from harness.cell.train import report
from harness.engine.distributed import World
from harness.records import (
    CONFIG_FILE,
)

UNCHECKED = "--unchecked"
"""Train a cell that another version froze, as its second run by the analysis may be."""


def main() -> None:
    """Run the frozen cell named on the command line."""
    words, checked = [w for w in sys.argv[1:] if w != UNCHECKED], UNCHECKED not in sys.argv
    if len(words) != 1 or words[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        sys.exit(0 if words in (["-h"], ["--help"]) else 2)
    folder = Path(words[0])
    if not (folder / CONFIG_FILE).exists():
        print(f"error: {folder} holds no {CONFIG_FILE}: name a cell's folder", file=sys.stderr)
        sys.exit(2)
    code = report(folder, checked=checked)
    if code and World().size > 1:  # the others may wait for this one, and cleaning up for them
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
