"""Keep the softmax's normaliser near 1 (Chowdhery et al. 2022, PaLM, section 5)."""

from __future__ import annotations

from torch import Tensor, nn


def z_loss(
    loss: Tensor, logits_BTV: Tensor, y_BT: Tensor, model: nn.Module, weight: float
) -> Tensor:
    """Return the loss plus `weight` times the mean of log(Z)^2."""
    log_z_BT = logits_BTV.float().logsumexp(dim=-1)
    return loss + weight * log_z_BT.square().mean()
