"""Measure one way to run a cell on this machine: speed and memory of a training step."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harness.cell.build import build_training
from harness.config import Autocast, Config, ConfigError, ModelConfig, OptimConfig, scientific
from harness.engine.batches import Batches
from harness.engine.cards import card_called
from harness.engine.devices import choose_device, settle_process
from harness.engine.distributed import World
from harness.engine.memory import out_of_memory
from harness.evaluation import sequence_losses
from harness.loop import Training, accumulate_gradients, train_step
from harness.model import GPT, build, cross_entropy, flops_per_token
from harness.records.files import canonical_hash

log = logging.getLogger(__name__)

CPU = torch.device("cpu")
_COUNTED: dict[str, StepFlops] = {}
"""By the science of an arm, its seeds and tokens aside: counting takes seconds."""
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
MOST_PEAKS = 4
"""So often the peak is measured while training seems to exceed it."""
SHORT_CONTEXTS = 16, 32
"""Tokens of the sequences that a large model is counted on."""
MATMUL_SIZE = {"cpu": 1024, "cuda": 8192}


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


def run(config: Config, meet: Callable[[], object] = lambda: None) -> Trial | None:
    """Train a few steps of the config's micro-batch on random tokens; None: memory ran out.

    `meet` is called between the first step and the timed ones: there, others can be waited for.
    """
    device = choose_device(config.hardware.device)
    settle_process(config.hardware)
    if device.type == "cpu":
        limit_memory()
    try:
        return _measure(config, device, meet)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return None


def limit_memory() -> None:
    """Let allocations fail in this process before the system starts to kill others."""
    available = Path("/proc/meminfo")
    if not available.exists():
        return
    fields = dict(line.split(":") for line in available.read_text(encoding="utf-8").splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    used = (
        int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        * resource.getpagesize()
    )
    resource.setrlimit(resource.RLIMIT_AS, (used + free, resource.RLIM_INFINITY))


def _measure(config: Config, device: torch.device, meet: Callable[[], object]) -> Trial:
    size = config.hardware.micro_batch or config.train.batch_size
    n_micro = config.train.batch_size // size
    n_timed = min(N_MICRO, n_micro)
    t = synthetic_training(config, device, size * n_timed)
    first = _clock(device, lambda: train_step(t, 0))
    meet()
    whole, gradients = _timed_steps(t, [0] * N_TIMED)
    micro = np.median(gradients) / n_timed
    step_seconds = float(np.median(whole) + micro * (n_micro - n_timed))
    sequences = t.batches.tokens[t.batches.pipeline.positions(np.arange(size))]
    evaluation = _clock(device, lambda: sequence_losses(t.model, sequences, size))
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


def synthetic_training(config: Config, device: torch.device, batch_size: int) -> Training:
    """Return the config's training with `batch_size` random sequences a step, of full length."""
    train = replace(config.train, batch_size=batch_size, batch_stages=[], length_stages=[])
    config = replace(config, train=train)
    block_size = config.model.block_size
    n_tokens = batch_size * block_size + 1
    tokens = np.random.default_rng(0).integers(config.model.vocab_size, size=n_tokens)
    batches = Batches(tokens.astype(np.uint16), block_size, batch_size, None)
    training = build_training(config, batches, device, World())
    training.model.train()
    return training


@dataclass(frozen=True, slots=True)
class StepFlops:
    """Floating-point operations of training: matrix products, and attention as if dense."""

    per_sequence: float
    """Forward and backward, of `model.block_size` tokens."""
    per_step: float
    """Of the optimiser, e.g. Muon's Newton-Schulz iterations."""

    def per_token(self, config: Config) -> float:
        """Return the operations for each token of a full batch."""
        step = self.per_sequence * config.train.batch_size + self.per_step
        return step / config.tokens_per_step


def count_flops(config: Config, device: torch.device = CPU) -> StepFlops:
    """Count the operations of a step with PyTorch's counter, on one sequence of random tokens.

    Experts that a token is not sent to cost nothing; windows and sliding masks save nothing.
    """
    hardware = replace(config.hardware, compile=False, micro_batch=1)
    precision = replace(config.precision, autocast=Autocast.none, convert={})
    model = replace(config.model, dropout=0.0)
    plain = replace(config, hardware=hardware, precision=precision, model=model)
    t = synthetic_training(plain, device, 1)
    t.forward = partial(_plainly, t.model)  # type: ignore[assignment]
    with _counting() as both, sdpa_kernel(SDPBackend.MATH):
        accumulate_gradients(t, 0)
    t.events.gradients_ready(t.model, 0)
    t.optimizer.step()  # an optimiser's first may only set things up
    with FlopCounterMode(display=False) as step:
        t.optimizer.step()
    return StepFlops(both.get_total_flops(), step.get_total_flops())


def model_flops_per_token(config: ModelConfig) -> float:
    """Count a training token's operations in the model alone: three times the forward pass's.

    A large model is counted in seconds: on two short sequences, since a token's operations are
    linear in the context, and without losses of interventions and the optimiser.
    """
    if _has_plain_parts(config):
        return flops_by_weights(config)
    model = build(replace(config, dropout=0.0)).eval()
    short, longer = (min(n, config.block_size) for n in SHORT_CONTEXTS)
    first, second = (_forward_flops(model, n) / n for n in (short, longer))
    slope = (second - first) / (longer - short) if longer > short else 0.0
    return 3 * (first + slope * (config.block_size - short))


