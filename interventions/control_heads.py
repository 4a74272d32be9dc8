"""The same attention with its heads in another order: what differs later is rounding and chance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def reverse_heads(model: Any) -> None:
    """Reverse the order of the heads in every layer; the model computes what it did."""
    for block in model.blocks:
        attention, size = block.attn, block.attn.head_size
        for parameter in attention.qkv.parameters():
            n_heads = [attention.n_head, attention.n_kv_head, attention.n_kv_head]
            rows = parameter.unflatten(0, (-1, size)).split(n_heads)
            parameter.copy_(torch.cat([part.flip(0) for part in rows]).flatten(0, 1))
        weight: Tensor = attention.proj.weight
        heads = weight.view(len(weight), -1, size)
        weight.copy_(heads.flip(1).flatten(1))
