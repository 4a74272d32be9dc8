"""Orthogonalised momentum whose rows are normalised (Li et al. 2025, NorMuon, algorithm 1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

Coefficients = list[tuple[float, float, float]]

NEWTON_SCHULZ: Coefficients = [(3.4445, -4.7750, 2.0315)] * 5
"""Jordan 2024, Muon."""
POLAR_EXPRESS: Coefficients = [
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
]
"""Amsel et al. 2025 (arXiv 2505.16932), five iterations, as in modded-nanogpt and nanochat."""


class NorMuon(torch.optim.Optimizer):
    """For matrices alone; a step is as large as AdamW's, so that both share a rate.

    Parameters
    ----------
    beta2
        Of the moving mean square of each row; None: rows stay as they are (Muon).
    """

    coefficients = NEWTON_SCHULZ
    _step_supports_amp_scaling = True  # what PyTorch asks before it leaves a step out by found_inf
    found_inf: Tensor | None = None
    """1 on the device to leave a step out, else 0; so that nothing waits to know."""

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        beta2: float | None = 0.95,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "beta2": beta2}
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        left_out = None if self.found_inf is None else self.found_inf > 0
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    step_RC = self._direction(p, group, left_out)
                    scale = 0.2 * p.numel() ** 0.5 / step_RC.norm().clamp(min=1e-12)
                    kept_RC = p * (1 - group["lr"] * group["weight_decay"])
                    replace(p, kept_RC.sub_((group["lr"] * scale * step_RC).to(p.dtype)), left_out)

    def _direction(self, p: Tensor, group: dict[str, Any], left_out: Tensor | None) -> Tensor:
        state, beta2 = self.state[p], group["beta2"]
        if not state:
            state["momentum"] = torch.zeros_like(p)
            state["square_R1"] = torch.zeros_like(p[:, :1])
        momentum_RC = state["momentum"]
        replace(momentum_RC, momentum_RC.lerp(p.grad, 1 - group["momentum"]), left_out)
        direction_RC = orthogonalised(momentum_RC, self.coefficients)
        if beta2 is None:
            return direction_RC
        square_R1 = state["square_R1"]
        latest_R1 = direction_RC.square().mean(dim=1, keepdim=True).to(p.dtype)
        replace(square_R1, square_R1.lerp(latest_R1, 1 - beta2), left_out)
        normalised_RC: Tensor = direction_RC / (square_R1.sqrt() + 1e-8)
        return normalised_RC


def replace(old: Tensor, new: Tensor, left_out: Tensor | None) -> None:
    """Put the new values in the place of the old ones, unless the step is left out."""
    if left_out is None:
        old.copy_(new)
    else:
        torch.where(left_out, old, new, out=old)


def orthogonalised(matrix: Tensor, coefficients: Coefficients) -> Tensor:
    """Return the matrix with singular values near 1: repeatedly a X + b X X'X + c X X'X X'X."""
    x = matrix.bfloat16() if matrix.is_cuda else matrix.float()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() * 1.01 + 1e-7)
    for a, b, c in coefficients:
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = (x.T if tall else x).float()
    return result


class PolarExpress(NorMuon):
    """Orthogonalises by Polar Express instead of Newton-Schulz."""

    coefficients = POLAR_EXPRESS
