"""The embeddings at every block's door (modded-nanogpt, record 9)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from harness.model import Block, Context, ModelConfig


class X0Block(Block):
    """A block that reads r x + l x0; at first r = 1 and l = 0."""

    def __init__(self, config: ModelConfig, layer: int, **options: Any) -> None:
        super().__init__(config, layer, **options)
        self.mixture = Mixture()

    def forward(self, x_BTC: Tensor, ctx: Context) -> Tensor:
        """x_BTC -> x_BTC."""
        return super().forward(self.mixture(x_BTC, ctx.x0_BTC), ctx)


class Mixture(nn.Module):
    """The learned scales of a block's input and of the embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.resid, self.x0 = nn.Parameter(torch.empty(())), nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with x alone."""
        nn.init.ones_(self.resid)
        nn.init.zeros_(self.x0)

    def forward(self, x_BTC: Tensor, x0_BTC: Tensor) -> Tensor:
        """Return the mixture."""
        return self.resid * x_BTC + self.x0 * x0_BTC
