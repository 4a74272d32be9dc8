"""What is known of a study's cells, from the files alone, so that it works from anywhere."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.cell.console import duration
from harness.cell.lock import living_owner
from harness.records import RecordError, RunRecord, Status
from harness.records.cell import Cell, seed_text
from harness.records.files import printable, read_json_lines
from harness.records.study import Study
from harness.records.versions import last_asked, rank, superseded_by
from harness.study.outcome import last_line


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


def cell_states(study: Study) -> list[CellState]:
    """Return the state of every cell: the plan's, then others by arm and seeds, latest first."""
    plan, asked = study.plan(), last_asked(study.commands())
    planned = {study.folder / c["arm"] / c["cell"]: c for c in (plan.cells if plan else [])}
    others = [cell_state(Cell(folder)) for folder in study.cells() if folder not in planned]
    others.sort(
        key=lambda s: asked.get(s.cell) or (s.record and s.record.started) or "", reverse=True
    )
    others.sort(key=lambda s: (s.arm, [int(n) for n in s.seed.split("/") if n != "?"]))
    states = [*(cell_state(Cell(folder), entry) for folder, entry in planned.items()), *others]
    records, in_plan = [s.record for s in states if s.record], {path.name for path in planned}
    newer = superseded_by([(record, rank(record, in_plan, asked)) for record in records])
    old = {record.cell for record, new in zip(records, newer, strict=True) if new}
    return [replace(state, superseded=state.cell in old) for state in states]


def cell_state(cell: Cell, planned: dict[str, Any] | None = None) -> CellState:
    """Return the state of a cell; its entry in the plan, or its config, serves without a record."""
    try:
        return _read_state(cell, planned)
    except (OSError, ValueError, KeyError, TypeError) as error:  # RecordError is a ValueError
        seed = seed_text(planned["seeds"].values()) if planned else "?"
        return CellState(cell.arm, seed, "unreadable", printable(str(error)), cell.id)


def _read_state(cell: Cell, planned: dict[str, Any] | None) -> CellState:
    record = cell.record()
    if record is None:
        seeds = planned["seeds"] if planned else _frozen_seeds(cell)
        return CellState(cell.arm, seed_text(seeds.values()), "planned", "", cell.id)
    state, text = _describe(cell, record)
    seed = seed_text(asdict(record.seeds).values())
    return CellState(record.arm, seed, state, printable(text), record.cell, record)


def _frozen_seeds(cell: Cell) -> dict[str, int]:
    import yaml

    file = cell.config_file
    try:
        seeds: dict[str, int] = yaml.safe_load(file.read_text(encoding="utf-8"))["seeds"]
    except yaml.YAMLError as error:
        raise RecordError(f"{file} is no YAML: remove it, a new start writes it again") from error
    return seeds


def _describe(cell: Cell, record: RunRecord) -> tuple[str, str]:
    """Return the state's name, and its text."""
    if record.status is Status.COMPLETE:
        return "complete", f"{record.losses.test:.4f}"
    if record.status is not Status.RUNNING:
        return record.status.value, record.error or last_line(cell)
    metrics = read_json_lines(cell.metrics_file)
    if living_owner(cell.folder) is None:
        return "interrupted", f"step {metrics[-1]['step'] if metrics else 0}/{record.n_steps}"
    if not metrics:
        return "running", "starting"
    done = metrics[-1]
    n_tokens = record.n_tokens or done["tokens"] * record.n_steps / done["step"]
    left = done["train_seconds"] / done["tokens"] * (n_tokens - done["tokens"])
    loss = "not finite" if done["train_loss"] is None else f"{done['train_loss']:.3f}"
    percent = 100 * done["step"] // record.n_steps
    speed = f"{done['tokens_per_second'] / 1000:.1f}k tok/s"
    return "running", f"{loss} {percent}% {speed} {duration(left)} left"


def shown(states: list[CellState]) -> tuple[list[CellState], list[CellState]]:
    """Separate the first of each arm and seed, which the table shows, from all others."""
    first: dict[tuple[str, str], CellState] = {}
    for state in states:
        first.setdefault((state.arm, state.seed), state)
    return list(first.values()), [s for s in states if first[s.arm, s.seed] is not s]
