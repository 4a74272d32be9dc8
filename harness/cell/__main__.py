"""Run or resume one frozen cell.

Whatever happens to a cell is in its record: complete, diverged, stopped, or failed with the
error. All randomness follows from the seeds and the step, so a resumed cell ends with the weights
of an undisturbed one.

What the folder's config names as ``_target_``, its sources and its compiler's cache are code, and
they run: train no folder of somebody whose code you would not run. Whoever only wants to look uses
python -m harness.status, python -m analysis or python -m harness.sync, which run nothing of it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from harness.cell.console import EXIT_REFUSED, say
from harness.cell.freeze import load_frozen
from harness.cell.start import TRACKED, UNCHECKED, one_of_several, start_cell
from harness.config import ConfigError
from harness.records import CONFIG_FILE
from harness.records.cell import Cell
from harness.records.reading import is_there
from harness.records.terminal import Parser, printing


@printing()
def main() -> None:
    """Run the frozen cell named on the command line."""
    parser = Parser(
        prog="python -m harness.cell",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="the cell's folder: runs/STUDY/ARM/CELL")
    parser.add_argument(UNCHECKED, action="store_true", help="train what another version froze")
    parser.add_argument(TRACKED, action="store_true", help="send to the tracker its config names")
    options = parser.parse_args()
    if not is_there(Cell(options.folder).config_file):
        say(f"error: {options.folder} holds no {CONFIG_FILE}: name a cell's folder")
        sys.exit(EXIT_REFUSED)
    try:
        n_devices = load_frozen(options.folder).hardware.n_devices
    except ConfigError as error:
        say(f"error: {error}")
        sys.exit(EXIT_REFUSED)
    checked, tracked = not options.unchecked, options.tracked
    code = start_cell(options.folder, n_devices, checked=checked, tracked=tracked)
    if code and one_of_several():  # the others may wait for this one, and cleaning up for them
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
