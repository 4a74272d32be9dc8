"""Random tokens in the place of some that the model reads (Bowman et al. 2016, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor


def token_dropout(
    x_BT: Tensor, y_BT: Tensor, step: int, p: float, vocab_size: int
) -> tuple[Tensor, Tensor]:
    """Replace each token that is read with probability `p`; what is predicted stays."""
    noise_BT = torch.randint(vocab_size, x_BT.shape)
    return torch.where(torch.rand(x_BT.shape) < p, noise_BT, x_BT), y_BT
