"""Loss per sequence on a fixed stretch of tokens, always in float32 and without dropout.

The number format of an arm's training is no part of its evaluation, so that arms stay comparable.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from harness.batches import gather


@torch.inference_mode()
def sequence_losses(
    model: nn.Module, tokens: np.ndarray, block_size: int, n_sequences: int, batch_size: int
) -> np.ndarray:
    """Return the mean cross-entropy of each sequence, float32 [n_sequences], nats per token.

    Parameters
    ----------
    tokens
        uint16, at least n_sequences * block_size + 1 of them; read from the first on.
    batch_size
        Sequences per forward pass: speed and memory only.
    """
    device = next(model.parameters()).device
    losses = np.empty(n_sequences, dtype=np.float32)
    with _evaluating(model):
        for start in range(0, n_sequences, batch_size):
            chosen = np.arange(start, min(start + batch_size, n_sequences))
            x_BT, y_BT = (t.to(device) for t in gather(tokens, chosen, block_size))
            logits_BVT = model(x_BT).float().transpose(1, 2)
            loss_BT = F.cross_entropy(logits_BVT, y_BT, reduction="none")
            losses[chosen] = loss_BT.mean(dim=1).cpu().numpy()
    return losses


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    was_training, precision = model.training, torch.get_float32_matmul_precision()
    model.eval()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        model.train(was_training)
