"""Tied embedding and head that part late in training (modded-nanogpt, record 53)."""

from __future__ import annotations

from typing import Any

import torch


class UntieLate:
    """Keep embedding and head equal by giving both the sum of their gradients, until they part.

    Where the optimiser treats the two apart, as `wd_groups` does, both are what becomes of the
    embedding; at the parting each goes on with its own gradient and the optimiser's state so far.
    """

    def __init__(self, untie_frac: float) -> None:
        self.untie_frac = untie_frac

    @torch.no_grad()
    def model_built(self, model: Any) -> None:
        """Let the head begin as the embedding, as a tied one does."""
        if model.head.weight is model.tok_emb.weight:
            raise ValueError("untie_late ties by itself: leave weight_tying out")
        model.head.weight.copy_(model.tok_emb.weight)

    def gradients_ready(self, model: Any, step: int, progress: float) -> None:
        """Share the gradients while tied."""
        if progress < self.untie_frac:
            both = model.tok_emb.weight.grad + model.head.weight.grad
            model.tok_emb.weight.grad = both
            model.head.weight.grad = both.clone()

    @torch.no_grad()
    def step_done(self, model: Any, step: int, progress: float) -> None:
        """Keep the head the embedding while tied."""
        if progress < self.untie_frac:
            model.head.weight.copy_(model.tok_emb.weight)
