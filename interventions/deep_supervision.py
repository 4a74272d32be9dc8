"""Losses at intermediate layers (after Al-Rfou et al. 2018)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from harness.model import Context, call, cross_entropy


def deep_supervision(
    loss: Tensor, logits_BTV: Tensor, y_BT: Tensor, model: Any, ctx: Context
) -> Tensor:
    """Add each layer's own loss, through the model's norm and head.

    Here the weight of layer l of L falls from 1 to 0 over the first l / 2L of training.
    """
    inner = ctx.states_BTC[:-2]  # the last block's result is what the model predicts from
    for number, x_BTC in enumerate(inner, 1):
        until = number / (2 * (len(inner) + 1))
        weight = (1 - model.progress / until).clamp(min=0)
        early_BTV = model.head(call(model.norm, x_BTC, ctx))
        loss = loss + weight * cross_entropy(early_BTV, y_BT)
    return loss
