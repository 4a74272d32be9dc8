"""Pull the plug again and again, then compare with a study that nobody disturbed.

    python -m benchmarks.chaos [--kills 40] [--races 12] [--seed 0] [--write]

Each disturbance waits for a moment (launching, rehearsing, writing a checkpoint, a record, the
test losses, taking over a dead cell, ...) and then kills: a cell, the launcher, everything, by
SIGKILL, SIGTERM, Ctrl-C or a closed terminal. Last, the disk fills up under a running study (a
tmpfs, where the machine allows mounting one). Every record, weight hash and test loss must end up
as in the undisturbed run. Then processes race for a study, a cell, a folder of results or a corpus
(`benchmarks.races`), and no cell may be run by two of them at once.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.races import RACES, Raced, race
from benchmarks.report import machine, table, write_section
from benchmarks.small_study import Outcome, Run, launch, left_behind, outcome
from harness.cell.lock import LOCK_FILE
from harness.records import read_record

PAGE = Path(__file__).parent.parent / "docs" / "chaos.md"
PATIENCE_SECONDS = 30.0
"""So long a moment is waited for; then the blow falls anyway."""


def files(pattern: str) -> Callable[[Run, float], bool]:
    """Return a moment: a file like this was made, or renewed, after the launcher started."""

    def there(run: Run, start: float) -> bool:
        try:
            return any(path.stat().st_mtime > start for path in run.runs.glob(pattern))
        except FileNotFoundError:
            return True  # it came and went

    return there


MOMENTS: dict[str, Callable[[Run, float], bool]] = {
    "at once": lambda run, start: True,
    "while the launcher composes": lambda run, start: time.time() > start + 0.7,
    "plan just written": lambda run, start: (run.runs / "demo" / "plan.json").exists(),
    "imports, rehearsals": files("demo/*/*/log.txt"),
    "lock just taken": files(f"demo/*/*/{LOCK_FILE}"),
    "record half written": files("demo/*/*/.record.json.*"),
    "checkpoint half written": files("demo/*/*/checkpoints/*.partial"),
    "checkpoint just written": files("demo/*/*/checkpoints/*.pt"),
    "metrics just written": files("demo/*/*/metrics.jsonl"),
    "test losses half written": files("demo/*/*/.test_losses.npy.*"),
    "test losses just written": files("demo/*/*/test_losses.npy"),
    "somewhere": lambda run, start: time.time() > start + random.uniform(3, 15),
}


def kill_everything(run: Run) -> None:
    for pid in [*run.cells(), run.process.pid]:
        _kill(pid, signal.SIGKILL)


def kill_a_cell(run: Run) -> None:
    cells = [pid for pid in run.cells() if _is_cell(pid)]
    for pid in cells[:1]:
        _kill(pid, signal.SIGKILL)


def stop_and_kill(run: Run) -> None:
    """Ask, and lose patience while the cells save their state."""
    run.process.terminate()
    time.sleep(0.05)
    kill_everything(run)


BLOWS: dict[str, Callable[[Run], None]] = {
    "SIGKILL of launcher and cells": kill_everything,
    "SIGKILL of the launcher": lambda run: run.process.kill(),
    "SIGKILL of a cell": kill_a_cell,
    "Ctrl-C": lambda run: run.process.send_signal(signal.SIGINT),
    "SIGTERM": lambda run: run.process.terminate(),
    "closed terminal": lambda run: run.process.send_signal(signal.SIGHUP),
    "SIGTERM, then SIGKILL of all": stop_and_kill,
}


def _is_cell(pid: int) -> bool:
    try:
        output = Path(f"/proc/{pid}/fd/1").readlink()
    except OSError:
        return False
    return output.name.startswith("log.")


def _kill(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


@dataclass(slots=True)
class Chaos:
    """Disturb a study until it has had enough; whenever it is complete, look and begin anew."""

    base: Path
    calm: Outcome
    told: list[tuple[str, str]] = field(default_factory=list)
    """Moment and blow of every disturbance."""
    n_studies: int = 0
    differing: list[str] = field(default_factory=list)

    def disturb(self, moment: str, blow: str) -> None:
        """Start or go on with the study, and hurt it once at the moment."""
        runs, start = self.base / "runs", time.time()
        run = launch(runs, self.base / "data")
        while not run.over and not MOMENTS[moment](run, start):
            if time.time() > start + PATIENCE_SECONDS:
                moment = "somewhere"
            time.sleep(0.002)
        if not run.over:
            BLOWS[blow](run)
            self.told.append((moment, blow))
            print(f"{len(self.told):3} {moment}: {blow}", flush=True)
        if blow == "SIGKILL of a cell" and len(self.told) % 2:
            time.sleep(2)  # while the launcher tries it once more
            kill_everything(run)
        # the next launcher may come while cells of this one still save their state
        if run.process.wait() == 0:
            self.look(runs)

    def look(self, runs: Path) -> None:
        """Compare a study that is complete with the undisturbed one, and delete it."""
        self.n_studies += 1
        found = outcome(runs)
        self.differing += [cell for cell in self.calm if found.get(cell) != self.calm[cell]]
        self.differing += left_behind(runs)
        shutil.rmtree(runs)


def fill_disk(base: Path) -> str:
    """Fill the disk under a running study, then give it room and run it again."""
    small, data = base / "small", base / "data"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        return "not tried: this machine does not allow mounting a tmpfs"
    try:
        run, start = launch(small, data), time.time()
        while not run.over and not files("demo/*/*/checkpoints/*.pt")(run, start):
            time.sleep(0.01)
        with suppress(OSError), (small / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(b"\0" * 65536)
        first = run.process.wait(600)
        failed = sum(read_record(p).status != "complete" for p in small.rglob("record.json"))
        (small / "filler").unlink()
        second = launch(small, data).process.wait(600)
        same = outcome(small) == outcome(base / "calm")
        return (
            f"filled under a running study: exit {first}, {failed} cells without result; with room "
            f"again: exit {second}, identical: **{same}**"
        )
    finally:
        subprocess.run(["umount", str(small)], check=False)


def plan(n: int, dice: random.Random) -> list[tuple[str, str]]:
    """Return so many disturbances: every moment and every blow about equally often."""
    columns = [
        [name for _ in range(n) for name in dice.sample(list(names), len(names))]
        for names in (MOMENTS, BLOWS)
    ]
    return list(zip(*columns, strict=False))[:n]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--races", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="into docs/chaos.md")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what is ignored here would be
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored in the studies, too
    random.seed(options.seed)
    base, begin = Path(tempfile.mkdtemp(prefix="chaos-")), time.perf_counter()
    if launch(base / "calm", base / "data").process.wait():
        sys.exit("error: the undisturbed study failed")
    chaos = Chaos(base, outcome(base / "calm"))
    for moment, blow in plan(2 * options.kills, random.Random(options.seed)):
        if len(chaos.told) < options.kills:
            chaos.disturb(moment, blow)
    if (base / "runs").exists():
        code = launch(base / "runs", base / "data").process.wait()
        chaos.differing += [f"the last start, with exit {code}"] if code else []
        chaos.look(base / "runs")
    disk = fill_disk(base)
    seconds, dice = time.perf_counter() - begin, random.Random(options.seed)
    kinds = itertools.islice(itertools.cycle(RACES), options.races)
    raced = [said(race(kind, base, chaos.calm, dice)) for kind in kinds]
    text = report(chaos, options, disk, seconds) + told(raced)
    print(text)
    if options.write:
        write_section("chaos", text, PAGE)
    shutil.rmtree(base)
    wrong = any(one.wrong for one in raced)
    sys.exit(bool(chaos.differing) or "False" in disk or wrong)


def said(raced: Raced) -> Raced:
    """Print how a race ended."""
    print(f"race of {raced.n_processes}: {raced.kind}: {raced.wrong or 'right'}", flush=True)
    return raced


def told(raced: list[Raced]) -> str:
    """Return the races as Markdown; nothing if there were none."""
    if not raced:
        return ""
    by_kind = {kind: [one for one in raced if one.kind == kind] for kind in RACES}
    rows = [
        {
            "race": kind,
            "races": str(len(ones)),
            "processes": str(sum(one.n_processes for one in ones)),
            "wrong": str(sum(bool(one.wrong) for one in ones)),
        }
        for kind, ones in by_kind.items()
        if ones
    ]
    wrong = [what for one in raced for what in one.wrong]
    return (
        f"\n\n{len(raced)} races. Differing from what one process alone makes, left behind, run by "
        f"two at once, or a traceback: **{', '.join(wrong) or 'nothing'}**.\n\n{table(rows)}"
    )


def report(chaos: Chaos, options: argparse.Namespace, disk: str, seconds: float) -> str:
    """Return what happened, as Markdown."""
    counts = Counter(chaos.told)
    rows = [
        {"moment": moment} | {blow: str(counts[moment, blow] or "") for blow in BLOWS}
        for moment in MOMENTS
    ]
    totals = {blow: str(sum(counts[moment, blow] for moment in MOMENTS)) for blow in BLOWS}
    return (
        f"{len(chaos.told)} disturbances (`--seed {options.seed}`) in {seconds / 60:.0f} minutes. "
        f"{chaos.n_studies} studies of {len(chaos.calm)} cells were completed through them. "
        f"Differing from the undisturbed study, or left behind: "
        f"**{', '.join(chaos.differing) or 'nothing'}**.\n\nThe disk, {disk}.\n\n"
        f"{machine('torch')}.\n\n{table([*rows, {'moment': 'in all'} | totals])}"
    )


if __name__ == "__main__":
    main()
