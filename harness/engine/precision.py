"""Number formats of training: autocast, loss scaling and TF32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from harness.config import Autocast, PrecisionConfig

_DTYPE = {Autocast.fp16: torch.float16, Autocast.bf16: torch.bfloat16}


class Precision:
    """Carries the loss scaler; float16 alone needs one."""

    def __init__(self, config: PrecisionConfig, device: torch.device) -> None:
        self.dtype = _DTYPE.get(config.autocast)
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.autocast is Autocast.fp16)
        torch.set_float32_matmul_precision(config.matmul.name)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of the forward pass."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def backward(self, loss: Tensor) -> None:
        """Back-propagate the scaled loss."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def unscale(self, optimizer: Optimizer) -> None:
        """Bring the gradients back to their true size."""
        self.scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer, grad_norm: Tensor) -> Tensor:
        """Step unless a gradient is not finite; return whether it did, a scalar on the device.

        Where the optimiser can leave a step out on the device, nothing here waits for it.
        """
        finite = torch.isfinite(grad_norm)
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            optimizer.found_inf = 1.0 - finite.float()  # type: ignore[attr-defined]
            optimizer.step()
            del optimizer.found_inf  # type: ignore[attr-defined]
        elif finite:
            optimizer.step()
        self.scaler.update()
        return finite
