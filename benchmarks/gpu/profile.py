"""Where the time of a step goes, in twelve lines."""

from __future__ import annotations

import multiprocessing
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as profiler

from harness.cell.build import synthetic_training
from harness.config import Config
from harness.engine.devices import choose_device, settle_process
from harness.loop import train_step

GROUPS = {
    "matrix products": ("gemm", "cutlass", "nvjet", "xmma", "::mm", "addmm", "bmm", "_linear"),
    "attention": ("flash", "fmha", "attention", "sdpa"),
    "optimiser": ("adam", "multi_tensor", "foreach"),
    "generated kernels": ("triton",),
    "copies": ("memcpy", "memset", "copy"),
}
"""By words in a kernel's name, the first that fits; the rest is called other."""
N_STEPS = 3
N_KERNELS = 6


@dataclass(frozen=True, slots=True)
class Kernel:
    """What one kernel took, of all steps together."""

    name: str
    microseconds: float
    calls: int

    @property
    def group(self) -> str:
        """What it works on."""
        name = self.name.lower()
        found = (group for group, words in GROUPS.items() if any(w in name for w in words))
        return next(found, "other")


def lines(config: Config) -> str:
    """Profile a few steps in a process of their own; return shares by group, then the kernels."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return summarise(pool.submit(kernels, config).result())


def kernels(config: Config) -> list[Kernel]:
    """Return what ran in the steps, on the GPU where there is one."""
    device = choose_device(config.hardware.device)
    settle_process(config.hardware)
    size = config.hardware.micro_batch or config.train.batch_size
    training = synthetic_training(config, device, size)
    for step in range(2):
        train_step(training, step)
    on_gpu = device.type == "cuda"
    with profiler(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as seen:
        for step in range(N_STEPS):
            train_step(training, step)
        if on_gpu:
            torch.cuda.synchronize(device)
    key = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    return [Kernel(event.key, getattr(event, key), event.count) for event in seen.key_averages()]


def summarise(found: list[Kernel]) -> str:
    """Return twelve lines at most: the groups by their share, then the costliest kernels."""
    total = sum(kernel.microseconds for kernel in found) or 1.0
    groups: dict[str, float] = defaultdict(float)
    for kernel in found:
        groups[kernel.group] += kernel.microseconds
    shares = [
        f"{share / total:6.1%}  {group}"
        for group, share in sorted(groups.items(), key=lambda item: -item[1])
    ]
    costliest = sorted(found, key=lambda kernel: -kernel.microseconds)[:N_KERNELS]
    named = [
        f"{kernel.microseconds / total:6.1%}  {kernel.calls // N_STEPS:4} a step  "
        f"{kernel.name[:80]}"
        for kernel in costliest
    ]
    return "\n".join([*shares, *named])
