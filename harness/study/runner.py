"""Run a study's cells on this machine, each in a process forked from one that has the imports.

A failing cell never stops its neighbours; a finished one is skipped; one that another launcher
runs is left to it, and taken over if that launcher dies.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from shlex import quote

from harness.cell.console import EXIT_BUSY, ONE_REQUEST_SECONDS, StudyFailed, same_command, say
from harness.cell.lock import living_owner
from harness.config import Backend
from harness.records import RecordError, Status
from harness.records.cell import describe
from harness.records.files import now
from harness.study import process
from harness.study.display import Screen, summary
from harness.study.outcome import keep_log, over_budget, result, tidy, why, written_since
from harness.study.packing import sharing
from harness.study.plan import PlannedCell
from harness.study.room import in_memory
from harness.study.slots import Slot, plan_slots
from harness.study.states import cell_state
from harness.tracking.base import upload_command
from harness.tracking.live import sync_command, target_of
from harness.tracking.receipts import arrived

OUT_OF_MEMORY = "as Linux sends it when memory runs out: hardware.slots=N runs fewer cells at once"
POLL_SECONDS = 1.0
ALIKE = 3
"""So many first cells that fail alike stop a study."""


def run_cells(cells: Sequence[PlannedCell]) -> None:
    """Run the cells that have no result, as many at once as there are slots, the largest first.

    Raises `StudyFailed` if some have no result then; they and their errors have been listed.
    """
    todo = []
    for cell in cells:
        try:
            done = cell.result()
        except RecordError as error:  # who it was written by may still want it
            say(f"left out: {error}")
            continue
        if done is None:
            todo.append(cell)
        else:
            say(f"skipped, already {describe(done, cell.folder)}")
            tidy(cell)
    if todo:
        with sharing(todo[0].config) as cells_per_gpu:
            slots = plan_slots(todo[0].config.hardware, cells_per_gpu)
            _run(todo, in_memory(slots, [cell.config for cell in todo]))
    require_results(cells)


def _run(todo: Sequence[PlannedCell], slots: Sequence[Slot]) -> None:
    process.prepare(preload(todo), slots[0].threads)
    _interrupt_on_signals()
    with Screen(todo[0].study, len(todo), len(slots)) as screen:
        _Runner(sorted(todo, key=lambda cell: -cell.work), slots, screen).run()


def preload(cells: Sequence[PlannedCell]) -> list[str]:
    """Name the modules to import once for all cells; torch._dynamo, 0.7 s, only where needed."""
    optimizers = {cell.config.optim.optimizer["_target_"] for cell in cells}
    needed = cells[0].config.hardware.compile or optimizers != {"harness.optim.adamw"}
    return ["torch._dynamo"] * needed + ["harness.study.nursery"]


def require_results(cells: Sequence[PlannedCell]) -> None:
    """Say how the cells stand; `StudyFailed` if some of them have no result."""
    states = [cell_state(cell, cell.entry) for cell in cells]
    studies = dict.fromkeys(str(cell.study) for cell in cells)
    say("\n".join([summary(states), *studies]))
    _say_of_tracker(cells)
    without = [cell for cell in cells if not result(cell)]
    if without:
        raise StudyFailed(
            f"{len(without)} of {len(cells)} cells have no result: {_advice(without)}"
        )


def _say_of_tracker(cells: Sequence[PlannedCell]) -> None:
    """Say where the runs can be looked at, and which did not get there: cells tell their logs."""
    config, done = cells[0].config, [cell for cell in cells if result(cell)]
    backend = config.tracking.backend
    if backend is Backend.none:
        return
    away = [cell for cell in done if not arrived(cell.folder, target_of(cell.config))]
    if away:
        say(
            f"warning: {len(away)} of {len(done)} cells are not in {backend.value} (see "
            f"{away[0].log_file}): {sync_command(away[0].config, away[0])} sends them"
        )
    if backend is Backend.trackio:
        say(f"look with: trackio show --project {quote(target_of(config).project)}")
    elif command := upload_command(cells[0].study.folder):
        say(f"upload with: {command}")


def _advice(without: Sequence[PlannedCell]) -> str:
    """Say how the cells without a result come to one."""
    if over := over_budget(without[0].config.budget, without[0].study):
        return f"{over}: raise it to go on"
    records = [record for cell in without if (record := written_since(cell))]
    lines = {record.line_to_fix for record in records if record.line_to_fix}
    if lines:
        return f"fix {', '.join(sorted(lines))}, then run {same_command()} again"
    if any(record.status is Status.FAILED for record in records):
        return f"fix what failed, then run {same_command()} again"
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

    for number in process.STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)


@dataclass(kw_only=True, slots=True)
class _Try:
    """A cell in its process."""

    cell: PlannedCell
    slot: Slot
    process: BaseProcess
    started: str

    @property
    def why(self) -> str:
        """What went wrong: the signal that ended the cell, its error, or its log's last line."""
        said, number = why(self.cell, self.started), -(self.process.exitcode or 0)
        if number <= 0:
            return said
        memory = f", {OUT_OF_MEMORY}" if number == signal.SIGKILL else ""
        return f"signal {number} ({signal.strsignal(number)}){memory}; its last line: {said}"

    @property
    def was_stopped(self) -> bool:
        """Whether the cell was asked to stop, or lost its folder: no reason to try it again."""
        record = written_since(self.cell, self.started)
        stopped = record is not None and record.status is Status.STOPPED
        return stopped or not self.cell.folder.is_dir()


