"""Slots: the part of this machine that one cell gets."""

from __future__ import annotations

import os
from dataclasses import dataclass

from harness.config import ConfigError, HardwareConfig
from harness.engine.gpus import visible_gpus


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """Some GPUs, or some CPU cores."""

    gpus: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()
    threads: int = 1
    n_devices: int = 1

    def occupy(self) -> None:
        """Confine this process to the slot; must come before the first use of a GPU."""
        if self.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        elif self.cores:
            os.sched_setaffinity(0, self.cores)


def plan_slots(hardware: HardwareConfig) -> list[Slot]:
    """Divide this machine into slots: one per GPU, or per group of CPU cores.

    Raises
    ------
    ConfigError
        The device is not here, or more slots or devices are asked for than there are.
    """
    if hardware.device == "cpu":
        return _cpu_slots(hardware)
    gpus = visible_gpus()
    if hardware.device == "auto":
        return _gpu_slots(hardware, gpus) if gpus else _cpu_slots(hardware)
    available = [
        "auto",
        "cpu",
        *(["cuda"] if gpus else []),
        *(f"cuda:{i}" for i in range(len(gpus))),
    ]
    if hardware.device not in available:
        raise ConfigError(
            f"hardware.device={hardware.device} is not here; available: {', '.join(available)}"
        )
    if hardware.device == "cuda":
        return _gpu_slots(hardware, gpus)
    if hardware.n_devices > 1 or (hardware.slots or 1) > 1:
        raise ConfigError(
            f"hardware.device={hardware.device} is one GPU: leave hardware.n_devices and "
            "hardware.slots unset, or name hardware.device=cuda"
        )
    return [Slot(threads=hardware.threads)]


def _gpu_slots(hardware: HardwareConfig, gpus: list[str]) -> list[Slot]:
    n = hardware.n_devices
    groups = [tuple(gpus[i : i + n]) for i in range(0, len(gpus) - n + 1, n)]
    if not groups:
        raise ConfigError(
            f"hardware.n_devices={n}: a cell would need {n} GPUs, {len(gpus)} are visible"
        )
    if hardware.slots is not None and hardware.slots > len(groups):
        raise ConfigError(
            f"hardware.slots={hardware.slots}: at most {len(groups)} with {len(gpus)} GPUs and "
            f"hardware.n_devices={n}; leave it unset for as many as fit"
        )
    return [
        Slot(gpus=group, threads=hardware.threads, n_devices=n)
        for group in groups[: hardware.slots]
    ]


def _cpu_slots(hardware: HardwareConfig) -> list[Slot]:
    cores = _cores()
    per_slot = hardware.threads * hardware.n_devices
    n_slots = hardware.slots or max(1, len(cores) // per_slot)
    if n_slots > len(cores):
        raise ConfigError(
            f"hardware.slots={n_slots}: this machine has {len(cores)} CPU cores; "
            "leave it unset for as many as fit"
        )
    if n_slots * per_slot > len(cores) or not hasattr(os, "sched_setaffinity"):
        groups: list[tuple[int, ...]] = [()] * n_slots  # none is confined to some cores
    else:
        groups = [tuple(cores[i * per_slot : (i + 1) * per_slot]) for i in range(n_slots)]
    return [
        Slot(cores=group, threads=hardware.threads, n_devices=hardware.n_devices)
        for group in groups
    ]


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
