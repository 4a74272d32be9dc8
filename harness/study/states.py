"""A study at a glance: arms x seeds, from the files alone, so that it works from anywhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cell.console import duration
from harness.cell.lock import living_owner
from harness.records import (
    CONFIG_FILE,
    LOG_FILE,
    METRICS_FILE,
    RECORD_FILE,
    RecordError,
    RunRecord,
    Status,
    read_plan,
    read_record,
)
from harness.records.files import printable
from harness.records.versions import last_asked, rank, read_commands, superseded_by

if TYPE_CHECKING:
    from rich.table import Table

_MARKS = {
    "complete": "green",
    "running": "cyan",
    "interrupted": "yellow",
    "preempted": "yellow",
    "failed": "red",
    "unreadable": "red",
    "diverged": "magenta",
    "planned": "dim",
}


_SEED_WIDTH = 14
"""Characters that a cell of the table needs to be read."""
_SHORT = 60
"""Characters of a message in the table; below it stands the whole."""


@dataclass(frozen=True, slots=True)
class CellState:
    """What is known of one cell."""

    arm: str
    seed: str
    state: str
    """A status, ``planned`` (no record yet), ``interrupted`` (running, but nobody runs it) or
    ``unreadable``."""
    text: str
    """Loss, progress or what went wrong."""
    cell: str = ""
    record: RunRecord | None = None
    superseded: bool = False
    """Trained before its arm was edited; see `harness.records.versions`."""


def cell_states(study: Path) -> list[CellState]:
    """Return the state of every cell: the plan's, then others by arm and seeds, latest first."""
    plan, asked = read_plan(study), last_asked(read_commands(study))
    planned = {f"{c['arm']}/{c['cell']}": c for c in (plan.cells if plan else [])}
    files = [*study.glob(f"*/*/{CONFIG_FILE}"), *study.glob(f"*/*/{RECORD_FILE}")]
    others = {str(file.parent.relative_to(study)) for file in files} - planned.keys()
    unplanned = [cell_state(study / path, {}) for path in sorted(others)]
    unplanned.sort(key=lambda s: asked.get(s.cell) or _started(s), reverse=True)
    unplanned.sort(key=lambda s: (s.arm, [int(n) for n in s.seed.split("/") if n != "?"]))
    states = [*(cell_state(study / path, cell) for path, cell in planned.items()), *unplanned]
    in_plan = {str(cell["cell"]) for cell in planned.values()}
    ranked = [(s.record, rank(s.record, in_plan, asked)) for s in states if s.record]
    newer = superseded_by(ranked)
    old = {record.cell for (record, _), new in zip(ranked, newer, strict=True) if new}
    return [replace(state, superseded=state.cell in old) for state in states]


def _started(state: CellState) -> str:
    return (state.record and state.record.started) or ""


def shown(states: list[CellState]) -> tuple[list[CellState], list[CellState]]:
    """Separate the first of each arm and seed, which the table shows, from all others."""
    first: dict[tuple[str, str], CellState] = {}
    for state in states:
        first.setdefault((state.arm, state.seed), state)
    return list(first.values()), [s for s in states if first[s.arm, s.seed] is not s]


def beside(states: list[CellState]) -> str:
    """Return a line on the cells that the table does not show, empty if there are none."""
    _, others = shown(states)
    edited = sum(state.superseded for state in others)
    idle = sum(state.record is None for state in others)
    kinds = {
        "superseded (the arm was edited and asked for again)": edited,
        "never started": idle,
        "of the same arm and seed with other settings": len(others) - edited - idle,
    }
    found = [f"{count} {what}" for what, count in kinds.items() if count]
    return f"not shown: {', '.join(found)}" if found else ""


def cell_state(folder: Path, planned: dict[str, Any]) -> CellState:
    """Return the state of a cell; its entry in the plan, or its config, serves without a record."""
    try:
        return _read_state(folder, planned)
    except (OSError, ValueError, KeyError, TypeError) as error:  # RecordError is a ValueError
        seed = seed_text(planned["seeds"].values()) if planned else "?"
        text = printable(str(error))
        return CellState(folder.parent.name, seed, "unreadable", text, folder.name)


def _read_state(folder: Path, planned: dict[str, Any]) -> CellState:
    if not (folder / RECORD_FILE).exists():
        seeds = planned["seeds"] if planned else _frozen_seeds(folder)
        return CellState(folder.parent.name, seed_text(seeds.values()), "planned", "", folder.name)
    record = read_record(folder)
    seeds = (record.seeds.init, record.seeds.data, record.seeds.loop)
    state, text = _describe(folder, record)
    return CellState(record.arm, seed_text(seeds), state, printable(text), record.cell, record)


