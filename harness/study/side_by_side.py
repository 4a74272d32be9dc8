"""Measure cells in processes of their own: one alone, or several that share a device."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from threading import Barrier, BrokenBarrierError
from typing import TYPE_CHECKING

from harness.config import Config
from harness.engine.machine import share_cores

if TYPE_CHECKING:
    from harness.cell.speed.step_timing import Trial

PATIENCE_SECONDS = 300
"""For the slowest of the cells that share a device to come to its second step."""

_barrier: Barrier


def measure(config: Config, n: int = 1) -> list[Trial] | None:
    """Time `n` such cells side by side, all within the same seconds; None: memory ran out."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(n)
    with ProcessPoolExecutor(n, context, _share, (barrier, n)) as pool:
        futures = [pool.submit(_measure, config) for _ in range(n)]
        try:
            trials = [future.result() for future in futures]
        except BrokenProcessPool:  # killed by the system
            return None
    done = [trial for trial in trials if trial is not None]
    return done if len(done) == n else None


def memory_of_a_cell(config: Config) -> int | None:
    """Return the bytes that training takes beside what all cells share; None: it ran out.

    Nothing is said of a config that takes no step: its cell will say why.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        try:
            return pool.submit(_memory_of_a_cell, config).result()
        except BrokenProcessPool:  # killed by the system
            return None


def _memory_of_a_cell(config: Config) -> int | None:
    from harness.cell.speed.step_timing import memory_of_steps

    try:
        return memory_of_steps(config)
    except Exception:  # of anybody's code
        return 0


class StepError(ValueError):
    """A config whose cells cannot take a step; the message is one line."""


def _share(barrier: Barrier, n: int) -> None:
    share_cores(n)
    global _barrier  # noqa: PLW0603 - the one way to hand it to a pool's processes
    _barrier = barrier


def _measure(config: Config) -> Trial | None:
    from harness.cell.errors import cause
    from harness.cell.speed.step_timing import run

    try:
        trial = run(config, lambda: _barrier.wait(PATIENCE_SECONDS))
    except BrokenBarrierError:
        return None
    except Exception as error:  # of anybody's code
        what = cause(error)
        words = " ".join(str(what).split())
        raise StepError(f"this config takes no step: {type(what).__name__}: {words}") from error
    if trial is None:
        _barrier.abort()  # nobody waits for this one
    return trial
