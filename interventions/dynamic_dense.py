"""Each block reads a weighted sum of all results so far (Xiao et al. 2025, MUDDFormer, eq. 5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.model import GPT, Context, Linear, ModelConfig

# Shape suffix: L results so far, the embeddings' among them.


class DenseGPT(GPT):
    """After every block, what the next one reads is put together anew."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.aggregates = nn.ModuleList(
            DepthAggregate(config.n_embd, layer + 2) for layer in range(config.n_layer)
        )

    def run_blocks(self, x_BTC: Tensor, ctx: Context) -> Tensor:
        """What the first block reads -> what the norm before the head reads."""
        results = [x_BTC]
        for block, aggregate in zip(self.blocks, self.aggregates, strict=True):
            results.append(self.run_block(block, x_BTC, ctx))
            x_BTC = aggregate(results)
        return x_BTC


class DepthAggregate(nn.Module):
    """Weights GELU(RMSNorm(x) W1) W2 + a for each token; at first the newest result alone."""

    def __init__(self, n_embd: int, n_results: int) -> None:
        super().__init__()
        self.inner = Linear(n_embd, n_results, bias=False)
        self.dynamic_LL = nn.Parameter(torch.empty(n_results, n_results))
        self.static_L = nn.Parameter(torch.empty(n_results))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Take the newest."""
        self.dynamic_LL.zero_()
        self.static_L.zero_()
        self.static_L[-1] = 1.0

    def forward(self, results: list[Tensor]) -> Tensor:
        """Return the weighted sum."""
        x_BTC = results[-1]
        inner_BTL = F.gelu(self.inner(F.rms_norm(x_BTC, x_BTC.shape[-1:])))
        weight_BTL = inner_BTL @ self.dynamic_LL + self.static_L
        total_BTC = torch.zeros_like(x_BTC)
        for weight_BT, result_BTC in zip(weight_BTL.unbind(-1), results, strict=True):
            total_BTC = total_BTC + weight_BT[..., None] * result_BTC
        return total_BTC
