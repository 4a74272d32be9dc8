"""What a device can do at most, and what is taken of it: operations a second, memory, time."""

from __future__ import annotations

import gc
import math
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from harness.config import Autocast, Config
from harness.engine.cards import card_called
from harness.engine.machine import free_memory_bytes
from harness.engine.memory import peak_resident_bytes

MOST_PEAKS = 4
"""How often the peak is measured at most, as long as training seems to exceed it."""
MATMUL_SIZE = {"cpu": 1024, "cuda": 8192}


def clock(device: torch.device, function: Callable[[], object]) -> float:
    """Return the seconds that a call takes, until the device is done."""
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
    clock(device, lambda: square @ square)
    seconds = np.median([clock(device, lambda: square @ square) for _ in range(5)])
    return 2 * size**3 / float(seconds)


def peak_memory(device: torch.device) -> int:
    """Return the most bytes ever in use: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_resident_bytes()


def limit_memory() -> None:
    """Let allocations fail in this process before the system starts to kill others."""
    free, held = free_memory_bytes(), Path("/proc/self/statm")
    if free == math.inf or not held.exists():
        return
    used = int(held.read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + int(free), resource.RLIM_INFINITY))
