"""Averages of the weights along training, which are evaluated in place of the last ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def weights_of(model: nn.Module) -> list[Tensor]:
    """Return the tensors that an optimiser moves."""
    return [parameter.detach() for parameter in model.parameters()]


def precise(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return tensors in float32 at least, in which an average moves by small steps, too."""
    return [tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in tensors]


class MovingAverage:
    """Evaluate ``(1 - blend) weights + blend average``, the average an exponential one.

    Parameters
    ----------
    horizon_frac
        Steps that the average looks back on, over all steps: it keeps 1 - 1 / horizon a step.
    start_frac
        Fraction of all steps at which the average begins, with the weights of that moment.
    """

    def __init__(self, horizon_frac: float, start_frac: float = 0.0, blend: float = 1.0) -> None:
        self.horizon_frac, self.start_frac, self.blend = horizon_frac, start_frac, blend
        self.average: list[Tensor] = []

    @torch.no_grad()
    def step_done(self, model: nn.Module, step: int, training: Any) -> None:
        """Take the new weights in."""
        if training.progress < self.start_frac:
            return
        weights = precise(weights_of(model))
        if not self.average:
            self.average = [weight.clone() for weight in weights]
        horizon = max(1.0, self.horizon_frac * training.config.n_steps)
        torch._foreach_lerp_(self.average, weights, 1 / horizon)

    @torch.no_grad()
    def before_eval(self, model: nn.Module) -> None:
        """Put the blend in."""
        for weight, average in zip(weights_of(model), self.average, strict=bool(self.average)):
            weight.copy_(precise([weight])[0].lerp(average, self.blend))

    def state_dict(self) -> dict[str, Any]:
        """Return the average."""
        return {"average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the average."""
        self.average = state["average"]


class LatestAverage:
    """Evaluate the mean of the latest snapshots (Kaddour 2022, LAWA, eq. 1).

    Parameters
    ----------
    n
        How many snapshots.
    every_frac
        Steps between two snapshots, over all steps.
    """

    def __init__(self, n: int, every_frac: float) -> None:
        self.n, self.every_frac = n, every_frac
        self.snapshots: list[list[Tensor]] = []

    def step_done(self, model: nn.Module, step: int, training: Any) -> None:
        """Keep the new weights where a snapshot is due."""
        every = max(1, round(self.every_frac * training.config.n_steps))
        if (step + 1) % every == 0:
            kept = self.snapshots[1 - self.n :] if self.n > 1 else []
            self.snapshots = [*kept, [weight.clone() for weight in weights_of(model)]]

    @torch.no_grad()
    def before_eval(self, model: nn.Module) -> None:
        """Put the mean in."""
        for weight, *snapshots in zip(weights_of(model), *self.snapshots, strict=True):
            if snapshots:
                weight.copy_(torch.stack(snapshots).mean(dim=0))

    def state_dict(self) -> dict[str, Any]:
        """Return the snapshots."""
        return {"snapshots": self.snapshots}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the snapshots."""
        self.snapshots = state["snapshots"]
