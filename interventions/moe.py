"""A mixture of experts in the MLP's place (Shazeer et al. 2017, eq. 1 to 5, without noise)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from harness.model import MLP, Context, Linear, ModelConfig

# Shape suffixes: N tokens, C channels, E experts, K experts of a token, M choices (N x K).


class MixtureOfExperts(nn.Module):
    """Each token goes to the experts with the highest scores, weighted by the softmax of those.

    Parameters
    ----------
    balance
        Weight of the loss that is lowest where all experts get equally many tokens
        (Fedus et al. 2021, Switch transformers, eq. 4 to 6).
    options
        Of each expert: those of `harness.model.MLP`.
    """

    shares: Tensor
    """Part of all weight that went to each expert in the last training pass, [E]."""

    def __init__(
        self,
        config: ModelConfig,
        n_experts: int = 8,
        top_k: int = 2,
        balance: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__()
        if not 1 < top_k <= n_experts:
            raise ValueError(f"model.mlp.top_k={top_k}: from 2 to n_experts={n_experts}")
        self.n_experts, self.top_k, self.balance = n_experts, top_k, balance
        self.router = Linear(config.n_embd, n_experts, bias=False)
        self.experts = nn.ModuleList(MLP(config, **options) for _ in range(n_experts))
        self.register_buffer("shares", torch.zeros(n_experts), persistent=False)

    def forward(self, x_BTC: Tensor, ctx: Context) -> Tensor:
        """x_BTC -> x_BTC."""
        x_NC = x_BTC.flatten(0, 1)
        score_NE = self.router(x_NC).float()
        score_NK, chosen_NK = score_NE.topk(self.top_k)
        weight_NE = torch.zeros_like(score_NE).scatter(1, chosen_NK, score_NK.softmax(-1))
        if self.training:
            self.shares.copy_(weight_NE.detach().mean(0))
        out_NC = torch.zeros_like(x_NC)
        tokens_of = self.dispatched(score_NE, chosen_NK, ctx)
        for number, (expert, tokens) in enumerate(zip(self.experts, tokens_of, strict=True)):
            out_nC = weight_NE[tokens, number, None] * expert(x_NC[tokens])
            out_NC = out_NC.index_add(0, tokens, out_nC.to(out_NC.dtype))
        return out_NC.view_as(x_BTC)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def dispatched(self, score_NE: Tensor, chosen_NK: Tensor, ctx: Context) -> tuple[Tensor, ...]:
        """Return each expert's tokens, and let the model know the loss for balance.

        Not compiled: a GPU is waited for here, and with the length of the list of losses compiled
        in, each layer would be compiled by itself, until PyTorch gives up at the ninth.
        """
        if self.training and self.balance:
            ctx.aux_losses.append(self.balance * imbalance(score_NE, chosen_NK))
        return tokens_of_experts(chosen_NK, self.n_experts)


def tokens_of_experts(chosen_NK: Tensor, n_experts: int) -> tuple[Tensor, ...]:
    """Return each expert's tokens in ascending order; a GPU is waited for once."""
    sorted_M, places_M = chosen_NK.flatten().sort(stable=True)
    experts_E = torch.arange(n_experts, device=chosen_NK.device)
    ends = torch.searchsorted(sorted_M, experts_E, right=True).cpu().tolist()
    return (places_M // chosen_NK.shape[1]).tensor_split(ends[:-1])


def imbalance(score_NE: Tensor, chosen_NK: Tensor) -> Tensor:
    """Return E times the sum of share of tokens times mean probability; 1 is balance."""
    n_experts = score_NE.shape[1]
    counts_E = torch.zeros_like(score_NE).scatter(1, chosen_NK, 1.0).sum(0)
    probability_E = score_NE.softmax(-1).mean(0)
    return n_experts * (counts_E / chosen_NK.numel() * probability_E).sum()


def shares(model: nn.Module) -> dict[str, Tensor]:
    """Return how the router of each layer shares out the tokens, and the extremes of all layers."""
    layers = [part.shares for part in model.modules() if isinstance(part, MixtureOfExperts)]
    every = torch.stack(layers)
    figures = {"largest share": every.max(), "smallest share": every.min()}
    for i, share_E in enumerate(layers):
        figures |= {f"layer {i}/expert {e}": share for e, share in enumerate(share_E)}
    return figures
