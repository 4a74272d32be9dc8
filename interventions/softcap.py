"""Logits within bounds (Gemma 2, section 2)."""

from __future__ import annotations

from torch import Tensor

from harness.model import Head, ModelConfig


class SoftcapHead(Head):
    """cap tanh(logits / cap)."""

    def __init__(self, config: ModelConfig, cap: float) -> None:
        super().__init__(config)
        self.cap = cap

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, in float32 also under autocast: x [..., C] -> [..., V]."""
        return self.cap * (super().forward(x).float() / self.cap).tanh()
