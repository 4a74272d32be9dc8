"""An embedding of token pairs, which share a table by hash (modded-nanogpt, record 62)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from harness.model import ModelConfig, TokenEmbedding


class BigramEmbedding(TokenEmbedding):
    """Token embedding plus that of the pair with the token before it, zero at first."""

    def __init__(self, config: ModelConfig, rows_per_token: int) -> None:
        super().__init__(config)
        self.pairs = ZeroEmbedding(rows_per_token * config.vocab_size, config.n_embd)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Token ids -> x_BTC; the first token has none before it."""
        hashed = (36313 * ids_BT[:, 1:]) ^ (27191 * ids_BT[:, :-1])
        pairs_BTC = self.pairs(hashed % self.pairs.num_embeddings)
        return super().forward(ids_BT) + F.pad(pairs_BTC, (0, 0, 1, 0))


class ZeroEmbedding(nn.Embedding):
    """An embedding that starts as zero."""

    def reset_parameters(self) -> None:
        """Set everything to zero."""
        nn.init.zeros_(self.weight)
