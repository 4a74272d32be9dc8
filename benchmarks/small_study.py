"""A small study, its launchers, and what it must come to however it was disturbed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.cell.lock import LOCK_FILE
from harness.records import read_record
from harness.records.reading import read_json_lines

STUDY = [
    "+study=demo",
    "study.arms=[baseline,qkv_bias,no_dropout]",
    "study.seeds=2",
    "model.n_layer=1",
    "model.n_embd=32",
    "model.n_head=2",
    "train.tokens=204800",
    "checkpoint.every_steps=10",
    "eval.test_sequences=256",
    "hardware=cpu",
]


@dataclass(slots=True)
class Run:
    """A launcher and the folder it works in."""

    runs: Path
    process: subprocess.Popen[bytes]

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def cells(self) -> list[int]:
        """Return the processes below the launcher, cells and what they fork from."""
        command = ["ps", "-eo", "pid,ppid"]
        listing = subprocess.run(command, capture_output=True, text=True, check=True)
        parents = dict(map(int, line.split()) for line in listing.stdout.splitlines()[1:])
        found: list[int] = []
        frontier = [self.process.pid]
        while frontier:
            frontier = [pid for pid, parent in parents.items() if parent in frontier]
            found += frontier
        return found


def launch(runs: Path, data: Path) -> Run:
    command = [sys.executable, "-m", "harness", *STUDY, f"runs_dir={runs}", f"data_dir={data}"]
    return Run(runs, subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True))


Outcome = dict[str, tuple[object, ...]]
TIMING = ("train_seconds", "tokens_per_second")


def outcome(runs: Path) -> Outcome:
    """Return what must not differ: status, losses, hashes, every logged step, the test losses."""
    found = {}
    for path in sorted(runs.rglob("record.json")):
        r, folder = read_record(path), path.parent
        rows = read_json_lines(folder / "metrics.jsonl")
        steps = [{k: v for k, v in row.items() if k not in TIMING} for row in rows]
        contents = [(folder / name).read_bytes() for name in ("test_losses.npy", "samples.jsonl")]
        found[r.cell] = (r.status, r.step, r.tokens, r.losses, r.fingerprints, steps, *contents)
    return found


def left_behind(runs: Path) -> list[str]:
    """Return what a finished study must not leave: locks, checkpoints, its own processes."""
    found = [str(path.relative_to(runs)) for path in runs.rglob(LOCK_FILE)]
    found += [str(path.relative_to(runs)) for path in runs.rglob("checkpoints")]
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return found + [line for line in listing.stdout.splitlines() if f"runs_dir={runs}" in line]
