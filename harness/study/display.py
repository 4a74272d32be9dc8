"""What a person sees of a study: a table of arms by seeds, live on a terminal; lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from harness.cell.console import duration, say, wants_bar
from harness.records import RecordError
from harness.records.study import Study
from harness.study.states import CellState, Known, cell_states, shown

if TYPE_CHECKING:
    from rich.table import Table

_MARKS = {
    "complete": "green",
    "running": "cyan",
    "interrupted": "yellow",
    "stopped": "yellow",
    "failed": "red",
    "unreadable": "red",
    "diverged": "magenta",
    "planned": "dim",
}
_SEED_WIDTH = 14
"""Characters that a cell of the table needs to be read."""
_SHORT = 60
"""Characters of a message in the table; below it stands the whole."""
_REFRESH_SECONDS = 1.0
_SHARE = 0.025
"""Of a core, that drawing may take; with what is not timed a live view stays below 3%."""


def pause(cost: float, least: float) -> float:
    """Return the seconds until a view that took `cost` seconds of a core may be drawn again."""
    return max(least, cost / _SHARE)


def summary(states: list[CellState]) -> str:
    """Return the counts of all states, and a line for each cell that went wrong."""
    fine = ("complete", "running", "planned")
    wrong = [s for s in states if s.state not in fine]
    lines = [f"  {s.state}: {s.arm} seed {s.seed}: {s.text}" for s in wrong]
    return "\n".join([counts(states), *lines])


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
    for name in ("arm", *(f"seed {seed}" for seed in seeds)):
        grid.add_column(name, overflow="fold")
    for arm, row in _by_arm(states).items():
        cells = {s.seed: Text(_short(s), style=_MARKS[s.state]) for s in row}
        grid.add_row(Text(arm), *(cells.get(seed, "") for seed in seeds))
    return grid


def _counted(grid: Table, states: list[CellState]) -> Table:
    from rich.text import Text

    names = [name for name in _MARKS if any(state.state == name for state in states)]
    for name in ("arm", *names, "mean loss", "now"):
        grid.add_column(name, overflow="fold")
    for arm, row in _by_arm(states).items():
        found = Counter(state.state for state in row)
        done = [float(state.text) for state in row if state.state == "complete"]
        grid.add_row(
            Text(arm),
            *(Text(str(found[name] or ""), style=_MARKS[name]) for name in names),
            f"{sum(done) / len(done):.4f}" if done else "",
            Text("; ".join(f"{s.seed}: {s.text}" for s in row if s.state == "running")),
        )
    return grid


def _by_arm(states: list[CellState]) -> dict[str, list[CellState]]:
    arms: dict[str, list[CellState]] = {}
    for state in states:
        arms.setdefault(state.arm, []).append(state)
    return arms


def _short(state: CellState) -> str:
    if state.state in ("complete", "running"):
        return state.text
    text = f"{state.state} {state.text}".strip()
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 2]} …"


class Screen:
    """Use as a context; `say` and `done` print lines, `refresh` brings the table up to date."""

    def __init__(self, study: Study, n_cells: int, n_slots: int) -> None:
        self.study, self.n_cells = study, n_cells
        self.n_done, self.start, self.due = 0, time.perf_counter(), 0.0
        self.known: Known = {}
        self.live: Any = None
        self.first = f"{n_cells} cells to train, {min(n_slots, n_cells)} at a time; {study}"

    def __enter__(self) -> Screen:
        if wants_bar():
            from rich.console import Console
            from rich.live import Live

            self.live = Live(console=Console(stderr=True), auto_refresh=False)
            self.live.start()
        self.say(self.first)
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.refresh(now=True)
            with suppress(OSError):
                self.live.stop()

    def refresh(self, *, now: bool = False) -> None:
        """Redraw the table when it is due; what cannot be shown stops nothing."""
        if self.live is None or (time.perf_counter() < self.due and not now):
            return
        before = time.thread_time()
        title = f"{self.study}  {self.n_done}/{self.n_cells} done, {self._left()} left"
        with suppress(RecordError, OSError):
            grid = table(cell_states(self.study, self.known), title, self.live.console.width)
            self.live.update(grid, refresh=True)
        cost = time.thread_time() - before
        self.due = time.perf_counter() + pause(cost, _REFRESH_SECONDS)

    def done(self, text: str) -> None:
        """Count a cell that ended, and say how."""
        self.n_done += 1
        self.say(f"[{self.n_done}/{self.n_cells}] {text}  ({self._left()} left)")

    def say(self, text: str) -> None:
        """Print a line; on a terminal, above the table."""
        if self.live is None:
            say(text)
            return
        from rich.text import Text

        with suppress(OSError):  # the terminal was closed
            self.live.console.print(Text(text))

    def _left(self) -> str:
        if not self.n_done:
            return "?"
        seconds = (time.perf_counter() - self.start) / self.n_done * (self.n_cells - self.n_done)
        return duration(seconds)