def flops_by_weights(config: ModelConfig) -> float:
    """Estimate a token's operations of a model that may be too large to be run here."""
    with torch.device("meta"):
        return flops_per_token(build(config), config)


def _forward_flops(model: GPT, n_tokens: int) -> int:
    x_BT = torch.arange(n_tokens)[None] % model.config.vocab_size
    with torch.no_grad(), _counting() as counter, sdpa_kernel(SDPBackend.MATH):
        model(x_BT)
    found: int = counter.get_total_flops()
    return found


def _counting() -> FlopCounterMode:
    known = {torch.ops.mkldnn._linear_pointwise: _linear_flops}
    return FlopCounterMode(display=False, custom_mapping=known)


def is_plain(config: Config) -> bool:
    """Tell whether the estimate is exact; counting imports torch's compiler (1.5 s)."""
    return (
        not any(card.fn for card in config.interventions.values())
        and _has_plain_parts(config.model)
        and config.optim.optimizer == OptimConfig().optimizer
    )


def _has_plain_parts(config: ModelConfig) -> bool:
    slots = [f.name for f in fields(ModelConfig) if isinstance(getattr(config, f.name), dict)]
    return all(getattr(config, name) == getattr(ModelConfig(), name) for name in slots)


def step_flops(config: Config, device: torch.device = CPU) -> StepFlops:
    """Return the operations of a step, counted once for all cells of an arm."""
    if is_plain(config):
        per_token = flops_per_token(build(config.model), config.model)
        return StepFlops(per_token * config.model.block_size, 0.0)
    science = scientific(config, "")
    del science["train"]["tokens"]
    key = canonical_hash({**science, "seeds": None})
    if key not in _COUNTED:
        _COUNTED[key] = count_flops(config, device)
    return _COUNTED[key]


def counted_or_estimated(t: Training) -> StepFlops:
    """Return the operations of a training's steps; where they cannot be counted, an estimate."""
    try:
        found = step_flops(t.config, t.device)
    except Exception as error:  # a kernel that takes no float32, one that counts as none, ...
        log.warning("FLOPs are estimated, since they could not be counted: %s", error)
        per_token = flops_per_token(t.model, t.config.model)
        found = StepFlops(per_token * t.config.model.block_size, 0.0)
    if t.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(t.device)
    return found


def _plainly(model: nn.Module, x_BT: Tensor, y_BT: Tensor | None = None) -> Tensor:
    """Return what the model does, its loss not in pieces whose sizes suit a device."""
    logits_BTV: Tensor = model(x_BT)
    return logits_BTV if y_BT is None else cross_entropy(logits_BTV, y_BT)


def _linear_flops(x: torch.Size, weight: torch.Size, *_: object, **__: object) -> int:
    return 2 * x.numel() * weight[0]


def _timed_steps(t: Training, steps: Sequence[int]) -> tuple[list[float], list[float]]:
    """Return the seconds of whole steps and of their gradients alone; on a GPU they go round."""
    whole: list[float] = []
    gradients: list[float] = []
    until = time.perf_counter() + SECONDS_TIMED[t.device.type]
    while len(whole) < len(steps) or time.perf_counter() < until:
        step = steps[len(whole) % len(steps)]
        whole.append(_clock(t.device, partial(train_step, t, step)))
        gradients.append(_clock(t.device, partial(accumulate_gradients, t, step)))
        t.optimizer.zero_grad(set_to_none=True)
    return whole, gradients


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
    share = config.train.batch_size // config.hardware.n_devices
    size = config.hardware.micro_batch or share
    n_micro = share // size
    n_timed = min(N_MICRO, n_micro)
    t = synthetic_training(config, device, size * n_timed)
    train_step(t, 0)  # with the compiler's seconds
    last = t.config.n_steps - 1
    whole, gradients = _timed_steps(t, [last * i // N_COMPARED for i in range(N_COMPARED)])
    micro = np.mean(gradients) / n_timed
    seconds = float(np.mean(whole) + micro * (n_micro - n_timed))
    return seconds * config.hardware.n_devices / config.tokens_per_step


def _clock(device: torch.device, function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def peak_flops(
    device: torch.device, config: Config, dtype: torch.dtype | None, reached: float
) -> float:
    """Return what the device can do at most: by its maker, else measured and at least `reached`."""
    card = card_called(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    if card is not None:
        return card.peak(config.precision)
    return peak_above(reached, lambda: matmul_flops(device, dtype, config))


def peak_above(reached: float, measure: Callable[[], float]) -> float:
    """Return the largest peak measured, again where training reached more; at least `reached`.

    On a machine that is busy with something else, a single measurement may be far too low.
    """
    peak = measure()
    for _ in range(MOST_PEAKS - 1):
        if peak < reached:
            peak = max(peak, measure())
    return max(peak, reached)


def matmul_flops(device: torch.device, dtype: torch.dtype | None, config: Config) -> float:
    """Return the FLOP/s of a square matrix product in the number format of the forward pass."""
    gc.collect()
    size = MATMUL_SIZE[device.type]
    if device.type == "cpu" and config.precision.autocast is not Autocast.none:
        size //= 4  # CPUs without 16-bit units take seconds otherwise
    square = torch.randn(size, size, device=device, dtype=dtype or torch.float32)
    _clock(device, lambda: square @ square)
    seconds = np.median([_clock(device, lambda: square @ square) for _ in range(5)])
    return 2 * size**3 / float(seconds)


def peak_memory(device: torch.device) -> int:
    """Return the most bytes ever in use: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
