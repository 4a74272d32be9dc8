"""Skip connections of a U-net over the layers (modded-nanogpt, record 11)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.model import GPT, Context, ModelConfig


class UNetGPT(GPT):
    """The last layer also reads the first one's result, the last but one the second's, ..."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.n_skips = config.n_layer // 2
        self.skip_weight = nn.Parameter(torch.empty(self.n_skips))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with whole skips."""
        nn.init.ones_(self.skip_weight)

    def run_blocks(self, x_BTC: Tensor, ctx: Context) -> Tensor:
        """What the first block reads -> what the last one returns."""
        results: list[Tensor] = []
        first_reader = len(self.blocks) - self.n_skips
        for i, block in enumerate(self.blocks):
            if i >= first_reader:
                x_BTC = x_BTC + self.skip_weight[i - first_reader] * results.pop()
            x_BTC = self.run_block(block, x_BTC, ctx)
            if i < self.n_skips:
                results.append(x_BTC)
        return x_BTC
