"""Pull the plug again and again, then compare with a study that nobody disturbed.

    python benchmarks/chaos.py [--kills 25] [--seed 0]

Kills random cells, the launcher, or all of it with SIGKILL; stops it with SIGTERM; and lets the
disk fill up (a small tmpfs, where the machine allows mounting one). Every record, weight hash and
test loss must end up as in the undisturbed run.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from harness.records import read_record

STUDY = [
    "+study=demo",
    "study.arms=[baseline,qkv_bias,no_dropout]",
    "study.seeds=2",
    "model.n_layer=1",
    "model.n_embd=32",
    "model.n_head=2",
    "train.tokens=204800",
    "checkpoint.every_steps=10",
    "eval.test_sequences=64",
    "hardware=cpu",
]


def launch(runs: Path, data: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "harness", *STUDY, f"runs_dir={runs}", f"data_dir={data}"]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)


def processes_of(runs: Path, launcher: int) -> list[int]:
    """Return the study's processes other than the launcher: cells and what they fork from."""
    listing = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True)
    parents = dict(map(int, line.split()) for line in listing.stdout.splitlines()[1:])
    found, frontier = [], [launcher]
    while frontier:
        frontier = [pid for pid, parent in parents.items() if parent in frontier]
        found += frontier
    return found


def disturb(runs: Path, launcher: subprocess.Popen[bytes], dice: random.Random) -> str:
    """Hurt the running study in one way; return which."""
    children = processes_of(runs, launcher.pid)
    way = dice.choice(["a cell", "everything", "the launcher", "SIGTERM"])
    if way == "a cell" and children:
        os.kill(dice.choice(children), signal.SIGKILL)
    elif way == "everything":
        for pid in [*children, launcher.pid]:
            os.kill(pid, signal.SIGKILL)
    elif way == "the launcher":
        launcher.kill()
    else:
        launcher.terminate()
    return way


def outcome(runs: Path) -> dict[str, tuple[object, ...]]:
    """Return what must not differ: status, losses, all hashes, and the test losses themselves."""
    found = {}
    for path in sorted(runs.rglob("record.json")):
        r = read_record(path)
        losses = np.load(path.parent / "test_losses.npy").tobytes()
        found[r.cell] = (r.status, r.step, r.tokens, r.losses, r.fingerprints, losses)
    return found


def fill_disk(base: Path, data: Path) -> str:
    """Run the study on a tmpfs that is too small, then give it room and run it again."""
    small = base / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        return "skipped: this machine does not allow mounting a tmpfs"
    try:
        first = launch(small, data).wait(600)
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        second = launch(small, data).wait(600)
        same = outcome(small) == outcome(base / "calm")
        return f"exit {first} on the full disk, then {second}; identical afterwards: {same}"
    finally:
        subprocess.run(["umount", str(small)], check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    dice = random.Random(arguments.seed)
    base = Path(tempfile.mkdtemp(prefix="chaos-"))
    data, runs, kills = base / "data", base / "runs", 0
    if launch(base / "calm", data).wait(900):
        sys.exit("error: the undisturbed study failed")
    while kills < arguments.kills:
        launcher = launch(runs, data)
        time.sleep(dice.uniform(2.0, 8.0))
        if launcher.poll() is not None:  # it finished in peace: forget it and begin again
            subprocess.run(["rm", "-rf", str(runs)], check=True)
            continue
        way = disturb(runs, launcher, dice)
        kills += 1
        print(f"{kills:3} killed {way}", flush=True)
        if way != "a cell":
            launcher.wait()
        else:
            time.sleep(1.0)
            launcher.kill()
            launcher.wait()
    code = launch(runs, data).wait(900)
    same = outcome(runs) == outcome(base / "calm")
    print(f"{kills} disturbances (seed {arguments.seed}), {len(outcome(runs))} cells, exit {code}")
    print(f"identical to the undisturbed study: {same}")
    print(f"full disk: {fill_disk(base, data)}")
    sys.exit(not same)


if __name__ == "__main__":
    main()
