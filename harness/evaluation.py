"""Loss per sequence on a fixed stretch of tokens, always in float32 and without dropout.

The number format of an arm's training is no part of its evaluation, so that arms stay comparable.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from harness.batches import gather
from harness.fused_loss import token_losses
from harness.model import GPT


@torch.inference_mode()
def sequence_losses(
    model: GPT, tokens: np.ndarray, block_size: int, n_sequences: int, batch_size: int
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
            loss_N = token_losses(model.head, model.hidden(x_BT).flatten(0, 1), y_BT.flatten())
            losses[chosen] = loss_N.view(y_BT.shape).mean(dim=1).cpu().numpy()
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
