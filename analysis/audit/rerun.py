"""Run a cell again for some steps and hold its curve against the recorded one."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.errors import AnalysisError, needed
from analysis.runs.cell.files import read_metrics
from harness.records import (
    CONFIG_FILE,
    METRICS_FILE,
    SOURCES_FOLDER,
    Provenance,
    RecordError,
    read_record,
)
from harness.records.reading import read_bytes

POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Rerun:
    """Two curves of one cell."""

    steps: tuple[int, ...]
    """Logged steps that both have."""
    largest_difference: float
    """Of the training loss, nats per token."""
    elsewhere: tuple[str, ...] = ()
    """What else the cell was trained by than it was now: code, packages, device."""

    @property
    def identical(self) -> bool:
        """The losses are equal to the last digit."""
        return self.largest_difference == 0.0

    def to_markdown(self) -> str:
        """Return in words how far the curves agree, and what may keep them apart."""
        word = "identical" if self.identical else f"differs by up to {self.largest_difference:g}"
        text = f"training loss {word} over {len(self.steps)} logged steps up to {self.steps[-1]}.\n"
        if self.elsewhere:
            text += f"Not the run of then: {'; '.join(self.elsewhere)}.\n"
        elif not self.identical:
            text += "Code, packages and device are those of then: training is not deterministic.\n"
        return text


def rerun(cell: str | Path, n_steps: int, timeout_seconds: float = 3600.0) -> Rerun:
    """Train a copy of a cell's frozen config until `n_steps` and compare the training loss.

    The first logged step at or after `n_steps` ends the run.
    """
    folder = Path(cell)
    for name in (CONFIG_FILE, METRICS_FILE):
        if not (folder / name).exists():
            raise AnalysisError(f"{folder} has no {name}: give the folder of a cell that was run")
    recorded = curve(folder)
    with tempfile.TemporaryDirectory(prefix="rerun-") as scratch:
        copy = Path(scratch) / folder.name
        copy.mkdir()
        _freeze_again(folder, copy)
        _run_until(copy, min(n_steps, max(recorded, default=0)), timeout_seconds)
        again = curve(copy)
        elsewhere = differences(folder, copy)
    found = compare_curves(
        recorded,
        {step: loss for step, loss in again.items() if step <= n_steps or step == min(again)},
    )
    return replace(found, elsewhere=elsewhere)


@needed()
def _freeze_again(folder: Path, copy: Path) -> None:
    """Copy the cell's config and its own sources."""
    (copy / CONFIG_FILE).write_bytes(read_bytes(folder / CONFIG_FILE))
    for file in sorted((folder / SOURCES_FOLDER).glob("*.py")):
        (copy / SOURCES_FOLDER).mkdir(exist_ok=True)
        (copy / SOURCES_FOLDER / file.name).write_bytes(read_bytes(file))


def differences(cell: Path, again: Path) -> tuple[str, ...]:
    """Return in what two runs of one cell differ that may move their losses.

    Examples: ``code 1f2e3d4 then, 9a8b7c6 now``, ``torch 2.6.0 then, 2.9.1 now``.
    """
    try:
        then, now = (read_record(folder).provenance for folder in (cell, again))
    except RecordError:
        return ()
    names = sorted(then.packages.keys() & now.packages.keys())
    pairs = [("code", _code(then), _code(now))]
    hardware = ("device", "n_devices", "micro_batch", "compile")
    pairs += [(name, getattr(then, name), getattr(now, name)) for name in hardware]
    pairs += [(name, then.packages[name], now.packages[name]) for name in names]
    targets = sorted(then.sources.keys() | now.sources.keys())
    pairs += [(t, then.sources.get(t, "none"), now.sources.get(t, "none")) for t in targets]
    return tuple(f"{name} {a} then, {b} now" for name, a, b in pairs if a != b)


def _code(provenance: Provenance) -> str:
    changed = " with uncommitted changes" if provenance.git_dirty else ""
    return (provenance.git_sha or "unknown")[:12] + changed


def compare_curves(recorded: Mapping[int, float], again: Mapping[int, float]) -> Rerun:
    """Compare two curves at the steps that both have."""
    steps = tuple(sorted(set(recorded) & set(again)))
    if not steps:
        raise AnalysisError(
            "the second run logged no step that the first one has: ask for more steps with --steps"
        )
    return Rerun(steps, max(abs(recorded[step] - again[step]) for step in steps))


@needed()
def curve(folder: Path) -> dict[int, float]:
    """Return step -> training loss as logged; a half-written last line is left out."""
    rows = read_metrics(folder)
    return {row["step"]: row["train_loss"] for row in rows if row.get("train_loss") is not None}


def _run_until(copy: Path, n_steps: int, timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    with (copy / "output.txt").open("w", encoding="utf-8") as output:
        command = [sys.executable, "-m", "harness.cell", str(copy), "--unchecked"]
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            while process.poll() is None and time.monotonic() < deadline:
                if max(curve(copy), default=0) >= n_steps:
                    break
                time.sleep(POLL_SECONDS)
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    if not curve(copy):
        text = (copy / "output.txt").read_text(encoding="utf-8").strip().splitlines()
        raise AnalysisError(f"the cell did not run again: {text[-1] if text else 'no output'}")
