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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from harness.config import BudgetConfig
from harness.exits import EXIT_BUSY, StudyFailed
from harness.freeze import describe, finished_record
from harness.lock import LOCK_FILE, living_owner
from harness.records import LOG_FILE, RECORD_FILE, Status, find_records, read_record
from harness.study import child
from harness.study.devices import Slot, plan_slots
from harness.study.plan import Cell
from harness.study.screen import Screen, say
from harness.study.view import cell_state, last_line, summary

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
            _tidy(cell.folder)
    study = cells[0].folder.parent.parent
    if todo:
        slots = plan_slots(todo[0].config.hardware)
        _interrupt_on_signals()
        with Screen(study, len(todo), len(slots)) as screen:
            _Runner(slots, screen).run(sorted(todo, key=lambda cell: -cell.work))
    require_results(cells)


def preload(cells: Sequence[Cell]) -> list[str]:
    """Name the modules to import once for all cells; torch._dynamo, 0.7 s, only where needed."""
    optimizers = {cell.config.optim.optimizer["_target_"] for cell in cells}
    needed = cells[0].config.hardware.compile or optimizers != {"harness.optim.adamw"}
    return ["torch._dynamo"] * needed + ["harness.study.nursery"]


def require_results(cells: Sequence[Cell]) -> None:
    """Say how the cells stand.

    Raises
    ------
    StudyFailed
        Some of the cells have no result.
    """
    states = [cell_state(cell.folder, cell.entry) for cell in cells]
    say(f"{summary(states)}\n{cells[0].folder.parent.parent}")
    without = [cell for cell in cells if not _has_result(cell.folder)]
    if without:
        raise StudyFailed(
            f"{len(without)} of {len(cells)} cells have no result: run the same command to retry"
        )


def _interrupt_on_signals() -> None:
    """Treat the other signals that ask to stop like Ctrl-C; what ``nohup`` ignores stays so."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


class _Runner:
    def __init__(self, slots: list[Slot], screen: Screen) -> None:
        self.n_slots, self.free, self.screen = len(slots), list(slots), screen
        self.running: list[_Try] = []
        os.environ.setdefault("OMP_NUM_THREADS", str(slots[0].threads))
        self.context = multiprocessing.get_context("forkserver")

    def run(self, todo: list[Cell]) -> None:
        self.context.set_forkserver_preload(preload(todo))
        try:
            broken = self._broken_arms(todo)
            self._run_all(_Queue([cell for cell in todo if cell.config.arm not in broken]))
        except KeyboardInterrupt:
            self.screen.say("stopping: every running cell saves its state first (again: at once)")
            try:
                _stop()
            except KeyboardInterrupt:
                _stop()
            raise

    def _run_all(self, queue: _Queue) -> None:
        while queue.waiting or queue.busy or self.running:
            while queue.waiting and self.free and not self._stop_for_budget(queue):
                self._start(child.run_cell, queue.waiting.pop(0))
            for trial in self._ended():
                self._settle(trial, queue)
            self._look_after_busy(queue)
            if queue.waiting and _hopeless(queue):
                self.screen.say(f"stopping: the first {ALIKE} cells all failed alike")
                queue.waiting.clear()

    def _start(self, function: Callable[..., None], cell: Cell, *arguments: int) -> None:
        slot = self.free.pop(0)
        given = (cell.folder, slot, sys.orig_argv, *arguments)
        process = self.context.Process(target=function, args=given)
        process.start()
        self.running.append(_Try(cell=cell, slot=slot, process=process))

    def _ended(self) -> list[_Try]:
        """Wait a moment, then return the processes that have ended; their slots are free."""
        wait([trial.process.sentinel for trial in self.running], POLL_SECONDS)
        ended = [trial for trial in self.running if not trial.process.is_alive()]
        for trial in ended:
            self.running.remove(trial)
            self.free.append(trial.slot)
        self.screen.refresh()
        return ended

    def _stop_for_budget(self, queue: _Queue) -> bool:
        cell = queue.waiting[0]
        reason = over_budget(cell.config.budget, cell.folder.parent.parent)
        if reason:
            self.screen.say(f"stopping: {reason}; {len(queue.waiting)} cells are not started")
            queue.waiting.clear()
        return bool(reason)

    def _broken_arms(self, todo: list[Cell]) -> set[str]:
        """Take one cheap step of every arm that has not begun, so that a typo costs seconds."""
        begun = {cell.config.arm for cell in todo if _has_begun(cell.folder)}
        arms = {cell.config.arm: cell for cell in reversed(todo) if cell.config.arm not in begun}
        broken, pending = set(), list(arms.values())
        while pending or self.running:
            while pending and self.free:
                self._start(child.rehearse, pending.pop(), self.n_slots)
            for trial in self._ended():
                if trial.process.exitcode:
                    arm = trial.cell.config.arm
                    broken.add(arm)
                    self.screen.say(f"{arm} cannot take a step: {_why(trial.cell.folder)}")
        return broken

    def _settle(self, trial: _Try, queue: _Queue) -> None:
        cell, folder = trial.cell, trial.cell.folder
        if _has_result(folder):
            _tidy(folder)
            queue.outcomes.append("")
            self.screen.done(describe(read_record(folder), folder))
            return
        if trial.process.exitcode == EXIT_BUSY or living_owner(folder):
            queue.busy.append(cell)
            return
        if not _was_preempted(folder) and not queue.tried.get(folder):
            queue.tried[folder] = 1
            queue.waiting.insert(0, cell)
            self.screen.say(f"{cell.name} crashed and is tried once more: {_why(folder)}")
            _keep_log(folder)
            return
        queue.outcomes.append(_why(folder))
        self.screen.done(f"no result: {cell.name}: {_why(folder)}; {folder / LOG_FILE}")

    def _look_after_busy(self, queue: _Queue) -> None:
        """Take up the cells whose other launcher has died, count those that it finished."""
        for cell in list(queue.busy):
            done = finished_record(cell.folder)
            if done is None and living_owner(cell.folder):
                continue
            queue.busy.remove(cell)
            if done is None:
                queue.waiting.append(cell)
            else:
                self.screen.done(f"by another launcher: {describe(done, cell.folder)}")


def _stop() -> None:
    """Ask every process to stop, and wait for them; asked twice, they stop at once."""
    processes = multiprocessing.active_children()
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()


def _tidy(folder: Path) -> None:
    """Remove what a cell leaves that was killed after its final record was written."""
    if not living_owner(folder):
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        (folder / LOCK_FILE).unlink(missing_ok=True)


def _keep_log(folder: Path) -> None:
    """Move the log of a crashed try aside, as ``log.1.txt`` or the next free number."""
    n = 1 + len(list(folder.glob("log.*.txt")))
    (folder / LOG_FILE).rename(folder / f"log.{n}.txt")


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
