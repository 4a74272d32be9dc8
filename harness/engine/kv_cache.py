"""Keys and values of the tokens that a model has read: one more token costs one token's pass.

Shapes: B rows, G heads, S slots, D head size, T new tokens of each row.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


class KVCache:
    """What every attention layer keeps; rows may hold different numbers of tokens.

    A row's token at position p lies in slot p. What a shorter row has beyond its end means nothing:
    queries look at slots up to their own position, and new tokens take its place.
    """

    def __init__(self, n_rows: int, device: torch.device) -> None:
        self.length_B = torch.zeros(n_rows, dtype=torch.int64, device=device)
        self.longest = 0
        """The largest length, without asking the device."""
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}
        """Keys and values by layer, each [B, G, S, D]."""

    def positions(self, n_new: int) -> Tensor:
        """Return the positions of each row's next tokens, int64 [B, T]."""
        return self.length_B[:, None] + torch.arange(n_new, device=self.length_B.device)

    def extend(self, layer: int, k_BGTD: Tensor, v_BGTD: Tensor) -> tuple[Tensor, Tensor]:
        """Return a layer's keys and values, [B, G, S, D], with the new tokens' in their slots."""
        k_BGSD, v_BGSD = self.kept.get(layer, (k_BGTD[:, :, :0], v_BGTD[:, :, :0]))
        self.kept[layer] = self._with(k_BGSD, k_BGTD), self._with(v_BGSD, v_BGTD)
        return self.kept[layer]

    def _with(self, old_BGSD: Tensor, new_BGTD: Tensor) -> Tensor:
        n_new = new_BGTD.shape[2]
        longer_BGSD = F.pad(old_BGSD, (0, 0, 0, self.longest + n_new - old_BGSD.shape[2]))
        slot_BT = self.positions(n_new)
        return longer_BGSD.scatter(2, slot_BT[:, None, :, None].expand_as(new_BGTD), new_BGTD)

    def read(self, lengths: list[int]) -> None:
        """Say after a pass how many tokens each row holds now."""
        self.length_B = torch.tensor(lengths, device=self.length_B.device)
        self.longest = max(lengths)

    def keep(self, rows: list[int]) -> None:
        """Leave the other rows out."""
        index = torch.tensor(rows, device=self.length_B.device)
        self.length_B = self.length_B[index]
        self.kept = {layer: (k[index], v[index]) for layer, (k, v) in self.kept.items()}
