"""Optimiser slots: called with the model and the `OptimConfig`."""

from __future__ import annotations

import torch
from torch import nn

from harness.config import OptimConfig


def adamw(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW with decoupled weight decay on every parameter (Loshchilov & Hutter 2019)."""
    beta1, beta2 = config.betas
    return torch.optim.AdamW(
        model.parameters(),
        lr=config.lr,
        betas=(beta1, beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )
