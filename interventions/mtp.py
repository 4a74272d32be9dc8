"""Predict more than the next token."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from harness.model import GPT, Context, ModelConfig, build_part, call, cross_entropy

SECOND, THIRD = 0.5, 0.25
"""Weights of the next token but one and the one after, beside the next token's 1."""


def annealed(loss: Tensor, logits_BTV: Tensor, y_BT: Tensor, model: nn.Module) -> Tensor:
    """Average the losses of the next three tokens at the same logits (modded-nanogpt, record 53).

    The weights go from 1, 0.5, 0.25 to 1, 0.5, 0 in the first third of training, to 1, 0, 0 in the
    second.
    """
    done: Any = model.progress
    second = SECOND * (2 - 3 * done).clamp(0, 1)
    third = THIRD * (1 - 3 * done).clamp(0, 1)
    total = loss + sum(
        weight * cross_entropy(logits_BTV[:, :-ahead], y_BT[:, ahead:])
        for ahead, weight in ((1, second), (2, third))
    )
    return total / (1 + second + third)  # type: ignore[no-any-return]


class HeadsGPT(GPT):
    """A block for each further token, beside the model's own head (Gloeckle et al. 2024).

    Parameters
    ----------
    n_further
        Tokens beyond the next one that are predicted.
    """

    def __init__(self, config: ModelConfig, n_further: int) -> None:
        super().__init__(config)
        last = config.n_layer - 1
        self.further = nn.ModuleList(
            build_part(config.block, config, last) for _ in range(n_further)
        )


def heads_loss(loss: Tensor, logits_BTV: Tensor, y_BT: Tensor, model: Any, ctx: Context) -> Tensor:
    """Add the losses of the further tokens, from the last block's result, to the next token's."""
    trunk_BTC = ctx.states_BTC[-2]
    for ahead, block in enumerate(model.further, 1):
        hidden_BTC = call(model.norm, call(block, trunk_BTC, ctx), ctx)
        loss = loss + cross_entropy(model.head(hidden_BTC[:, :-ahead]), y_BT[:, ahead:])
    return loss
