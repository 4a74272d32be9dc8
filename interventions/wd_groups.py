"""Weight decay where it shrinks a map, not where it shrinks a scale, a shift or a lookup."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def adamw(model: nn.Module, config: Any) -> torch.optim.Optimizer:
    """AdamW with the settings of an `OptimConfig`; it decays matrices, embeddings aside."""
    looked_up = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    decayed: list[Tensor] = []
    kept: list[Tensor] = []
    for parameter in model.parameters():
        is_map = parameter.dim() >= 2 and id(parameter) not in looked_up
        (decayed if is_map else kept).append(parameter)
    beta1, beta2 = config.betas
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        groups,
        lr=config.lr,
        betas=(beta1, beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )
