"""Measure one way to run a cell on this machine: speed and memory of a training step."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from harness.cell.build import synthetic_training
from harness.cell.speed.device import clock, limit_memory, peak_flops, peak_memory
from harness.config import Config, ConfigError
from harness.engine.devices import choose_device, settle_process
from harness.engine.memory import out_of_memory
from harness.evaluation import sequence_losses
from harness.loop import Training, accumulate_gradients, train_step
from harness.model import flops_per_token

N_TIMED = 3
"""Steps that are timed at least, after one that is not."""
N_COMPARED = 20
"""Steps that an arm is timed on, twice, to be compared with the baseline."""
MOST_APART = 0.05
"""Of two timings of the same thing."""
MOST_ROUNDS = 3
SECONDS_TIMED = {"cpu": 0, "cuda": 5}
"""A GPU's clock is at its height only at first."""
N_MICRO = 2
"""Micro-batches of a timed step at most: with two, gradients are held as in accumulation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What one way to run a cell costs."""

    tokens_per_second: float
    """Training, extrapolated from two micro-batches to a whole step."""
    eval_tokens_per_second: float
    mfu: float
    """Against `peak_flops`."""
    peak_flops: float
    """FLOP/s in the same number format: its maker's for a GPU in `engine.cards`; else of a large
    matrix product, measured here, and at least what training reached."""
    memory_bytes: int
    first_step_seconds: float
    """With the compiler's."""


def run(
    config: Config, meet: Callable[[], object] = lambda: None, seconds: float | None = None
) -> Trial | None:
    """Train a few steps of the config's micro-batch on random tokens; None: memory ran out.

    `meet` is called between the first step and the timed ones: there, others can be waited for.
    Steps are timed for so many `seconds`; None: `SECONDS_TIMED`.
    """
    device = choose_device(config.hardware.device)
    settle_process(config.hardware)
    if device.type == "cpu":
        limit_memory()
    try:
        return _measure(config, device, meet, seconds)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return None


def memory_of_steps(config: Config) -> int | None:
    """Return the bytes that two steps of the config add to this process; None: memory ran out.

    The second has the optimiser's moments beside what its backward pass needs.
    """
    device = choose_device(config.hardware.device)
    settle_process(config.hardware)
    limit_memory()
    before = peak_memory(device)
    try:
        training = _short_steps(config, device, _share(config)).training
        for step in range(2):
            train_step(training, step)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return None
    return peak_memory(device) - before


def _share(config: Config) -> int:
    """Return how many sequences of a step one of the cell's processes gets."""
    return config.train.batch_size // config.hardware.n_devices


def _measure(
    config: Config, device: torch.device, meet: Callable[[], object], seconds: float | None
) -> Trial:
    short = _short_steps(config, device, config.train.batch_size)
    t, size = short.training, short.micro_batch
    first = clock(device, lambda: train_step(t, 0))
    meet()
    step_seconds = short.seconds([0] * N_TIMED, np.median, seconds)
    sequences = t.batches.tokens[t.batches.pipeline.positions(np.arange(size))]
    evaluation = clock(device, lambda: sequence_losses(t.model, sequences, size))
    rate = config.tokens_per_step / step_seconds
    reached = rate * flops_per_token(t.model, config.model)
    peak = peak_flops(device, config, t.precision.dtype, reached)
    return Trial(
        tokens_per_second=rate,
        eval_tokens_per_second=size * config.model.block_size / evaluation,
        mfu=reached / peak,
        peak_flops=peak,
        memory_bytes=peak_memory(device),
        first_step_seconds=first,
    )


@dataclass(frozen=True, slots=True)
class _ShortSteps:
    """Steps of a few micro-batches, whose time tells that of steps of many."""

    training: Training
    micro_batch: int
    n_micro: int
    """Micro-batches of a whole step."""
    n_timed: int
    """Of one that is timed."""

    def seconds(
        self,
        steps: Sequence[int],
        average: Callable[[list[float]], float],
        at_least: float | None = None,
    ) -> float:
        """Return the average time of a whole step: a short one's and that of what it leaves out.

        The steps of these numbers are taken, again until `at_least` (None: `SECONDS_TIMED`)
        seconds are over.
        """
        t = self.training
        whole: list[float] = []
        gradients: list[float] = []
        until = time.perf_counter() + (at_least or SECONDS_TIMED[t.device.type])
        while len(whole) < len(steps) or time.perf_counter() < until:
            step = steps[len(whole) % len(steps)]
            whole.append(clock(t.device, partial(train_step, t, step)))
            gradients.append(clock(t.device, partial(accumulate_gradients, t, step)))
            t.optimizer.zero_grad(set_to_none=True)
        of_a_micro_batch = average(gradients) / self.n_timed
        return float(average(whole) + of_a_micro_batch * (self.n_micro - self.n_timed))


def _short_steps(config: Config, device: torch.device, batch_size: int) -> _ShortSteps:
    size = config.hardware.micro_batch or batch_size
    n_micro = batch_size // size
    n_timed = min(N_MICRO, n_micro)
    training = synthetic_training(config, device, size * n_timed)
    return _ShortSteps(training, size, n_micro, n_timed)


def relative_seconds(config: Config, baseline: Config) -> float:
    """Return the seconds that a token costs an arm over the baseline's, by the clock.

    In a process of its own: the baseline, the arm twice, the baseline, so that a drift of the
    machine's speed cancels; again while two timings of the same thing are too far apart.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, settle_process, (config.hardware,)) as pool:
        for _ in range(MOST_ROUNDS):
            order = (baseline, config, config, baseline)
            first, ours, ours_again, last = (pool.submit(seconds_per_token, c) for c in order)
            try:
                arm = sorted((ours.result(), ours_again.result()))
                base = sorted((first.result(), last.result()))
            except Exception as error:  # of anybody's code, or memory ran out
                what = " ".join(str(error).split())
                raise ConfigError(
                    f"train.equal_seconds: {config.arm} or its baseline takes no step here: "
                    f"{type(error).__name__}: {what:.200}"
                ) from error
            apart = max(arm[1] / arm[0], base[1] / base[0]) - 1
            if apart <= MOST_APART:
                return float(f"{(arm[0] * arm[1] / base[0] / base[1]) ** 0.5:.3g}")
    raise ConfigError(
        f"train.equal_seconds: two timings of {config.arm} or of its baseline are {apart:.0%} "
        "apart: stop what else runs on this machine, or give train.relative_seconds in a command "
        "for this arm alone"
    )


def seconds_per_token(config: Config) -> float:
    """Time steps on one device, spread over the whole training, and average over all of them.

    A mean and no median: some steps do more than others.
    """
    device = choose_device(config.hardware.device)
    short = _short_steps(config, device, _share(config))
    train_step(short.training, 0)  # with the compiler's seconds
    last = short.training.config.n_steps - 1
    seconds = short.seconds([last * i // N_COMPARED for i in range(N_COMPARED)], np.mean)
    return seconds * config.hardware.n_devices / config.tokens_per_step
