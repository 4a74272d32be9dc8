"""Outer momentum over the steps of whatever optimiser trains."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from interventions.averages import precise, weights_of


class OuterNesterov:
    """Every few steps, one of Nesterov's SGD along the way gone since the last (Snoo, MuLoCo).

    Parameters
    ----------
    lr, momentum
        Of the outer step; 1 and 0 change nothing.
    every
        Steps between two outer ones.
    """

    def __init__(self, lr: float, momentum: float, every: int) -> None:
        self.lr, self.momentum, self.every = lr, momentum, every
        self.slow: list[Tensor] = []
        self.velocity: list[Tensor] = []

    @torch.no_grad()
    def gradients_ready(self, model: nn.Module, step: int) -> None:
        """Remember where training began."""
        if not self.slow:
            self.slow = [weight.clone() for weight in weights_of(model)]
            self.velocity = [torch.zeros_like(p) for p in self.slow]

    @torch.no_grad()
    def step_done(self, model: nn.Module, step: int) -> None:
        """Take the outer step where one is due, and go on from there."""
        if (step + 1) % self.every:
            return
        weights = weights_of(model)
        gradients = torch._foreach_sub(self.slow, weights)
        torch._foreach_mul_(self.velocity, self.momentum)
        torch._foreach_add_(self.velocity, gradients)
        steps = torch._foreach_mul(self.velocity, self.momentum)
        torch._foreach_add_(steps, gradients)
        torch._foreach_sub_(self.slow, steps, alpha=self.lr)
        torch._foreach_copy_(weights, self.slow)

    def state_dict(self) -> dict[str, Any]:
        """Return what the outer step remembers."""
        return {"slow": self.slow, "velocity": self.velocity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""
        self.slow, self.velocity = state["slow"], state["velocity"]


class EMANesterov:
    """Take gradients ahead of the weights, along their smoothed way (arXiv 2605.25395).

    Parameters
    ----------
    ahead
        How far, in units of the smoothed step, times the learning rate over its peak.
    horizon_frac
        Steps that the smoothed step looks back on, over all steps.
    from_frac, to_frac
        Fractions of all steps between which gradients are taken ahead.
    """

    def __init__(self, ahead: float, horizon_frac: float, from_frac: float, to_frac: float) -> None:
        self.ahead, self.horizon_frac = ahead, horizon_frac
        self.from_frac, self.to_frac = from_frac, to_frac
        self.weights: list[Tensor] = []
        self.smoothed: list[Tensor] = []

    @torch.no_grad()
    def gradients_ready(self, model: nn.Module, step: int) -> None:
        """Remember where training began."""
        if not self.weights:
            self.weights = [weight.clone() for weight in weights_of(model)]
            self.smoothed = [torch.zeros_like(p) for p in precise(self.weights)]

    @torch.no_grad()
    def step_done(self, model: nn.Module, step: int, training: Any) -> None:
        """Smooth the step just taken, and go ahead of it."""
        n_steps = training.config.n_steps
        share = 1 / max(1.0, self.horizon_frac * n_steps)
        looks_ahead = self.from_frac <= (step + 1) / n_steps < self.to_frac
        distance = self.ahead * training.schedule(step, n_steps) if looks_ahead else 0.0
        weights = weights_of(model)
        torch._foreach_lerp_(
            self.smoothed, precise(torch._foreach_sub(weights, self.weights)), share
        )
        torch._foreach_copy_(self.weights, weights)
        torch._foreach_add_(weights, self.smoothed, alpha=distance)

    @torch.no_grad()
    def before_eval(self, model: nn.Module) -> None:
        """Put the weights in, without what lies ahead."""
        for p, weight in zip(model.parameters(), self.weights, strict=bool(self.weights)):
            p.copy_(weight)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights and the smoothed step."""
        return {"weights": self.weights, "smoothed": self.smoothed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self.weights, self.smoothed = state["weights"], state["smoothed"]
