"""Output projections that start at zero (modded-nanogpt, record 5)."""

from __future__ import annotations

import re

import torch
from torch import nn

RESIDUAL = re.compile(r"\.(attn\.proj|mlp\.(.+\.)?down)$")
"""An MLP's experts have one each."""


@torch.no_grad()
def zero_init_proj(model: nn.Module) -> None:
    """Let every block start as the identity."""
    for name, module in model.named_modules():
        if RESIDUAL.search(name):
            for parameter in module.parameters():
                parameter.zero_()
