"""Slots: the part of this machine that one cell gets."""

from __future__ import annotations

import os
from dataclasses import dataclass

from harness.config import ConfigError, HardwareConfig
from harness.engine.machine import allowed_cores, n_cores, share_cores, visible_gpus


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """Some GPUs, or some CPU cores."""

    gpus: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()
    threads: int = 1
    n_devices: int = 1
    n_processes: int = 1
    """Of all slots together."""

    def occupy(self) -> None:
        """Confine this process to the slot; must come before the first use of a GPU."""
        share_cores(self.n_processes)
        if self.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        elif self.cores:
            os.sched_setaffinity(0, self.cores)


def on_cpu(hardware: HardwareConfig) -> bool:
    """Tell whether cells train on the CPU of this machine."""
    return hardware.device == "cpu" or (hardware.device == "auto" and not visible_gpus())


def plan_slots(hardware: HardwareConfig, cells_per_gpu: int = 1) -> list[Slot]:
    """Divide this machine into slots: so many on each GPU, or one per group of CPU cores.

    What is not here, or more than there is, is refused with a `ConfigError`.
    """
    gpus = [] if hardware.device == "cpu" else visible_gpus()
    if on_cpu(hardware):
        return _cpu_slots(hardware)
    named = ["cuda", *(f"cuda:{i}" for i in range(len(gpus)))] if gpus else []
    available = ["auto", "cpu", *named]
    if hardware.device not in available:
        raise ConfigError(
            f"hardware.device={hardware.device} is not here; available: {', '.join(available)}"
        )
    if hardware.device in ("auto", "cuda"):
        return _gpu_slots(hardware, gpus, cells_per_gpu)
    if hardware.n_devices > 1 or (hardware.slots or 1) > 1:
        raise ConfigError(
            f"hardware.device={hardware.device} is one GPU: leave hardware.n_devices and "
            "hardware.slots unset, or name hardware.device=cuda"
        )
    return [Slot(threads=hardware.threads, n_processes=cells_per_gpu)] * cells_per_gpu


def _gpu_slots(hardware: HardwareConfig, gpus: list[str], cells_per_gpu: int) -> list[Slot]:
    n = hardware.n_devices
    groups = [tuple(gpus[i : i + n]) for i in range(0, len(gpus) - n + 1, n)] * cells_per_gpu
    if not groups:
        raise ConfigError(
            f"hardware.n_devices={n}: a cell would need {n} GPUs, {len(gpus)} are visible"
        )
    if hardware.slots is not None and hardware.slots > len(groups):
        raise ConfigError(
            f"hardware.slots={hardware.slots}: at most {len(groups)} with {len(gpus)} GPUs, "
            f"hardware.n_devices={n} and hardware.cells_per_gpu={cells_per_gpu}; "
            "leave it unset for as many as fit"
        )
    kept = groups[: hardware.slots]
    return [
        Slot(gpus=group, threads=hardware.threads, n_devices=n, n_processes=len(kept) * n)
        for group in kept
    ]


def _cpu_slots(hardware: HardwareConfig) -> list[Slot]:
    cores, usable = allowed_cores(), n_cores()
    n = hardware.threads * hardware.n_devices
    n_slots = hardware.slots or max(1, usable // n)
    if n_slots > usable:
        raise ConfigError(
            f"hardware.slots={n_slots}: this process may use {usable} CPU cores; "
            "leave it unset for as many as fit"
        )
    if n_slots * n > usable or usable < len(cores) or not hasattr(os, "sched_setaffinity"):
        cores = []  # no slot is confined to some of them
    return [
        Slot(
            cores=tuple(cores[i * n : (i + 1) * n]),
            threads=hardware.threads,
            n_devices=hardware.n_devices,
            n_processes=n_slots * hardware.n_devices,
        )
        for i in range(n_slots)
    ]
