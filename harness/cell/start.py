"""Start a frozen cell, on one device in this process or on several through torchrun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from harness.engine.machine import under_torchrun
from harness.records.cell import Cell
from harness.records.secrets import masked

UNCHECKED = "--unchecked"
"""Train a cell that another version froze, as its second run by the analysis may be."""
TRACKED = "--tracked"
"""Send to the tracker that the folder's config names."""


def one_of_several() -> bool:
    """Tell whether torchrun started this process, to train a cell together with others."""
    return under_torchrun() and int(os.environ.get("WORLD_SIZE", "1")) > 1


def start_cell(folder: Path, n_devices: int, *, checked: bool = True, tracked: bool = True) -> int:
    """Train the frozen cell on so many devices of this machine; return its exit code."""
    sys.argv[:] = masked(sys.argv)  # W&B's client writes them down
    if n_devices > 1 and not one_of_several():
        options = [*([] if checked else [UNCHECKED]), *([TRACKED] if tracked else [])]
        return _torchrun(folder, n_devices, options)
    from harness.cell.train import train_cell  # imports torch

    return train_cell(folder, checked=checked, tracked=tracked)


def _torchrun(folder: Path, n_devices: int, options: list[str]) -> int:
    """Run the cell in a process for each device, again while it halves its micro-batch to fit."""
    launcher = ["torch.distributed.run", "--standalone", f"--nproc_per_node={n_devices}"]
    command = [sys.executable, "-m", *launcher, "-m", "harness.cell", str(folder)]
    config_file = Cell(folder).config_file
    while True:
        before = config_file.read_bytes()
        code = _wait_for(subprocess.Popen([*command, *options]))
        if config_file.read_bytes() == before:
            return code


def _wait_for(process: subprocess.Popen[bytes]) -> int:
    """Wait while the cell trains, or saves its state because this process was asked to stop."""
    if threading.current_thread() is threading.main_thread():  # only there can signals be handled
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        return process.wait()
    except KeyboardInterrupt:  # the terminal told the cell as well
        process.wait()
        raise
