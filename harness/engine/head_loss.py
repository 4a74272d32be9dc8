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

from harness.engine.kernels import product

PIECE_ELEMENTS = {"cpu": 1 << 24, "cuda": 1 << 27}
"""Logits of one piece: large enough for fast matrix products, small beside the model."""


def rows_per_piece(vocab_size: int, device: torch.device) -> int:
    """Return how many tokens are worked on at once, a multiple of 128."""
    limit = PIECE_ELEMENTS.get(device.type, PIECE_ELEMENTS["cpu"])
    return max(128, limit // vocab_size // 128 * 128)


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
        weight_PC, dx_NC = pad_vocabulary(weight_VC), torch.empty_like(x_NC)
        exact = torch.promote_types(x_NC.dtype, torch.float32)
        dweight_PC = torch.empty_like(weight_PC, dtype=exact)
        total = torch.zeros((), dtype=exact, device=x_NC.device)
        rows = rows_per_piece(len(weight_PC), x_NC.device)
        pieces = zip(*(z.split(rows) for z in (x_NC, y_N[:, None], dx_NC)), strict=True)  # type: ignore[no-untyped-call]
        for i, (x_nC, y_n1, dx_nC) in enumerate(pieces):
            d_nP = product(x_nC, weight_PC)
            d_nP[:, len(weight_VC) :] = -torch.inf
            p_nP = d_nP.to(exact)  # d_nP itself, if that is exact
            total += _softmax_(p_nP, y_n1)
            p_nP.scatter_add_(1, y_n1, -torch.ones_like(y_n1, dtype=exact))
            d_nP.copy_(p_nP)
            dx_nC.copy_(product(d_nP, weight_PC.t()))
            _add_product_(dweight_PC, d_nP.t(), x_nC, first=i == 0)
        ctx.save_for_backward(dx_NC, dweight_PC[: len(weight_VC)])
        return total / len(x_NC)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        dx_NC, dweight_VC = ctx.saved_tensors
        grad = grad / len(dx_NC)
        return dx_NC * grad, dweight_VC * grad, None


def _add_product_(total: Tensor, a: Tensor, b: Tensor, *, first: bool) -> None:
    """Add a @ b to the total, or set it if this is the first."""
    if total.dtype == a.dtype:
        total.addmm_(a, b, beta=0 if first else 1)
    elif first:
        total.copy_(a @ b)
    else:
        total += a @ b


def pad_vocabulary(weight_VC: Tensor) -> Tensor:
    """Return the weight with rows of zeros up to a multiple of 64: aligned matrix products."""
    return F.pad(weight_VC, (0, 0, 0, -len(weight_VC) % 64))


def _softmax_(logits_nP: Tensor, y_n1: Tensor) -> Tensor:
    """Turn logits into probabilities in place; return the summed cross-entropy."""
    largest_n, chosen_n1 = logits_nP.amax(1), logits_nP.gather(1, y_n1)
    torch.softmax(logits_nP, 1, out=logits_nP)
    return (largest_n - logits_nP.amax(1).log() - chosen_n1[:, 0]).sum()  # log-sum-exp - chosen
