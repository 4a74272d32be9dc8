"""Norms after the branches, too (Gemma Team 2024, Gemma 2, section 2)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from harness.model import Block, Context, ModelConfig, build_part, call


class SandwichBlock(Block):
    """x + norm(attention(norm(x))), and likewise with the MLP."""

    def __init__(self, config: ModelConfig, layer: int, **options: Any) -> None:
        super().__init__(config, layer, **options)
        self.after1 = build_part(config.norm, config, layer)
        if self.norm2 is not None:
            self.after2 = build_part(config.norm, config, layer)

    def forward(self, x_BTC: Tensor, ctx: Context) -> Tensor:
        """x_BTC -> x_BTC."""
        normed_BTC = call(self.norm1, x_BTC, ctx)
        out_BTC = call(self.attn, normed_BTC, ctx)
        if self.norm2 is None:
            out_BTC = out_BTC + call(self.mlp, normed_BTC, ctx)
            return x_BTC + self.branch(call(self.after1, out_BTC, ctx))
        x_BTC = x_BTC + self.branch(call(self.after1, out_BTC, ctx))
        out_BTC = call(self.mlp, call(self.norm2, x_BTC, ctx), ctx)
        return x_BTC + self.branch(call(self.after2, out_BTC, ctx))
