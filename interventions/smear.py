"""The previous token's embedding, added through a gate (modded-nanogpt, record 34)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.model import ModelConfig, TokenEmbedding

N_GATE_CHANNELS = 12


class SmearedEmbedding(TokenEmbedding):
    """x_t + gate(x_t) x_(t-1)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.gate = SmearGate(min(N_GATE_CHANNELS, config.n_embd))

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Token ids -> x_BTC."""
        x_BTC = super().forward(ids_BT)
        before_BTC = F.pad(x_BTC[:, :-1], (0, 0, 1, 0))
        return x_BTC + self.gate(x_BTC) * before_BTC  # type: ignore[no-any-return]


class SmearGate(nn.Module):
    """strength sigmoid(weight x), from the first channels of x; the strength is 0 at first."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_channels))
        self.strength = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start closed."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.strength)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Return the gate, [B, T, 1]."""
        score_BT = x_BTC[..., : len(self.weight)] @ self.weight
        return self.strength * score_BT.sigmoid()[..., None]
