"""Output head and cross-entropy in one, a few rows at a time: the full logits never exist.

At 12 sequences of 1,024 tokens and 50,257 words, logits in float32 take 2.5 GB, and as much again
for their gradient. Here the gradient of each piece is taken while the piece is at hand, as in
Hsu et al. 2024 (Liger Kernel, section 3.2).

Shape suffixes: N tokens (batch x time), n tokens of one piece, C channels, V vocabulary,
P vocabulary padded to a multiple of 64.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

PIECE_ELEMENTS = {"cpu": 1 << 24, "cuda": 1 << 27}
"""Logits of one piece: large enough for fast matrix products, small beside the model."""


def rows_per_piece(vocab_size: int, device: torch.device) -> int:
    """Return how many tokens are worked on at once, a multiple of 64."""
    limit = PIECE_ELEMENTS.get(device.type, PIECE_ELEMENTS["cpu"])
    return max(64, limit // vocab_size // 64 * 64)


def linear_cross_entropy(x_NC: Tensor, weight_VC: Tensor, y_N: Tensor) -> Tensor:
    """Return the mean over tokens of cross_entropy(x_NC @ weight_VC.T, y_N), nats per token.

    Under autocast the matrix products are in its format and the rest in float32, as with the two
    operations apart.
    """
    device = x_NC.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x_NC, weight_VC = x_NC.to(dtype), weight_VC.to(dtype)
    with torch.autocast(device, enabled=False):
        result: Tensor = _LinearCrossEntropy.apply(x_NC, weight_VC, y_N)  # type: ignore[no-untyped-call]
    return result


def token_losses(head: torch.nn.Module, x_NC: Tensor, y_N: Tensor) -> Tensor:
    """Return each token's cross-entropy under any head, float32 [N]; without gradients."""
    losses, rows = [], 1024  # 0.2 GB of float32 logits at 50,257 words
    for x_nC, y_n in zip(x_NC.split(rows), y_N.split(rows), strict=True):  # type: ignore[no-untyped-call]
        losses.append(F.cross_entropy(head(x_nC).float(), y_n, reduction="none"))
    return torch.cat(losses)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NC: Tensor, weight_VC: Tensor, y_N: Tensor) -> Tensor:
        exact = torch.promote_types(x_NC.dtype, torch.float32)
        weight_PC = pad_vocabulary(weight_VC)
        total = torch.zeros((), dtype=exact, device=x_NC.device)
        dx_NC = torch.empty_like(x_NC)
        dweight_PC = torch.zeros_like(weight_PC, dtype=exact)
        rows = rows_per_piece(len(weight_PC), x_NC.device)
        pieces = zip(*(z.split(rows) for z in (x_NC, y_N[:, None], dx_NC)), strict=True)  # type: ignore[no-untyped-call]
        for x_nC, y_n1, dx_nC in pieces:
            d_nP = x_nC @ weight_PC.t()
            d_nV = d_nP[:, : len(weight_VC)]  # the others stay 0
            p_nV = d_nV.to(exact)
            total += _softmax_(p_nV, y_n1)
            p_nV.scatter_add_(1, y_n1, -torch.ones_like(y_n1, dtype=exact))
            if exact == x_NC.dtype:  # p_nV is d_nV
                dweight_PC.addmm_(d_nP.t(), x_nC)
            else:
                d_nV.copy_(p_nV)
                dweight_PC += d_nP.t() @ x_nC
            dx_nC.copy_(d_nP @ weight_PC)
        ctx.save_for_backward(dx_NC, dweight_PC[: len(weight_VC)])
        return total / len(x_NC)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        dx_NC, dweight_VC = ctx.saved_tensors
        grad = grad / len(dx_NC)
        return dx_NC * grad, dweight_VC * grad, None


def pad_vocabulary(weight_VC: Tensor) -> Tensor:
    """Return the weight with rows of zeros up to a multiple of 64: aligned matrix products."""
    return F.pad(weight_VC, (0, 0, 0, -len(weight_VC) % 64))


def _softmax_(logits_nV: Tensor, y_n1: Tensor) -> Tensor:
    """Turn logits into probabilities in place; return the summed cross-entropy."""
    largest_n1 = logits_nV.amax(1, keepdim=True)
    chosen_n1 = logits_nV.gather(1, y_n1)
    sums_n1 = logits_nV.sub_(largest_n1).exp_().sum(1, keepdim=True)
    logits_nV.mul_(1 / sums_n1)
    return (sums_n1.log() + largest_n1 - chosen_n1).sum()