class _Runner:
    """The cells that wait, those that run, and what became of the rest."""

    def __init__(self, todo: Sequence[PlannedCell], slots: Sequence[Slot], screen: Screen) -> None:
        self.waiting, self.screen = list(todo), screen
        self.n_slots, self.free = len(slots), list(slots)
        self.running: list[_Try] = []
        self.busy: list[PlannedCell] = []
        """Run by another launcher; looked at again from time to time."""
        self.crashed: set[PlannedCell] = set()
        """Cells that have had their second chance."""
        self.errors: list[str] = []
        """Of the cells that ended so far, empty for a result."""

    def run(self) -> None:
        """Run everything; after Ctrl-C, once all running cells have saved their state, raise it."""
        try:
            self._drop_broken_arms()
            while self.waiting or self.busy or self.running:
                while self.waiting and self.free and not self._stop_for_budget():
                    self._start(process.run_in_slot, self.waiting.pop(0))
                for trial in self._ended():
                    self._settle(trial)
                self._look_after_busy()
                self._stop_if_hopeless()
        except KeyboardInterrupt:
            self.screen.say("stopping: every running cell saves its state first (again: at once)")
            with suppress(KeyboardInterrupt):
                _stop_all()
            _stop_all()
            raise

    def _drop_broken_arms(self) -> None:
        """Take one cheap step of every arm that has not begun, so that a typo costs seconds.

        Who dies without having said why, killed from outside perhaps, gets a second chance.
        """
        begun = {
            cell.config.arm
            for cell in self.waiting
            if (record := written_since(cell)) and record.status is not Status.FAILED
        }
        arms = {cell.config.arm: cell for cell in reversed(self.waiting)}
        pending = [cell for arm, cell in arms.items() if arm not in begun]
        broken, again = set(), set()
        while pending or self.running:
            while pending and self.free:
                self._start(process.rehearse_in_slot, pending.pop(), self.n_slots)
            for trial in self._ended():
                arm, code = trial.cell.config.arm, trial.process.exitcode
                if code not in (0, 1) and arm not in again:
                    again.add(arm)
                    pending.append(trial.cell)
                    self.screen.say(f"{arm} crashed in its first step: trying once more")
                elif code:
                    broken.add(arm)
                    self.screen.say(f"{arm} cannot take a step: {trial.why}")
        self.waiting = [cell for cell in self.waiting if cell.config.arm not in broken]

    def _start(self, function: Callable[..., None], cell: PlannedCell, *arguments: int) -> None:
        slot, started = self.free.pop(0), now()
        child = process.start(function, cell.folder, slot, sys.orig_argv, *arguments)
        self.running.append(_Try(cell=cell, slot=slot, process=child, started=started))

    def _ended(self) -> list[_Try]:
        """Wait a moment, then return the processes that have ended; their slots are free."""
        wait([trial.process.sentinel for trial in self.running], POLL_SECONDS)
        ended = [trial for trial in self.running if not trial.process.is_alive()]
        for trial in ended:
            self.running.remove(trial)
            self.free.append(trial.slot)
        self.screen.refresh()
        return ended

    def _settle(self, trial: _Try) -> None:
        """Take what a cell's process has left: a result, an error, or a reason to try it again."""
        cell = trial.cell
        if record := result(cell):
            tidy(cell)
            self.errors.append("")
            self.screen.done(describe(record, cell.folder))
        elif trial.process.exitcode == EXIT_BUSY or living_owner(cell.folder):
            self.busy.append(cell)
        elif cell in self.crashed or trial.was_stopped:
            self.errors.append(trial.why)
            self.screen.done(f"no result: {cell.name}: {trial.why}; {cell.log_file}")
        else:
            self.crashed.add(cell)
            self.waiting.insert(0, cell)
            self.screen.say(f"{cell.name} crashed and is tried once more: {trial.why}")
            keep_log(cell)

    def _look_after_busy(self) -> None:
        """Take up the cells whose other launcher has died, count those that it finished."""
        for cell in list(self.busy):
            if record := result(cell):
                self.busy.remove(cell)
                self.screen.done(f"by another launcher: {describe(record, cell.folder)}")
            elif not living_owner(cell.folder):
                self.busy.remove(cell)
                self.waiting.append(cell)

    def _stop_for_budget(self) -> bool:
        cell = self.waiting[0]
        reason = over_budget(cell.config.budget, cell.study)
        if reason:
            self.screen.say(f"stopping: {reason}; {len(self.waiting)} cells are not started")
            self.waiting.clear()
        return bool(reason)

    def _stop_if_hopeless(self) -> None:
        first = self.errors[:ALIKE]
        if self.waiting and len(first) == ALIKE and first[0] and len(set(first)) == 1:
            self.screen.say(f"stopping: the first {ALIKE} cells all failed alike")
            self.waiting.clear()


def _stop_all() -> None:
    """Ask every process to stop, and wait for them; asked twice, they stop at once."""
    processes = multiprocessing.active_children()
    for child in processes:
        child.terminate()
    for child in processes:
        child.join()
