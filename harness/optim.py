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


def clip_gradients(model: nn.Module, max_norm: float | None) -> torch.Tensor:
    """Return the norm of all gradients together, a scalar; scale them down to `max_norm` if set."""
    if max_norm is not None:
        return nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return nn.utils.get_total_norm(gradients)
