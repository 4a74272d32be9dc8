"""Operations that PyTorch does slowly on a CPU, done faster; the mathematics is the same.

Dropout draws 16 random bits an element instead of a float, attention with dropout skips the
future, GELU avoids tanh, matrix products use all of AVX-512. On GPUs, under autocast and inside
torch.compile PyTorch's own kernels are used: they are the fast ones there.

Shape suffixes: B batch, T time, H heads, D head size; N is B x H; t and s are pieces of T.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

GELU_PIECE = 1 << 16
"""Elements whose intermediate results stay in the cache."""
QUERY_PIECE = 64
"""Queries that share one cut-off of the keys."""
FAST_PRODUCTS = (
    torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    and torch.backends.cpu.get_cpu_capability() == "AVX512"
)
"""Whether oneDNN multiplies faster than MKL, which stays with AVX2 on AMD's processors."""


def dropout(x: Tensor, p: float) -> Tensor:
    """Zero each element with probability `p` (to 2**-17) and scale the others; unbiased.

    The mask follows from PyTorch's global generator, as with `torch.nn.functional.dropout`.
    """
    if p == 0:
        return x
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, p)
    result: Tensor = _Dropout.apply(x, p)  # type: ignore[no-untyped-call]
    return result


def gelu_tanh(x: Tensor) -> Tensor:
    """Return GELU in its tanh approximation (Hendrycks & Gimpel 2016, eq. 2)."""
    if not _is_plain_cpu(x):
        return F.gelu(x, approximate="tanh")
    result: Tensor = _GeluTanh.apply(x)  # type: ignore[no-untyped-call]
    return result


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x @ weight.T + bias for x of any leading shape."""
    if not _has_fast_products(x):
        return F.linear(x, weight, bias)
    result: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return result


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x @ weight.T + bias where no gradient is needed."""
    if not _has_fast_products(x):
        return F.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]


def causal_attention(q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, dropout_p: float) -> Tensor:
    """Return softmax attention to the past, with dropout on the attention weights."""
    if dropout_p == 0 or not _is_plain_cpu(q_BHTD):  # PyTorch's flash kernel does the rest
        return F.scaled_dot_product_attention(
            q_BHTD, k_BHTD, v_BHTD, dropout_p=dropout_p, is_causal=True
        )
    shape = q_BHTD.shape
    q_NTD, k_NTD, v_NTD = (x.reshape(-1, *shape[2:]) for x in (q_BHTD, k_BHTD, v_BHTD))
    out_NTD: Tensor = _DroppedAttention.apply(q_NTD, k_NTD, v_NTD, dropout_p)  # type: ignore[no-untyped-call]
    return out_NTD.view(shape)


