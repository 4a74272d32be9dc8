"""Label smoothing (Szegedy et al. 2016, section 7)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def label_smoothing(
    loss: Tensor, logits_BTV: Tensor, y_BT: Tensor, model: nn.Module, eps: float
) -> Tensor:
    """Return the cross-entropy with (1 - eps) on the target and eps spread over all tokens."""
    return F.cross_entropy(logits_BTV.flatten(0, 1), y_BT.flatten(), label_smoothing=eps)
