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


def linear_cross_entropy(
    x_NC: Tensor, weight_VC: Tensor, y_N: Tensor, rows: int | None = None
) -> Tensor:
    """Return the mean over tokens of cross_entropy(x_NC @ weight_VC.T, y_N), nats per token.

    `rows` tokens are worked on at once; None: `rows_per_piece`. Under autocast the matrix products
    are in its format and the rest in float32, as with the two operations apart.
    """
    device = x_NC.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x_NC, weight_VC = x_NC.to(dtype), weight_VC.to(dtype)
    with torch.autocast(device, enabled=False):
        result: Tensor = _LinearCrossEntropy.apply(x_NC, weight_VC, y_N, rows)  # type: ignore[no-untyped-call]
    return result


def token_losses(head: torch.nn.Module, x_NC: Tensor, y_N: Tensor) -> Tensor:
    """Return each token's cross-entropy under any head, float32 [N]; without gradients."""
    losses, rows = [], 1024  # 0.2 GB of float32 logits at 50,257 words
    for x_nC, y_n in zip(x_NC.split(rows), y_N.split(rows), strict=True):  # type: ignore[no-untyped-call]
        losses.append(F.cross_entropy(head(x_nC).float(), y_n, reduction="none"))
    return torch.cat(losses)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NC: Tensor, weight_VC: Tensor, y_N: Tensor, rows: int | None) -> Tensor:
        weight_PC, dx_NC = pad_vocabulary(weight_VC), torch.empty_like(x_NC)
        exact = torch.promote_types(x_NC.dtype, torch.float32)
        dweight_PC = torch.empty_like(weight_PC, dtype=exact)
        total = torch.zeros((), dtype=exact, device=x_NC.device)
        differentiate = _fusible if torch.compiler.is_compiling() else _in_place
        rows = rows or rows_per_piece(len(weight_PC), x_NC.device)
        pieces = zip(*(z.split(rows) for z in (x_NC, y_N[:, None], dx_NC)), strict=True)  # type: ignore[no-untyped-call]
        for i, (x_nC, y_n1, dx_nC) in enumerate(pieces):
            logits_nP = product(x_nC, weight_PC)
            logits_nP[:, len(weight_VC) :] = -torch.inf
            loss, d_nP = differentiate(logits_nP, y_n1, exact)
            total += loss
            dx_nC.copy_(product(d_nP, weight_PC.t()))
            _add_product_(dweight_PC, d_nP.t(), x_nC, first=i == 0)
        ctx.save_for_backward(dx_NC, dweight_PC[: len(weight_VC)])
        return total / len(x_NC)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        dx_NC, dweight_VC = ctx.saved_tensors
        grad = grad / len(dx_NC)
        return dx_NC * grad, dweight_VC * grad, None, None


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


def _in_place(logits_nP: Tensor, y_n1: Tensor, exact: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy and its gradient by the logits, whose memory it takes."""
    p_nP = logits_nP.to(exact)  # logits_nP itself, if that is exact
    largest_n, chosen_n1 = p_nP.amax(1), p_nP.gather(1, y_n1)
    torch.softmax(p_nP, 1, out=p_nP)
    loss = (largest_n - p_nP.amax(1).log() - chosen_n1[:, 0]).sum()  # log-sum-exp - chosen
    p_nP.scatter_add_(1, y_n1, -torch.ones_like(y_n1, dtype=exact))
    return loss, logits_nP.copy_(p_nP)


def _fusible(logits_nP: Tensor, y_n1: Tensor, exact: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the same as `_in_place`, as a compiler fuses it: no probabilities in memory.

    For each logit in bfloat16 it reads and writes 14 bytes, matrix products included, not 18.
    """
    exact_nP = logits_nP.to(exact)
    log_sum_n1 = exact_nP.logsumexp(1, keepdim=True)
    is_target_nP = torch.arange(logits_nP.shape[1], device=y_n1.device) == y_n1
    d_nP = (exact_nP - log_sum_n1).exp() - is_target_nP.to(exact)
    return (log_sum_n1 - exact_nP.gather(1, y_n1)).sum(), d_nP.to(logits_nP.dtype)
