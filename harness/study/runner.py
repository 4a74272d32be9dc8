"""Run a study's cells on this machine, each in a process forked from one that has the imports.

A failing cell never stops its neighbours; a finished one is skipped; one that another launcher
runs is left to it, and taken over if that launcher dies.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from harness.cell.console import say
from harness.cell.exits import EXIT_BUSY, ONE_REQUEST_SECONDS, StudyFailed, same_command
from harness.cell.lock import living_owner
from harness.records import LOG_FILE, Status
from harness.records import cell as records
from harness.records.cell import describe
from harness.records.files import now
from harness.study import process as child
from harness.study.display import Screen
from harness.study.outcome import (
    has_begun,
    keep_log,
    over_budget,
    result,
    tidy,
    was_preempted,
    why,
    written_since,
)
from harness.study.plan import Cell
from harness.study.slots import Slot, plan_slots
from harness.study.states import cell_state, summary

POLL_SECONDS = 1.0
ALIKE = 3
"""So many first cells that fail alike stop a study."""


@dataclass(kw_only=True, slots=True)
class _Try:
    """A cell in its process."""

    cell: Cell
    slot: Slot
    process: BaseProcess
    started: str

    @property
    def why(self) -> str:
        """What went wrong."""
        return why(self.cell.folder, self.started)


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
        done = records.Cell(cell.folder).result()
        if done is None:
            todo.append(cell)
        else:
            say(f"skipped, already {describe(done, cell.folder)}")
            tidy(cell.folder)
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
    without = [cell for cell in cells if not result(cell.folder)]
    if without:
        raise StudyFailed(
            f"{len(without)} of {len(cells)} cells have no result: {_advice(without)}"
        )


def _advice(without: Sequence[Cell]) -> str:
    """Say how the cells without a result come to one."""
    if over := over_budget(without[0].config.budget, without[0].folder.parent.parent):
        return f"{over}: raise it to go on"
    records = [written_since(cell.folder) for cell in without]
    lines = {record.line_to_fix for record in records if record and record.line_to_fix}
    if lines:
        return f"fix {', '.join(sorted(lines))}, then run {same_command()} again"
    if any(record and record.status is Status.FAILED for record in records):
        return f"mend what failed, then run {same_command()} again"
    return f"run {same_command()} to retry"


def _interrupt_on_signals() -> None:
    """Treat the other signals that ask to stop like Ctrl-C; what ``nohup`` ignores stays so.

    Whoever signals a process and then its whole group, as ``timeout`` does, has asked once.
    """
    asked = float("-inf")

    def interrupt(*_: object) -> None:
        nonlocal asked
        before, asked = asked, time.monotonic()
        if asked - before > ONE_REQUEST_SECONDS:
            raise KeyboardInterrupt

    for number in child.STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)


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
        started = now()
        for patience in (0.1, 1.0, 0.0):
            process = self.context.Process(target=function, args=given)
            try:
                process.start()
            except (EOFError, ConnectionError):  # a dying fork server: the next start makes one
                if not patience:
                    raise
                time.sleep(patience)
            else:
                break
        self.running.append(_Try(cell=cell, slot=slot, process=process, started=started))

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
        """Take one cheap step of every arm that has not begun, so that a typo costs seconds.

        Who dies without having said why, killed from outside perhaps, gets a second chance.
        """
        begun = {cell.config.arm for cell in todo if has_begun(cell.folder)}
        arms = {cell.config.arm: cell for cell in reversed(todo) if cell.config.arm not in begun}
        broken, again, pending = set(), set(), list(arms.values())
        while pending or self.running:
            while pending and self.free:
                self._start(child.rehearse, pending.pop(), self.n_slots)
            for trial in self._ended():
                arm, code = trial.cell.config.arm, trial.process.exitcode
                if code not in (0, 1) and arm not in again:
                    again.add(arm)
                    pending.append(trial.cell)
                    self.screen.say(f"{arm} died in its first step, which is tried once more")
                elif code:
                    broken.add(arm)
                    self.screen.say(f"{arm} cannot take a step: {trial.why}")
        return broken

    def _settle(self, trial: _Try, queue: _Queue) -> None:
        cell, folder = trial.cell, trial.cell.folder
        if record := result(folder):
            tidy(folder)
            queue.outcomes.append("")
            self.screen.done(describe(record, folder))
            return
        if trial.process.exitcode == EXIT_BUSY or living_owner(folder):
            queue.busy.append(cell)
            return
        stopped = was_preempted(folder, trial.started) or not folder.is_dir()
        if not stopped and not queue.tried.get(folder):
            queue.tried[folder] = 1
            queue.waiting.insert(0, cell)
            self.screen.say(f"{cell.name} crashed and is tried once more: {trial.why}")
            keep_log(folder)
            return
        queue.outcomes.append(trial.why)
        self.screen.done(f"no result: {cell.name}: {trial.why}; {folder / LOG_FILE}")

    def _look_after_busy(self, queue: _Queue) -> None:
        """Take up the cells whose other launcher has died, count those that it finished."""
        for cell in list(queue.busy):
            done = result(cell.folder)
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


def _hopeless(queue: _Queue) -> bool:
    first = queue.outcomes[:ALIKE]
    return len(first) == ALIKE and bool(first[0]) and len(set(first)) == 1