def _frozen_seeds(folder: Path) -> dict[str, int]:
    import yaml

    file = folder / CONFIG_FILE
    try:
        seeds: dict[str, int] = yaml.safe_load(file.read_text(encoding="utf-8"))["seeds"]
    except yaml.YAMLError as error:
        raise RecordError(f"{file} is no YAML: remove it, a new start writes it again") from error
    return seeds


def seed_text(seeds: Iterable[int]) -> str:
    """Return one number where all seeds are equal, else all of them."""
    numbers = [str(seed) for seed in seeds]
    return numbers[0] if len(set(numbers)) == 1 else "/".join(numbers)


def _describe(folder: Path, record: RunRecord) -> tuple[str, str]:
    if record.status is Status.COMPLETE:
        return "complete", f"{record.losses.test:.4f}"
    if record.status is not Status.RUNNING:
        return record.status.value, record.error or last_line(folder)
    done = _latest(folder)
    if living_owner(folder) is None:
        return "interrupted", f"step {done.get('step', 0)}/{record.n_steps}"
    if not done:
        return "running", "starting"
    left = done["train_seconds"] / done["step"] * (record.n_steps - done["step"])
    loss = "not finite" if done["train_loss"] is None else f"{done['train_loss']:.3f}"
    percent = 100 * done["step"] // record.n_steps
    speed = f"{done['tokens_per_second'] / 1000:.1f}k tok/s"
    return "running", f"{loss} {percent}% {speed} {duration(left)} left"


def _latest(folder: Path) -> dict[str, Any]:
    """Return the last whole line of the cell's metrics."""
    path = folder / METRICS_FILE
    if not path.exists():
        return {}
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        for line in reversed(file.read().splitlines()):
            if line.endswith(b"}") and line.startswith(b"{"):
                latest: dict[str, Any] = json.loads(line)
                return latest
    return {}


def last_line(folder: Path) -> str:
    """Return the last line of the cell's log."""
    path = folder / LOG_FILE
    lines = path.read_text(errors="replace").split("\n") if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")


def summary(states: list[CellState]) -> str:
    """Return the counts of all states, and a line for each cell that went wrong."""
    fine = ("complete", "running", "planned")
    lines = [counts(states)]
    wrong = [s for s in states if s.state not in fine]
    lines += [f"  {s.state}: {s.arm} seed {s.seed}: {s.text}" for s in wrong]
    return "\n".join(lines)


def counts(states: list[CellState]) -> str:
    """Return how many cells are in each state."""
    found = Counter(state.state for state in states)
    return ", ".join(f"{found[n]} {n}" for n in _MARKS if found[n]) or "nothing has been trained"


def table(states: list[CellState], title: str, width: int) -> Table:
    """Return arms x seeds as a rich table; arms x states where so many seeds find no room.

    Of several cells of one arm and seed, the first is shown: see `shown`.
    """
    from rich.table import Table
    from rich.text import Text

    states, _ = shown(states)
    seeds = list(dict.fromkeys(state.seed for state in states))
    grid = Table(title=Text(title), title_justify="left")
    if len(seeds) * _SEED_WIDTH > width:
        return _counted(grid, states)
    grid.add_column("arm", overflow="fold")
    for seed in seeds:
        grid.add_column(f"seed {seed}", overflow="fold")
    for arm in dict.fromkeys(state.arm for state in states):
        row = {state.seed: state for state in states if state.arm == arm}
        cells = [row.get(seed) for seed in seeds]
        grid.add_row(
            Text(arm),
            *(Text(_short(c), style=_MARKS[c.state]) if c else Text("") for c in cells),
        )
    return grid


def _counted(grid: Table, states: list[CellState]) -> Table:
    from rich.text import Text

    arms: dict[str, list[CellState]] = {}
    for state in states:
        arms.setdefault(state.arm, []).append(state)
    names = [name for name in _MARKS if any(state.state == name for state in states)]
    for name in ("arm", *names, "mean loss", "now"):
        grid.add_column(name, overflow="fold")
    for arm, row in arms.items():
        found = Counter(state.state for state in row)
        done = [float(state.text) for state in row if state.state == "complete"]
        grid.add_row(
            Text(arm),
            *(Text(str(found[name] or ""), style=_MARKS[name]) for name in names),
            f"{sum(done) / len(done):.4f}" if done else "",
            Text("; ".join(f"{s.seed}: {s.text}" for s in row if s.state == "running")),
        )
    return grid


def _short(state: CellState) -> str:
    if state.state in ("complete", "running"):
        return state.text
    text = f"{state.state} {state.text}".strip()
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 2]} …"
