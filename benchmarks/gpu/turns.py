"""Several measurements made ready side by side, since compiling is the CPU's work; timed alone."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from harness.cell.speed.step_timing import Trial
from harness.engine.machine import share_cores

Meet = Callable[[], object]
Job = Callable[[Meet], Trial | None]
"""Makes ready, calls what it is given, and times; None: memory ran out. It is pickled."""
Outcome = Trial | str
"""What was measured, or in words why nothing was."""
NO_MEMORY = "out of memory"
GRACE_SECONDS = 60.0
"""What getting ready may take beyond the time until which jobs are begun, and what timing may."""


@dataclass(frozen=True, slots=True)
class _Started:
    number: int
    process: BaseProcess
    pipe: Connection


def in_turns(
    jobs: Sequence[Job], at_once: int, seconds_left: Callable[[], float]
) -> Iterator[tuple[int, Outcome]]:
    """Yield each job's number and outcome, `at_once` at a time; the rest when the time is over.

    One whose memory ran out beside others is tried again alone.
    """
    again = []
    for start in range(0, len(jobs), at_once):
        numbers = range(start, min(start + at_once, len(jobs)))
        for number, outcome in _batch(jobs, numbers, seconds_left):
            if outcome == NO_MEMORY and len(numbers) > 1:
                again.append(number)
            else:
                yield number, outcome
    for number in again:
        yield from _batch(jobs, [number], seconds_left)


def _batch(
    jobs: Sequence[Job], numbers: Sequence[int], seconds_left: Callable[[], float]
) -> Iterator[tuple[int, Outcome]]:
    if seconds_left() <= 0:
        return
    until = time.monotonic() + seconds_left() + GRACE_SECONDS
    started = [_start(jobs[number], number, len(numbers)) for number in numbers]
    try:
        first = {job.number: answer for job, answer in _answers(started, until)}
        for job in started:
            answer = first.get(job.number, "not ready in time")
            if answer is None:  # ready
                job.pipe.send(None)
                answer = _timed(job)
            yield job.number, answer or "nothing came back"
    finally:
        for job in started:
            job.process.kill()
            job.process.join()


def _start(job: Job, number: int, n: int) -> _Started:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(job, theirs, n))
    process.start()
    theirs.close()
    return _Started(number, process, ours)


def _work(job: Job, pipe: Connection, n: int) -> None:
    """Say None when ready, wait for the turn, then say the outcome."""
    share_cores(n)

    def meet() -> None:
        pipe.send(None)
        pipe.recv()

    try:
        trial = job(meet)
    except Exception as error:  # a kernel or an arm that cannot run here must not cost the others
        first_line = f"{error}".partition("\n")[0]
        pipe.send(f"{type(error).__name__}: {first_line:.80}")
    else:
        pipe.send(trial or NO_MEMORY)


def _timed(job: _Started) -> Outcome | None:
    until = time.monotonic() + GRACE_SECONDS
    return next((answer for _, answer in _answers([job], until)), "not done in time")


def _answers(jobs: list[_Started], until: float) -> Iterator[tuple[_Started, Outcome | None]]:
    """Yield the next answer of each job, as they come; those that are late are left out."""
    by_pipe = {job.pipe: job for job in jobs}
    while by_pipe and (ready := wait(list(by_pipe), max(0.0, until - time.monotonic()))):
        for pipe in ready:
            job = by_pipe.pop(pipe)  # type: ignore[call-overload]
            try:
                yield job, job.pipe.recv()
            except EOFError:  # killed by the system
                yield job, NO_MEMORY
