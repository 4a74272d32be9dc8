"""Canon layers: each token reads the last three, too (Allen-Zhu 2025, arXiv 2512.17351)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from harness.model import MLP, CausalSelfAttention, Context, Linear, ModelConfig

KERNEL = 4


class Canon(nn.Conv1d):
    """h_t + sum over i of w_i h_(t-i), i from 0 to 3, each channel by itself."""

    def __init__(self, n_channels: int) -> None:
        super().__init__(
            n_channels, n_channels, KERNEL, groups=n_channels, padding=KERNEL - 1, bias=False
        )

    def forward(self, x_BTC: Tensor) -> Tensor:
        """x_BTC -> x_BTC."""
        T = x_BTC.shape[-2]
        return x_BTC + super().forward(x_BTC.mT)[..., :T].mT


class CanonLinear(Linear):
    """A linear layer with a canon layer after it."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None)
        self.canon = Canon(layer.out_features)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """x_BTC -> x_BTF."""
        return self.canon(super().forward(x_BTC))  # type: ignore[no-any-return]


class CanonAttention(CausalSelfAttention):
    """Attention with canon layers before it (A) and on queries, keys and values (B)."""

    def __init__(self, config: ModelConfig, layer: int, **options: Any) -> None:
        super().__init__(config, layer, **options)
        self.canon, self.qkv = Canon(config.n_embd), CanonLinear(self.qkv)

    def forward(self, x_BTC: Tensor, ctx: Context) -> Tensor:
        """x_BTC -> x_BTC."""
        return super().forward(self.canon(x_BTC), ctx)


class CanonMLP(MLP):
    """MLP with canon layers before it (C) and before its activation (D)."""

    def __init__(self, config: ModelConfig, **options: Any) -> None:
        super().__init__(config, **options)
        self.canon, self.up = Canon(config.n_embd), CanonLinear(self.up)
        if self.gate is not None:
            self.gate = CanonLinear(self.gate)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """x_BTC -> x_BTC."""
        return super().forward(self.canon(x_BTC))
