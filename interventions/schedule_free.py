"""Switch the schedulefree library's optimisers between training and evaluation."""

from __future__ import annotations

from typing import Any

from torch import nn


class EvaluateAverage:
    """Train at y, evaluate at the average x (Defazio et al. 2024, eqs. 3 to 5)."""

    def gradients_ready(self, model: nn.Module, step: int, optimizer: Any) -> None:
        """Let the optimiser know that it trains."""
        optimizer.train()

    def before_eval(self, model: nn.Module, optimizer: Any) -> None:
        """Put x in."""
        optimizer.eval()

    def after_eval(self, model: nn.Module, optimizer: Any) -> None:
        """Go back to y."""
        optimizer.train()
