"""What is known of a study's cells, from the files alone, so that it works from anywhere."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from msgspec import ValidationError, convert

from harness.cell.console import duration
from harness.cell.lock import living_owner
from harness.config.frozen import read_plain
from harness.records import PlannedRun, RunRecord, Seeds, Status
from harness.records.cell import Cell, seed_text
from harness.records.files import printable
from harness.records.reading import RecordError, metrics_row, read_json_lines
from harness.records.study import Study
from harness.records.versions import last_asked, rank, superseded_by
from harness.study.outcome import last_line

PASSING = ("running", "interrupted", "unreadable")
"""States that can change while the cell's own files do not."""


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


Stamp = tuple[tuple[int, int, int] | None, ...]
Known = dict[Path, tuple[Stamp, CellState]]
"""What was found at an earlier look, by the cell's folder."""


def cell_states(study: Study, known: Known | None = None) -> list[CellState]:
    """Return the state of every cell: the plan's, then others by arm and seeds, latest first.

    Who looks again and again hands over what is `known`: only what has changed is read again.
    """
    known = {} if known is None else known
    intent = study.intent()
    asked, entries = last_asked(intent.commands), intent.asked()
    cells = intent.plan.cells if intent.plan else []
    planned = {study.folder / c["arm"] / c["cell"]: c for c in cells}
    others = [
        _known_state(Cell(folder), entries.get(folder.name), known)
        for folder in study.cells()
        if folder not in planned
    ]
    others.sort(
        key=lambda s: asked.get(s.cell) or (s.record and s.record.started) or "", reverse=True
    )
    others.sort(key=lambda s: (s.arm, [int(n) for n in s.seed.split("/") if n != "?"]))
    first = [_known_state(Cell(folder), entry, known) for folder, entry in planned.items()]
    states = [*first, *others]
    records, in_plan = [s.record for s in states if s.record], {path.name for path in planned}
    newer = superseded_by([(record, rank(record, in_plan, asked)) for record in records])
    old = {record.cell for record, new in zip(records, newer, strict=True) if new}
    return [replace(state, superseded=state.cell in old) for state in states]


def _known_state(cell: Cell, planned: PlannedRun | None, known: Known) -> CellState:
    stamp = tuple(map(_stamp, (cell.record_file, cell.config_file, cell.log_file)))
    before, state = known.get(cell.folder, (None, None))
    if state is None or before != stamp:
        state = cell_state(cell, planned)
        if state.state not in PASSING:
            known[cell.folder] = stamp, state
    return state


def _stamp(file: Path) -> tuple[int, int, int] | None:
    """Return what changes with a file."""
    try:
        found = file.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def cell_state(cell: Cell, planned: PlannedRun | None = None) -> CellState:
    """Return the state of a cell; its entry in the plan, or its config, serves without a record."""
    try:
        return _read_state(cell, planned)
    except (OSError, RecordError) as error:
        seed = seed_text(planned["seeds"].values()) if planned else "?"
        return CellState(cell.arm, seed, "unreadable", printable(str(error)), cell.id)


def _read_state(cell: Cell, planned: PlannedRun | None) -> CellState:
    record = cell.record()
    if record is None:
        seeds = planned["seeds"] if planned else _frozen_seeds(cell)
        return CellState(cell.arm, seed_text(seeds.values()), "planned", "", cell.id)
    state, text = _describe(cell, record)
    seed = seed_text(asdict(record.seeds).values())
    return CellState(record.arm, seed, state, printable(text), record.cell, record)


def _frozen_seeds(cell: Cell) -> dict[str, int]:
    seeds = read_plain(cell.config_file).get("seeds")
    try:
        return asdict(convert(seeds, Seeds))
    except ValidationError as error:
        raise RecordError(cell.config_file, f"seeds: {error}") from error


def _describe(cell: Cell, record: RunRecord) -> tuple[str, str]:
    """Return the state's name, and its text."""
    if record.status is Status.COMPLETE:
        if record.losses.test is None:
            raise RecordError(cell.record_file, "it is called complete, and has no test loss")
        return "complete", f"{record.losses.test:.4f}"
    if record.status is not Status.RUNNING:
        return record.status.value, record.error or last_line(cell)
    metrics = read_json_lines(cell.metrics_file, metrics_row)
    if living_owner(cell.folder) is None:
        return "interrupted", f"step {metrics[-1]['step'] if metrics else 0}/{record.n_steps}"
    if not metrics:
        return "running", "starting"
    done = metrics[-1]
    loss = "not finite" if done.get("train_loss") is None else f"{done['train_loss']:.3f}"
    text = f"{loss} {100 * done['step'] // record.n_steps}%"
    speed = done.get("tokens_per_second") or 0
    if speed <= 0 or not done["step"]:
        return "running", text
    n_tokens = record.n_tokens or done["tokens"] * record.n_steps / done["step"]
    left = duration(max(0.0, n_tokens - done["tokens"]) / speed)
    return "running", f"{text} {speed / 1000:.1f}k tok/s {left} left"


def shown(states: list[CellState]) -> tuple[list[CellState], list[CellState]]:
    """Separate the first of each arm and seed, which the table shows, from all others."""
    first: dict[tuple[str, str], CellState] = {}
    for state in states:
        first.setdefault((state.arm, state.seed), state)
    return list(first.values()), [s for s in states if first[s.arm, s.seed] is not s]
