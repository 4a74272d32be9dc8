"""Several processes on one cell, started by torchrun: who am I, and what do we agree on.

Without torchrun the world has size 1 and every function here gives back what it was given.
"""

from __future__ import annotations

import os

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from harness.engine.machine import under_torchrun

BUCKET = 2**24
"""Elements of the gradient that are exchanged at once: 64 MB of float32."""


class World:
    """The processes that train one cell together."""

    def __init__(self) -> None:
        told = os.environ if under_torchrun() else {}
        self.rank = int(told.get("RANK", "0"))
        self.size = int(told.get("WORLD_SIZE", "1"))
        self.local_rank = int(told.get("LOCAL_RANK", "0"))

    @property
    def is_main(self) -> bool:
        """Only the main process writes files."""
        return self.rank == 0

    def start(self, device: torch.device) -> None:
        """Meet the other processes."""
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if self.size > 1 and not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")

    def stop(self) -> None:
        """Part from the other processes."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def average_gradients(self, model: nn.Module) -> None:
        """Replace every gradient by its mean over the processes, once per optimiser step.

        Sums are taken in one order, whichever step it is: DistributedDataParallel sorts its buckets
        anew after the first step of a process, so that a resumed one sums differently.
        """
        if self.size == 1:
            return
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        while gradients:
            ends = np.cumsum([gradient.numel() for gradient in gradients])
            bucket = gradients[: max(1, int(np.searchsorted(ends, BUCKET, "right")))]
            gradients = gradients[len(bucket) :]
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            dist.all_reduce(flat)
            flat /= self.size
            parts = torch.split(flat, [gradient.numel() for gradient in bucket])
            for gradient, mean in zip(bucket, parts, strict=True):
                gradient.copy_(mean.view_as(gradient))

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

    def any(self, flag: bool) -> bool:
        """Tell whether the flag is up in some process; no GPU is waited for."""
        if self.size == 1:
            return flag
        raised = torch.tensor(float(flag))
        dist.all_reduce(raised)
        return bool(raised.item() > 0)

    def join(self, array: np.ndarray) -> np.ndarray:
        """Join the processes' parts of a float32 array, each zero outside its own share."""
        if self.size == 1:
            return array
        whole = torch.from_numpy(array)
        dist.all_reduce(whole)
        joined: np.ndarray = whole.numpy()
        return joined