def _is_plain_cpu(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def _has_fast_products(x: Tensor) -> bool:
    return FAST_PRODUCTS and x.dtype == torch.float32 and _is_plain_cpu(x)


def draw_mask(shape: torch.Size, p: float) -> tuple[Tensor, float]:
    """Draw which elements stay, int8 of zeros and ones, and the factor that makes up for the rest.

    Bytes multiply as fast as floats and take a quarter of the memory; booleans multiply slowly.
    """
    seed = int(torch.randint(1 << 62, ()))
    cut = round(p * 65536)
    n = shape.numel()
    words = np.random.SFC64(seed).random_raw(-(-n // 4)).view(np.int16)[:n]
    kept = words >= np.int16(cut - 32768)  # NumPy compares ten times as fast as PyTorch
    return torch.from_numpy(kept.view(np.int8)).view(shape), 65536 / (65536 - cut)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        grad_rows = grad.flatten(0, -2)
        dbias = grad_rows.sum(0) if ctx.has_bias else None
        return product(grad, weight.t()), grad_rows.t() @ x.flatten(0, -2), dbias


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        mask, ctx.scale = draw_mask(x.shape, p)
        ctx.save_for_backward(mask)
        return (x * mask).mul_(ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return (grad * mask).mul_(ctx.scale), None


class _GeluTanh(torch.autograd.Function):
    """Uses (1 + tanh(u)) / 2 = sigmoid(2u): vectorised exp is several times faster than tanh.

    With q = 2 sqrt(2/pi) (1 + 0.044715 x^2) and s = sigmoid(q x), the result is x s and its
    derivative s + x s (1 - s) (3 q - 4 sqrt(2/pi)), computed while x is in the cache.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        c = math.sqrt(2 / math.pi)
        x = x.contiguous()
        y, slope = torch.empty_like(x), torch.empty_like(x)
        pieces = zip(*(z.view(-1).split(GELU_PIECE) for z in (x, y, slope)), strict=True)  # type: ignore[no-untyped-call]
        for x_n, y_n, slope_n in pieces:
            q_n = torch.addcmul(x.new_tensor(2 * c), x_n, x_n, value=2 * c * 0.044715)
            s_n = (q_n * x_n).sigmoid_()
            torch.mul(x_n, s_n, out=y_n)
            if not ctx.needs_input_grad[0]:
                continue
            rest_n = torch.addcmul(y_n, y_n, s_n, value=-1)
            torch.addcmul(s_n, rest_n, q_n, value=3, out=slope_n)
            slope_n.add_(rest_n, alpha=-4 * c)
        ctx.save_for_backward(slope)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        return grad * slope  # type: ignore[no-any-return]


class _DroppedAttention(torch.autograd.Function):
    """Works through the queries in pieces and leaves out the keys after each piece."""

    @staticmethod
    def forward(ctx: Any, q_NTD: Tensor, k_NTD: Tensor, v_NTD: Tensor, p: float) -> Tensor:
        T, D = q_NTD.shape[1:]
        ctx.scale, out_NTD, weights = D**-0.5, torch.empty_like(q_NTD), []
        q_NTD = q_NTD * ctx.scale  # cheaper here than on the scores
        for start, end in _pieces(T):
            s_Nts = torch.bmm(q_NTD[:, start:end], k_NTD[:, :end].transpose(1, 2))
            future = torch.full((end - start,) * 2, -math.inf, dtype=s_Nts.dtype).triu_(1)
            s_Nts[:, :, start:] += future
            w_Nts = s_Nts.softmax(-1)
            mask_Nts, ctx.kept_scale = draw_mask(w_Nts.shape, p)
            out_NTD[:, start:end] = torch.bmm(w_Nts * mask_Nts, v_NTD[:, :end])
            weights += [w_Nts, mask_Nts]
        ctx.save_for_backward(q_NTD, k_NTD, v_NTD, *weights)
        return out_NTD.mul_(ctx.kept_scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NTD: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q_NTD, k_NTD, v_NTD, *weights = ctx.saved_tensors
        dq_NTD, dk_NTD, dv_NTD = (torch.zeros_like(x) for x in (q_NTD, k_NTD, v_NTD))
        grad_NTD = grad_NTD * ctx.kept_scale
        for i, (start, end) in enumerate(_pieces(q_NTD.shape[1])):
            w_Nts, mask_Nts = weights[2 * i : 2 * i + 2]
            grad_NtD = grad_NTD[:, start:end]
            dv_NTD[:, :end].baddbmm_((w_Nts * mask_Nts).transpose(1, 2), grad_NtD)
            dw_Nts = torch.bmm(grad_NtD, v_NTD[:, :end].transpose(1, 2)).mul_(mask_Nts)
            ds_Nts = torch._softmax_backward_data(dw_Nts, w_Nts, -1, w_Nts.dtype)
            dq_NTD[:, start:end] = torch.bmm(ds_Nts, k_NTD[:, :end])
            dk_NTD[:, :end].baddbmm_(ds_Nts.transpose(1, 2), q_NTD[:, start:end])
        return dq_NTD.mul_(ctx.scale), dk_NTD, dv_NTD, None


def _pieces(n_time: int) -> list[tuple[int, int]]:
    starts = range(0, n_time, QUERY_PIECE)
    return [(start, min(start + QUERY_PIECE, n_time)) for start in starts]
