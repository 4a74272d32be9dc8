"""Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2024, SOAP, algorithm 3).

Shape suffixes: R rows, C columns of a matrix.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from interventions.normuon import POLAR_EXPRESS, orthogonalised


class SOAP(torch.optim.Optimizer):
    """For matrices alone; a step is as large as AdamW's, so that both share a rate.

    The first gradient gives the basis and moves nothing, as in the authors' code: in its own
    eigenbasis it is diagonal, and Adam would make steps of the rounding errors beside it.

    Parameters
    ----------
    refresh_every
        Steps between two updates of the basis, each one power iteration and a QR decomposition
        (algorithm 4).
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        betas: tuple[float, float] = (0.95, 0.95),
        refresh_every: int = 10,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "betas": betas})
        self.refresh_every = refresh_every

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient and a basis."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if state := self.state[p]:
                    direction_RC = self.shaped(rotated_adam(p.grad, state, group["betas"]))
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.sub_((group["lr"] * direction_RC).to(p.dtype))
                else:
                    start(p.grad, state)
                learn(p.grad, state, group["betas"][1])
                if state["step"] % self.refresh_every == 0:
                    refresh(state)

    def shaped(self, direction_RC: Tensor) -> Tensor:
        """Return the step at a rate of 1."""
        return direction_RC


class SOAPMuon(SOAP):
    """SOAP's step with all its singular values made equal, as large as AdamW's."""

    def shaped(self, direction_RC: Tensor) -> Tensor:
        """Return the step at a rate of 1."""
        step_RC = orthogonalised(direction_RC, POLAR_EXPRESS)
        scale = 0.2 * step_RC.numel() ** 0.5 / step_RC.norm().clamp(min=1e-12)
        scaled_RC: Tensor = scale * step_RC
        return scaled_RC


def start(grad_RC: Tensor, state: dict[str, Any]) -> None:
    """Begin with the eigenvectors of the first gradient's products."""
    state["step"] = 0
    state["mean_RC"], state["square_RC"] = torch.zeros_like(grad_RC), torch.zeros_like(grad_RC)
    state["left_RR"], state["right_CC"] = grad_RC @ grad_RC.T, grad_RC.T @ grad_RC
    for basis, product in (("basis_RR", "left_RR"), ("basis_CC", "right_CC")):
        vectors = torch.linalg.eigh(_exact(state[product])).eigenvectors
        # the largest first: power iteration would turn a small one, if it led, towards the largest
        state[basis] = vectors.flip(1).to(grad_RC.dtype)


def rotated_adam(grad_RC: Tensor, state: dict[str, Any], betas: tuple[float, float]) -> Tensor:
    """Return Adam's direction, found in the basis and turned back (lines 3 to 8)."""
    (beta1, beta2), left, right = betas, state["basis_RR"], state["basis_CC"]
    state["step"] += 1
    state["mean_RC"].lerp_(grad_RC, 1 - beta1)
    state["square_RC"].lerp_((left.T @ grad_RC @ right).square(), 1 - beta2)
    mean_RC = left.T @ state["mean_RC"] @ right / (1 - beta1 ** state["step"])
    root_RC = (state["square_RC"] / (1 - beta2 ** state["step"])).sqrt()
    direction_RC: Tensor = left @ (mean_RC / (root_RC + 1e-8)) @ right.T
    return direction_RC


def learn(grad_RC: Tensor, state: dict[str, Any], beta2: float) -> None:
    """Update the moving means of G G' and G'G (lines 10 and 11)."""
    state["left_RR"].lerp_(grad_RC @ grad_RC.T, 1 - beta2)
    state["right_CC"].lerp_(grad_RC.T @ grad_RC, 1 - beta2)


def refresh(state: dict[str, Any]) -> None:
    """Bring the basis nearer to the eigenvectors of the means (algorithm 4)."""
    for basis, product in (("basis_RR", "left_RR"), ("basis_CC", "right_CC")):
        turned = _exact(state[product]) @ _exact(state[basis])
        state[basis] = torch.linalg.qr(turned).Q.to(state[basis].dtype)


def _exact(matrix: Tensor) -> Tensor:
    """Return what decompositions take: they have no 16-bit form."""
    return matrix if matrix.dtype is torch.float64 else matrix.float()
