"""Blocks stop training one after the other (Brock et al. 2017, FreezeOut)."""

from __future__ import annotations

from typing import Any


def freeze_out(model: Any, step: int, progress: float, first_frac: float) -> None:
    """Drop the gradients of blocks from the first on: of that at `first_frac` of all steps."""
    for i, block in enumerate(model.blocks):
        if progress >= first_frac + (1 - first_frac) * i / len(model.blocks):
            for parameter in block.parameters():
                parameter.grad = None
