"""Output projections that start at zero (modded-nanogpt, record 5)."""

from __future__ import annotations

import torch
from torch import nn

RESIDUAL = (".attn.proj", ".mlp.down")


@torch.no_grad()
def zero_init_proj(model: nn.Module) -> None:
    """Let every block start as the identity."""
    for name, module in model.named_modules():
        if name.endswith(RESIDUAL):
            for parameter in module.parameters():
                parameter.zero_()
