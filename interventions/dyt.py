"""Dynamic tanh (Zhu et al. 2025, eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.model import ModelConfig


class DyT(nn.Module):
    """weight tanh(alpha x) + bias, with one alpha for all channels."""

    def __init__(self, config: ModelConfig, alpha: float = 0.5) -> None:
        super().__init__()
        self.initial_alpha = alpha
        self.alpha = nn.Parameter(torch.empty(()))
        self.weight = nn.Parameter(torch.empty(config.n_embd))
        self.bias = nn.Parameter(torch.empty(config.n_embd))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as tanh(alpha x)."""
        nn.init.constant_(self.alpha, self.initial_alpha)
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """x_BTC -> x_BTC."""
        return self.weight * (self.alpha * x_BTC).tanh() + self.bias
