"""Number formats of weights and matrix products, for ``precision.convert``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FORWARD, BACKWARD = torch.float8_e4m3fn, torch.float8_e5m2
MULTIPLE = 16
"""Of both sides of a matrix, and of the rows it multiplies, which the hardware asks for."""
FEWEST = (8, 9)
"""Compute capability of the first GPUs with products in float8."""


def bfloat16_weights(model: nn.Module) -> None:
    """Hold all weights in bfloat16, scalars aside, and with them the optimiser's moments."""
    for parameter in model.parameters():  # buffers are no weights: the angles of rope, say
        if parameter.dim() and parameter.is_floating_point():
            parameter.data = parameter.data.bfloat16()


def float8_linears(model: nn.Module) -> None:
    """Multiply in float8 in all linear layers but the head, with one scale a tensor."""
    device = next(model.parameters()).device
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < FEWEST:
        raise NotImplementedError(
            f"{torch.cuda.get_device_name(device)} multiplies no float8: it takes compute "
            f"capability {FEWEST[0]}.{FEWEST[1]} (H100, L4, RTX 4090) or higher"
        )
    head = getattr(model, "head", None)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear) and child is not head and _fits(child):
                setattr(module, name, Float8Linear(child))


def _fits(layer: nn.Linear) -> bool:
    return layer.in_features % MULTIPLE == 0 and layer.out_features % MULTIPLE == 0


class Float8Linear(nn.Linear):
    """A linear layer that multiplies in float8 while it trains, in its own format when tested."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return x @ weight.T + bias."""
        if not self.training:
            return F.linear(x, self.weight, self.bias)
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            x = x.to(torch.get_autocast_dtype(kind))
        x_NI = x.flatten(0, -2)
        n_rows = len(x_NI)
        if missing := max(MULTIPLE, n_rows + -n_rows % MULTIPLE) - n_rows:
            x_NI = F.pad(x_NI, (0, 0, 0, missing))
        out: Tensor = _Float8Product.apply(x_NI, self.weight)[:n_rows]  # type: ignore[no-untyped-call]
        out = out.view(*x.shape[:-1], self.out_features)
        return out if self.bias is None else out + self.bias.to(out.dtype)


class _Float8Product(torch.autograd.Function):
    """x_NI @ weight_OI.T, and both gradients, in float8."""

    @staticmethod
    def forward(ctx: Any, x_NI: Tensor, weight_OI: Tensor) -> Tensor:
        ctx.save_for_backward(x_NI, weight_OI)
        return _product(x_NI, weight_OI.T, FORWARD, x_NI.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor]:
        (out_NO,) = gradients
        x_NI, weight_OI = ctx.saved_tensors
        return (
            _product(out_NO, weight_OI, BACKWARD, x_NI.dtype),
            _product(out_NO.T, x_NI, BACKWARD, weight_OI.dtype),
        )


def _product(a: Tensor, b: Tensor, format_of_a: torch.dtype, result: torch.dtype) -> Tensor:
    """Return a @ b, with a in one float8 and b in the one of forward passes."""
    (a8, a_scale), (b8, b_scale) = _quantised(a, format_of_a), _quantised(b, FORWARD)
    if not a.is_cuda:
        return (a8.float() @ b8.float() * (a_scale * b_scale)).to(result)
    by_columns = b8.T.contiguous().T  # the layout that the hardware asks for
    return torch._scaled_mm(
        a8.contiguous(), by_columns, scale_a=a_scale, scale_b=b_scale, out_dtype=result
    )


def _quantised(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return x in float8, scaled to the whole range, and what to multiply it with."""
    largest = torch.finfo(dtype).max
    scale = x.abs().max().float().clamp(min=1e-12) / largest
    return (x.float() / scale).clamp(-largest, largest).to(dtype), scale
