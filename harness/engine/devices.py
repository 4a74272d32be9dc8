"""Which device a process trains on, and what is set for the whole process."""

from __future__ import annotations

import os

import torch

from harness.config import AttentionKernel, ConfigError, HardwareConfig
from harness.engine.machine import visible_gpus
from harness.engine.memory import keep_memory


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device that ``hardware.device`` names; without a number, the `local_rank`-th.

    `ConfigError` where there is no such device.
    """
    n_gpus = torch.cuda.device_count()
    if name in ("auto", "cuda") and n_gpus:
        return torch.device(f"cuda:{local_rank}")
    if name == "auto":
        if gpus := visible_gpus():
            raise ConfigError(
                f"this machine has {len(gpus)} GPUs, but torch {torch.__version__} sees none: "
                "install a build for its driver (pytorch.org), or set hardware=cpu"
            )
        return torch.device("cpu")
    numbered = [f"cuda:{i}" for i in range(n_gpus)]
    available = ["auto", "cpu", *(["cuda"] if n_gpus else []), *numbered]
    if name not in available:
        raise ConfigError(f"hardware.device={name} is not here; available: {', '.join(available)}")
    return torch.device(name)


def settle_process(hardware: HardwareConfig) -> None:
    """Set what holds for a whole process; before its first use of a GPU."""
    torch.set_num_threads(hardware.threads)
    keep_memory()
    choose_attention(hardware.attention)
    if hardware.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def choose_attention(kernel: AttentionKernel) -> None:
    """Leave PyTorch's attention on a GPU this kernel alone; where it cannot run, torch says so."""
    if kernel is AttentionKernel.auto:
        return
    for name in ("flash", "cudnn", "mem_efficient", "math"):
        enable = getattr(torch.backends.cuda, f"enable_{name}_sdp")
        enable(name == kernel.value)
