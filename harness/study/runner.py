"""Run a study's cells on this machine, each in a process forked from one that has the imports.

A failing cell never stops its neighbours; a finished one is skipped; one that another launcher
runs is left to it, and taken over if that launcher dies.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from harness.config import BudgetConfig
from harness.exits import EXIT_BUSY, StudyFailed
from harness.freeze import describe, finished_record
from harness.lock import living_owner
from harness.log import LOG_FILE
from harness.records import RECORD_FILE, Status, find_records, read_record
from harness.study.devices import Slot, plan_slots, torchrun
from harness.study.plan import Cell
from harness.study.screen import Screen, say
from harness.study.view import cell_states, last_line, summary

POLL_SECONDS = 1.0
ALIKE = 3
"""So many first cells that fail alike stop a study."""


@dataclass(kw_only=True, slots=True)
class _Try:
    """A cell in its process."""

    cell: Cell
    slot: Slot
    process: BaseProcess


@dataclass(slots=True)
class _Queue:
    """What is left to do, and what became of the rest."""

    waiting: list[Cell]
    busy: list[Cell] = field(default_factory=list)
    """Run by another launcher; looked at again from time to time."""
    tried: dict[Path, int] = field(default_factory=dict)
    outcomes: list[str] = field(default_factory=list)
    """Errors of the cells that ended so far, empty for a result."""


def run_cells(cells: Sequence[Cell]) -> None:
    """Run the cells that have no result, as many at once as there are slots, the largest first.

    Raises
    ------
    StudyFailed
        Some cells have no result; they and their errors have been listed.
    """
    todo = []
    for cell in cells:
        done = finished_record(cell.folder)
        if done is None:
            todo.append(cell)
        else:
            say(f"skipped, already {describe(done, cell.folder)}")
    study = cells[0].folder.parent.parent
    if todo:
        slots = plan_slots(todo[0].config.hardware)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with Screen(study, len(todo), len(slots)) as screen:
            _Runner(slots, screen).run(sorted(todo, key=lambda cell: -cell.work))
    say(f"{summary(cell_states(study))}\n{study}")
    without = [cell for cell in cells if not _has_result(cell.folder)]
    if without:
        raise StudyFailed(
            f"{len(without)} of {len(cells)} cells have no result: run the same command to retry"
        )


class _Runner:
    def __init__(self, slots: list[Slot], screen: Screen) -> None:
        self.slots, self.screen = slots, screen
        os.environ.setdefault("OMP_NUM_THREADS", str(slots[0].threads))
        self.context = multiprocessing.get_context("forkserver")
        # the optimiser imports torch._dynamo at its first step
        self.context.set_forkserver_preload(["harness.cell", "torch._dynamo"])

    def run(self, todo: list[Cell]) -> None:
        queue, running, free = _Queue(todo), list[_Try](), list(self.slots)
        broken = self._broken_arms(todo)
        queue.waiting = [cell for cell in todo if cell.config.arm not in broken]
        try:
            while queue.waiting or queue.busy or running:
                while queue.waiting and free and not self._stop_for_budget(queue):
                    running.append(self._start(queue.waiting.pop(0), free.pop(0)))
                wait([trial.process.sentinel for trial in running], POLL_SECONDS)
                for trial in [t for t in running if not t.process.is_alive()]:
                    running.remove(trial)
                    free.append(trial.slot)
                    self._settle(trial, queue)
                _look_after_busy(queue)
                self.screen.refresh()
                if _hopeless(queue):
                    self.screen.say(f"stopping: the first {ALIKE} cells all failed alike")
                    queue.waiting.clear()
        except KeyboardInterrupt:
            self.screen.say("stopping: every running cell saves its state first")
            for trial in running:
                trial.process.terminate()
            for trial in running:
                trial.process.join()
            raise

    def _stop_for_budget(self, queue: _Queue) -> bool:
        cell = queue.waiting[0]
        reason = over_budget(cell.config.budget, cell.folder.parent.parent)
        if reason:
            self.screen.say(f"stopping: {reason}; {len(queue.waiting)} cells are not started")
            queue.waiting.clear()
        return bool(reason)

    def _start(self, cell: Cell, slot: Slot) -> _Try:
        process = self.context.Process(target=_run_cell, args=(cell.folder, slot))
        process.start()
        return _Try(cell=cell, slot=slot, process=process)

    def _broken_arms(self, todo: list[Cell]) -> set[str]:
        """Take one cheap step of every arm that has not begun, so that a typo costs seconds."""
        arms = {cell.config.arm: cell for cell in reversed(todo) if not _has_begun(cell.folder)}
        broken, pending = set(), list(arms.values())
        while pending:
            group = [(pending.pop(), slot) for slot in self.slots[: len(pending)]]
            processes = [self.context.Process(target=_rehearse, args=pair) for pair in group]
            for process in processes:
                process.start()
            for process, (cell, _) in zip(processes, group, strict=True):
                process.join()
                if process.exitcode:
                    broken.add(cell.config.arm)
                    why = _why(cell.folder)
                    self.screen.say(f"{cell.config.arm} cannot take a step: {why}")
        return broken

    def _settle(self, trial: _Try, queue: _Queue) -> None:
        cell, folder = trial.cell, trial.cell.folder
        if trial.process.exitcode == EXIT_BUSY:
            queue.busy.append(cell)
            return
        if _has_result(folder):
            queue.outcomes.append("")
            self.screen.done(describe(read_record(folder), folder))
            return
        if not _was_preempted(folder) and not queue.tried.get(folder):
            queue.tried[folder] = 1
            queue.waiting.append(cell)
            shutil.copy(folder / LOG_FILE, folder / "log.1.txt")
            self.screen.say(f"{cell.name} crashed and is tried once more: {_why(folder)}")
            return
        queue.outcomes.append(_why(folder))
        self.screen.done(f"no result: {cell.name}: {_why(folder)}; {folder / LOG_FILE}")


def _run_cell(folder: Path, slot: Slot) -> None:
    """Child process: run the cell on its slot; everything it prints goes to the cell's log."""
    _enter(folder, slot)
    if slot.n_devices > 1:
        os.execv(sys.executable, torchrun(folder, slot.n_devices))  # noqa: S606
    from harness.cell import report

    sys.exit(report(folder))


