"""Label smoothing (Szegedy et al. 2016, section 7)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def label_smoothing(
    loss: Tensor, logits_BTV: Tensor, y_BT: Tensor, model: nn.Module, eps: float
) -> Tensor:
    """Return the loss with (1 - eps) of its cross-entropy on the target, eps over all tokens."""
    logits_NV, y_N = logits_BTV.flatten(0, 1), y_BT.flatten()
    smooth, sharp = (F.cross_entropy(logits_NV, y_N, label_smoothing=e) for e in (eps, 0.0))
    return loss + (smooth - sharp)
