"""Maximal update parametrisation for Adam (Yang et al. 2022, arXiv 2203.03466, table 8).

With m = n_embd / base_width: matrices inside the model train at 1/m of the rate, logits are
divided by m, attention scores by sqrt(m) beside the root of the head size. At the base width it is
the plain model. The number of heads stays while the width grows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from harness.model import GPT, CausalSelfAttention, Context, ModelConfig


class MupHead(nn.Linear):
    """Logits over m, from weights that start as large as those of the base width."""

    def __init__(self, config: ModelConfig, base_width: int) -> None:
        self.base_width = base_width
        super().__init__(config.n_embd, config.vocab_size, bias=False)

    def reset_parameters(self) -> None:
        """Draw from +- 1 / sqrt(base_width)."""
        bound = self.base_width**-0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits: x [..., C] -> [..., V]."""
        return super().forward(x * (self.base_width / self.in_features))


class MupAttention(CausalSelfAttention):
    """Scores over the head size, and equal to the plain ones at the base width (definition 4.1)."""

    def __init__(self, config: ModelConfig, layer: int, base_width: int, **options: Any) -> None:
        super().__init__(config, layer, **options)
        self.scale = (base_width / config.n_embd) ** 0.5

    def _attend(self, q_BHTD: Tensor, k_BGTD: Tensor, v_BGTD: Tensor, ctx: Context) -> Tensor:
        return super()._attend(q_BHTD * self.scale, k_BGTD, v_BGTD, ctx)


def adamw(model: GPT, config: Any, base_width: int) -> torch.optim.Optimizer:
    """AdamW with the settings of an `OptimConfig`; rate times decay is alike for all parameters."""
    m = model.config.n_embd / base_width
    layers = [x for x in model.modules() if isinstance(x, nn.Linear) and x is not model.head]
    inner = {id(layer.weight) for layer in layers}
    matrices = [p for p in model.parameters() if id(p) in inner]
    others = [p for p in model.parameters() if id(p) not in inner]
    decay, (beta1, beta2) = config.weight_decay, config.betas
    groups: list[dict[str, Any]] = [
        {"params": others},
        {"params": matrices, "lr_scale": 1 / m, "weight_decay": decay * m},
    ]
    return torch.optim.AdamW(
        groups, lr=config.lr, betas=(beta1, beta2), eps=config.eps, weight_decay=decay, fused=True
    )
