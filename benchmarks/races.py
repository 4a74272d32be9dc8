"""Let processes race for one study, one cell, one folder of results or one corpus.

A race ends well if what it leaves equals what one process alone makes, file by file, if no cell
was run by two processes at once, and if nobody printed a traceback.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.small_study import STUDY, Outcome, left_behind, outcome
from harness.cell.console import EXIT_BUSY
from harness.cell.lock import LOCK_FILE
from harness.data.manifest import STAMP_FILE
from harness.records import CONFIG_FILE, LOG_FILE
from harness.records.study import Study

LIMIT_SECONDS = 600.0
TIME = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d UTC")
SOURCES = {CONFIG_FILE, "sources", "sources.json"}


@dataclass(slots=True)
class Raced:
    """One race, as it ended."""

    kind: str
    n_processes: int
    wrong: list[str]


@dataclass(slots=True)
class Field:
    """Where a race is run, and what came of it."""

    base: Path
    """Has the undisturbed study in ``calm`` and its corpus in ``data``."""
    calm: Outcome
    dice: random.Random
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    owners: dict[int, str] = field(default_factory=dict)
    """Inode of a lock -> the cell that it is of."""

    @property
    def runs(self) -> Path:
        return self.base / "race"

    @property
    def study(self) -> Path:
        return self.runs / "demo"

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start ``python -m WORDS``; what it says goes into a file."""
        said = (self.base / f"said.{len(self.started)}").open("wb")
        command = [sys.executable, "-m", *words]
        with said:
            process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
        self.started.append(process)
        return process

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the study."""
        words = [*STUDY, f"runs_dir={self.runs}", f"data_dir={self.base / 'data'}"]
        return self.start("harness", *words)

    def pause(self) -> None:
        """Wait for a fraction of a second."""
        time.sleep(self.dice.random())

    def wait(self, *processes: subprocess.Popen[bytes], allowed: tuple[int, ...] = (0,)) -> None:
        """Wait for them, looking who holds which lock."""
        end = time.monotonic() + LIMIT_SECONDS
        while any(process.poll() is None for process in processes):
            self.look_at_locks()
            if time.monotonic() > end:
                raise TimeoutError(f"{len(processes)} processes did not end")
            time.sleep(0.02)
        codes = [process.returncode for process in processes]
        self.wrong += [f"exit {code}" for code in codes if code not in allowed]

    def look_at_locks(self) -> None:
        """Note a cell whose locks, the present and a replaced one, are held by two processes."""
        for path in self.study.glob(f"*/*/*{LOCK_FILE}*"):
            try:
                self.owners[path.stat().st_ino] = path.parent.name
            except FileNotFoundError:  # it came and went
                continue
        holders: dict[str, set[str]] = {}
        for line in Path("/proc/locks").read_text().splitlines():
            _, kind, _, access, pid, place, *_ = line.split()
            cell = self.owners.get(int(place.rpartition(":")[2]))
            if kind == "FLOCK" and access == "WRITE" and cell:
                holders.setdefault(cell, set()).add(pid)
        self.wrong += [f"{cell} run twice at once" for cell, n in holders.items() if len(n) > 1]

    def take_calm(self) -> Path:
        """Put a copy of the undisturbed study into the race; return one of its cells."""
        shutil.copytree(self.base / "calm", self.runs)
        return next(iter(sorted(Study(self.study).cells())))


# --- the races


def two_launchers(field: Field) -> None:
    first = field.launch()
    field.pause()
    field.wait(first, field.launch())


def three_launchers(field: Field) -> None:
    processes = []
    for _ in range(3):
        processes.append(field.launch())
        field.pause()
    field.wait(*processes)


def cell_beside_launcher(field: Field) -> None:
    launcher = field.launch()
    while not (cells := list(field.study.glob(f"*/*/{LOG_FILE}"))) and launcher.poll() is None:
        time.sleep(0.01)
    field.pause()
    cell = field.start("harness.cell", str(field.dice.choice(cells).parent))
    field.wait(cell, allowed=(0, EXIT_BUSY))
    field.wait(launcher)


def two_of_one_cell(field: Field) -> None:
    cell = field.take_calm()
    for path in cell.iterdir():
        if path.name not in SOURCES:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    first = field.start("harness.cell", str(cell))
    field.pause()
    field.wait(first, field.start("harness.cell", str(cell)), allowed=(0, EXIT_BUSY))


def readers_beside_launcher(field: Field) -> None:
    launcher = field.launch()
    name, out = str(field.study), str(field.base / "read")
    commands = [
        ("analysis", "report", name, "--out", out),
        ("harness.status", name),
        ("analysis", "verify", name),
    ]
    while launcher.poll() is None:
        reader = field.start(*field.dice.choice(commands))
        field.wait(reader, allowed=(0, 1, 2))
    field.wait(launcher)


def two_reports(field: Field) -> None:
    field.take_calm()
    first = field.start("analysis", "report", str(field.study))
    field.pause()
    field.wait(first, field.start("analysis", "report", str(field.study)))
    both = contents(field.study)
    field.wait(field.start("analysis", "report", str(field.study)))
    field.wrong += different(contents(field.study), both)


def two_preparations(field: Field) -> None:
    words = ["harness.prepare", "data=stdlib_docs", f"data_dir={field.base / 'prepared'}"]
    first = field.start(*words)
    field.pause()
    field.wait(first, field.start(*words))
    field.wrong += different(contents(field.base / "data"), contents(field.base / "prepared"))
    shutil.rmtree(field.base / "prepared")


RACES: dict[str, Callable[[Field], None]] = {
    "two launchers": two_launchers,
    "three launchers": three_launchers,
    "a cell's command beside a launcher": cell_beside_launcher,
    "two commands of one cell": two_of_one_cell,
    "a launcher beside report, status, verify": readers_beside_launcher,
    "two reports into one folder": two_reports,
    "two first preparations of a corpus": two_preparations,
}


def race(kind: str, base: Path, calm: Outcome, dice: random.Random) -> Raced:
    """Run one race and look at what it leaves."""
    field = Field(base, calm, dice)
    RACES[kind](field)
    said = sorted(base.glob("said.*"))
    logs = [*said, *field.runs.rglob("log*.txt")]
    tracebacks = [path for path in logs if b"Traceback (most recent" in path.read_bytes()]
    field.wrong += [f"traceback in {path.name}" for path in tracebacks]
    if field.runs.exists():
        field.wrong += [cell for cell, is_ in outcome(field.runs).items() if is_ != calm.get(cell)]
        field.wrong += [cell for cell in calm if cell not in outcome(field.runs)]
        field.wrong += [
            *left_behind(field.runs),
            *sorted(hidden(field.runs) - hidden(base / "calm")),
        ]
        shutil.rmtree(field.runs)
    for path in said:
        path.unlink()
    shutil.rmtree(base / "read", ignore_errors=True)
    return Raced(kind, len(field.started), field.wrong)


def hidden(runs: Path) -> set[str]:
    """Return the files whose names begin with a dot, as half-written ones do."""
    return {str(path.relative_to(runs)) for path in runs.rglob(".*")}


def contents(folder: Path) -> dict[str, bytes]:
    """Return path -> content, of every file below; when a report was written says nothing."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != STAMP_FILE)
    return {str(p.relative_to(folder)): TIME.sub(b"", p.read_bytes()) for p in files}


def different(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """Return the files that are not the same in both."""
    return sorted(name for name in one | other if one.get(name) != other.get(name))