def _rehearse(cell: Cell, slot: Slot) -> None:
    """Child process: one small step of the cell, thrown away."""
    _enter(cell.folder, slot)
    from harness.cell import rehearse

    sys.exit(rehearse(cell.folder))


def _enter(folder: Path, slot: Slot) -> None:
    log = os.open(folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.setsid()  # Ctrl-C reaches the launcher alone, which asks the cells to stop
    slot.occupy()


def _look_after_busy(queue: _Queue) -> None:
    """Take up the cells whose other launcher has died, drop those that it finished."""
    for cell in list(queue.busy):
        if finished_record(cell.folder) is not None:
            queue.busy.remove(cell)
        elif living_owner(cell.folder) is None:
            queue.busy.remove(cell)
            queue.waiting.append(cell)


def _hopeless(queue: _Queue) -> bool:
    first = queue.outcomes[:ALIKE]
    return len(first) == ALIKE and bool(first[0]) and len(set(first)) == 1


def over_budget(budget: BudgetConfig, study: Path) -> str | None:
    """Say which limit the study's records have reached, None if none."""
    limits = {name: limit for name, limit in asdict(budget).items() if limit is not None}
    if not limits:
        return None
    records = [read_record(path) for path in find_records(study)]
    spent = {
        "hours": sum(r.cost.train_seconds * r.provenance.n_devices for r in records) / 3600,
        "usd": sum(r.cost.usd or 0.0 for r in records),
        "tokens": sum(r.tokens for r in records),
    }
    over = [n for n, limit in limits.items() if spent[n] >= limit]
    return f"budget.{over[0]}={limits[over[0]]} is spent ({spent[over[0]]:.6g})" if over else None


def _has_begun(folder: Path) -> bool:
    """Tell whether the cell has taken steps before, or is taking them now."""
    if not (folder / RECORD_FILE).exists():
        return False
    return read_record(folder).status is not Status.FAILED


def _was_preempted(folder: Path) -> bool:
    return (folder / RECORD_FILE).exists() and read_record(folder).status is Status.PREEMPTED


def _why(folder: Path) -> str:
    """Return the error in the record, or what the process said last if it died without a word."""
    error = read_record(folder).error if (folder / RECORD_FILE).exists() else None
    return error or last_line(folder)


def _has_result(folder: Path) -> bool:
    return finished_record(folder) is not None
