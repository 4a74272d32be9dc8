"""Norms that shrink with the depth (openai/parameter-golf)."""

from __future__ import annotations

from torch import Tensor

from harness.model import LayerNorm, ModelConfig


class ScaledLayerNorm(LayerNorm):
    """LayerNorm over sqrt(layer), layers counted from 1; the one before the head is not scaled."""

    def __init__(self, config: ModelConfig, layer: int, eps: float = 1e-5) -> None:
        super().__init__(config, eps)
        self.scale = (layer + 1) ** -0.5 if layer < config.n_layer else 1.0

    def forward(self, x_BTC: Tensor) -> Tensor:
        """x_BTC -> x_BTC."""
        return super().forward(x_BTC) * self.scale
