"""Several processes on one cell, started by torchrun: who am I, and what do we agree on.

Without torchrun the world has size 1 and every function here gives back what it was given.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn


class World:
    """The processes that train one cell together."""

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0"))

    @property
    def is_main(self) -> bool:
        """Only the main process writes files."""
        return self.rank == 0

    def start(self, device: torch.device) -> None:
        """Meet the other processes."""
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if self.size > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")

    def stop(self) -> None:
        """Part from the other processes."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Return the module to call in training: gradients are averaged over the processes."""
        if self.size == 1:
            return model
        devices = [device.index] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=devices)

    def local(self, module: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
        """Return the context of one micro-batch: only the last of a step synchronises."""
        if last or not isinstance(module, nn.parallel.DistributedDataParallel):
            return nullcontext()
        context: AbstractContextManager[Any] = module.no_sync()
        return context

    def share(self, n: int) -> slice:
        """Return this process's part of `n` things in a row."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a scalar over the processes."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
            value /= self.size
        return value

    def any(self, flag: bool, device: torch.device) -> bool:
        """Tell whether the flag is up in some process."""
        if self.size == 1:
            return flag
        raised = torch.tensor(float(flag), device=device)
        dist.all_reduce(raised)
        return bool(raised.item() > 0)

    def join(self, array: np.ndarray, device: torch.device) -> np.ndarray:
        """Join the processes' parts of a float32 array, each zero outside its own share."""
        if self.size == 1:
            return array
        whole = torch.from_numpy(array).to(device)
        dist.all_reduce(whole)
        joined: np.ndarray = whole.cpu().numpy()
        return joined
