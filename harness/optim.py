"""Optimiser slots: called with the model and the `OptimConfig`.

Every parameter group trains at a rate of its own: ``optim.lr`` x the schedule x ``lr_scale``. A
factory gives a group either its ``lr``, which the schedule then moves in step with the others, or
its ``lr_scale``.
"""

from __future__ import annotations

import math
from inspect import unwrap
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from harness.config import ConfigError, OptimConfig


class AdamW(torch.optim.AdamW):
    """PyTorch's, without what guards its methods from being compiled.

    The guards import ``torch._dynamo``, 0.7 s; optimisers are not compiled here.
    """

    add_param_group = unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = unwrap(torch.optim.AdamW.zero_grad)
    state_dict = unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = unwrap(torch.optim.AdamW.load_state_dict)
    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))


def adamw(model: nn.Module, config: OptimConfig) -> Optimizer:
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


def settle_rates(optimizer: Optimizer, lr: float) -> None:
    """Give every parameter group its ``lr_scale``: its learning rate as a multiple of `lr`.

    `ConfigError` where a group has both, and they disagree.
    """
    for number, group in enumerate(optimizer.param_groups):
        given = float(group.setdefault("lr", lr))
        scale = group.setdefault("lr_scale", given / lr)
        # PyTorch fills in the optimiser's own rate where a group gives its scale alone
        if given != lr and not math.isclose(given, lr * scale, rel_tol=1e-6):
            raise ConfigError(
                f"optim.optimizer: parameter group {number} has lr={given:g} and "
                f"lr_scale={scale:g}, but optim.lr={lr:g} times lr_scale is {lr * scale:g}: "
                "give the group one of the two"
            )


def set_rates(optimizer: Optimizer, lr: float) -> None:
    """Let every parameter group train at its multiple of `lr` from now on."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def load_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Restore an optimiser's ``state_dict``.

    `ConfigError` where it was saved by a version that trained all groups at ``optim.lr``.
    """
    scales = [group["lr_scale"] for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, scale in zip(optimizer.param_groups, scales, strict=True):
        if "lr_scale" not in group and scale != 1:
            raise ConfigError(
                "the checkpoint was saved by a version that trained every parameter group at "
                f"optim.lr, and one group's lr_scale is {scale:g}: delete the cell's checkpoints "
                "to train it from the start"
            )
        group.setdefault("lr_scale", scale)


def clip_gradients(model: nn.Module, max_norm: float | None) -> torch.Tensor:
    """Return the norm of all gradients together, a scalar; scale them down to `max_norm` if set."""
    if max_norm is not None:
        return nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return nn.utils.get_total_norm(gradients)
