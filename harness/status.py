"""How a study stands: ``python -m harness.status runs/NAME [--watch]``, from any machine."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.records import RecordError
from harness.records.files import printable
from harness.records.study import Study, meant
from harness.records.terminal import Parser, complain, printing
from harness.study.display import counts, pause, summary, table
from harness.study.states import CellState, Known, cell_states, shown

REFRESH_SECONDS = 2.0

if TYPE_CHECKING:
    from rich.console import RenderableType


@printing()
def main() -> None:
    """Print the study's table, again and again with ``--watch``."""
    parser = Parser(prog="python -m harness.status", description=__doc__)
    parser.add_argument("study", type=Path, help="a study's folder, or a folder of studies")
    parser.add_argument("--watch", action="store_true", help="refresh every two seconds")
    arguments = parser.parse_args()
    try:
        _show(arguments.study, watch=arguments.watch)
    except RecordError as error:
        complain(error)
        sys.exit(2)
    except KeyboardInterrupt:
        pass


def _show(folder: Path, *, watch: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    class Piped(Console):
        """A console that leaves it to `printing` when nobody reads any more."""

        def on_broken_pipe(self) -> None:
            """Exit as other commands do: rich would with 1."""
            raise BrokenPipeError

    console, known = Piped(), Known()
    parts = _parts(folder, console.width, known)
    if not watch:
        for part in parts:
            console.print(part, highlight=False)
        return
    with Live(parts[0], console=console, auto_refresh=False) as live:
        cost = 0.0
        while True:
            time.sleep(pause(cost, REFRESH_SECONDS))
            before = time.thread_time()
            with suppress(RecordError, OSError):  # the last view stays
                live.update(_parts(folder, console.width, known)[0], refresh=True)
            cost = time.thread_time() - before


def _parts(folder: Path, width: int, known: Known) -> list[RenderableType]:
    """Return a study's table and what stands below it, or a line for each study of a folder."""
    from rich.text import Text

    study = Study(folder)
    if states := cell_states(study, known):
        unreadable = [f"unreadable: {printable(str(e))}" for e in study.intent().unreadable]
        texts = [summary(shown(states)[0]), beside(states), *unreadable]
        return [table(states, str(folder), width), *(Text(text) for text in texts if text)]
    below = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    lines = [line for path in below if (line := _line(Study(path)))]
    if not lines:
        instead = meant(folder) or "name a study's folder below runs"
        raise RecordError(folder, f"no cells in it: {instead}")
    return [Text("\n".join(lines))]


def _line(study: Study) -> str:
    """Return how a study stands; nothing for another folder."""
    try:
        states = cell_states(study)
    except RecordError as error:
        return f"{study}: {error}"
    parts = [part for part in (counts(shown(states)[0]), beside(states)) if part]
    return f"{study}: {'; '.join(parts)}" if states else ""


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


if __name__ == "__main__":
    main()
