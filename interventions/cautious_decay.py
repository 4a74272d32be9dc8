"""Weight decay that never works against the optimiser's step (Chen et al. 2025, eq. 3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class CautiousWeightDecay:
    """Decay only weights that the step moves towards zero, whatever optimiser takes it.

    x' = x - lr u - lr decay [u x >= 0] x, where u is the optimiser's step without decay.
    """

    def __init__(self) -> None:
        self.before: list[list[Tensor]] = []
        self.decays: list[float] = []

    def gradients_ready(self, model: nn.Module, step: int, optimizer: Any) -> None:
        """Take the decay out of the optimiser's step."""
        groups = optimizer.param_groups
        self.decays = [group["weight_decay"] for group in groups]
        self.before = [
            [p.detach().clone() for p in group["params"]] if decay else []
            for group, decay in zip(groups, self.decays, strict=True)
        ]
        for group in groups:
            group["weight_decay"] = 0.0

    @torch.no_grad()
    def step_done(self, model: nn.Module, step: int, training: Any) -> None:
        """Decay what the step shrinks, if it was taken and moved the parameter at all."""
        for group, decay, before in zip(
            training.optimizer.param_groups, self.decays, self.before, strict=True
        ):
            group["weight_decay"] = decay
            for p, old in zip(group["params"], before, strict=bool(before)):
                shrinks = ((old - p) * old >= 0) & training.stepped & (p != old).any()
                p.sub_(old * shrinks, alpha=group["lr"] * decay)
        self.before, self.decays = [], []
