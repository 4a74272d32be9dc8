"""Optimiser slots: called with the model and the `OptimConfig`."""

from __future__ import annotations

from inspect import unwrap

import torch
from torch import nn

from harness.config import OptimConfig


class AdamW(torch.optim.AdamW):
    """PyTorch's, without what guards its methods from being compiled.

    The guards import ``torch._dynamo``, 0.7 s; optimisers are not compiled here.
    """

    add_param_group = unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = unwrap(torch.optim.AdamW.zero_grad)
    state_dict = unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = unwrap(torch.optim.AdamW.load_state_dict)
    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))


def adamw(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW with decoupled weight decay on every parameter (Loshchilov & Hutter 2019)."""
    beta1, beta2 = config.betas
    return AdamW(
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
