"""Studies of tiny cells: how the tests start them, disturb them and read what they left."""

import io
import subprocess
import time
from pathlib import Path

import psutil
from rich.console import Console

from harness.records import read_record
from harness.records.study import Study
from harness.study.display import table
from harness.study.states import cell_states

STUDY = ["+study=demo", "study.arms=[baseline,qkv_bias]", "study.seeds=2"]


def overlay(folder: Path, name: str, event: str, target: str) -> str:
    """Write an intervention of one's own; return the override by which Hydra finds it."""
    file = folder / "conf" / "intervention" / f"{name}.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(
        "# @package _global_\n"
        f"interventions: {{{name}: {{summary: s, source: t, event: {event},"
        f" fn: {{_target_: {target}, _partial_: true}}}}}}\n"
    )
    return f"hydra.searchpath=[file://{folder / 'conf'}]"


def shell(folder: Path, line: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def results(runs: Path) -> dict[str, tuple]:
    found = [read_record(path) for path in sorted(runs.rglob("record.json"))]
    return {r.cell: (r.status, r.fingerprints, r.losses, r.skipped_steps, r.tokens) for r in found}


def shown_table(study: Path) -> str:
    console = Console(width=80, file=io.StringIO())
    console.print(table(cell_states(Study(study)), "", 80))
    return console.file.getvalue()


def descendants(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def wait_until(condition) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
