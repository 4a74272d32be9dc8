"""Next-token logits of texts that grow: by a cache of keys and values, or by reading them whole.

Shape suffixes: B texts, T time, C channels, V vocabulary.
"""

from __future__ import annotations

from inspect import signature

import torch
from torch import Tensor

from harness.engine.kv_cache import KVCache
from harness.engine.randomness import generator
from harness.evals.models import LoadedModel

PROBE_LENGTH = 24
"""Tokens of the text on which a model is tried."""
ROUNDING = 1e-3
"""Of the largest figure that the head reads: what a cache may change, in float32."""


class NextToken:
    """Next-token logits of several texts; at each call a text is one token longer, or left out."""

    def __init__(self, loaded: LoadedModel, *, caches: bool) -> None:
        self.loaded, self.caches = loaded, caches
        self.cache: KVCache | None = None
        self.rows: list[int] = []
        """Numbers of the texts that the cache holds."""

    def logits(self, texts: dict[int, list[int]]) -> Tensor:
        """Return the logits of each text's next token, float32 [B, V] on the CPU.

        A text longer than the context is cut on the left; then no cache is used.
        """
        cut = {row: ids[-self.loaded.block_size :] for row, ids in texts.items()}
        fits = all(len(ids) <= self.loaded.block_size for ids in texts.values())
        if not (self.caches and fits):
            self.cache = None
            return self._behind(list(cut.values()))
        if self.cache is None:
            self.cache = KVCache(len(cut), self.loaded.device)
            found_BV = self._behind(list(cut.values()))
        else:
            if list(cut) != self.rows:  # some texts ended; `keep` copies the others
                self.cache.keep([self.rows.index(row) for row in cut])
            found_BV = self._behind([ids[-1:] for ids in cut.values()])
        self.rows = list(cut)
        self.cache.read([len(ids) for ids in cut.values()])
        return found_BV

    def _behind(self, new: list[list[int]]) -> Tensor:
        hidden_BTC = read(self.loaded, new, self.cache)
        lasts = torch.tensor([len(ids) - 1 for ids in new], device=hidden_BTC.device)
        last_B1C = hidden_BTC[torch.arange(len(new), device=hidden_BTC.device), lasts][:, None]
        logits_BV: Tensor = self.loaded.model.head(last_B1C)[:, 0, : self.loaded.encoding.n_vocab]
        return logits_BV.float().cpu()


def read(loaded: LoadedModel, texts: list[list[int]], cache: KVCache | None = None) -> Tensor:
    """Return what the head reads, [B, T, C].

    Shorter texts are padded at their end, which earlier tokens of a causal model do not see.
    """
    longest, fill = max(map(len, texts)), loaded.encoding.eot_token
    filled = [ids + [fill] * (longest - len(ids)) for ids in texts]
    x_BT = torch.tensor(filled, device=loaded.device)
    model = loaded.model
    return model.hidden(x_BT) if cache is None else model.hidden(x_BT, cache)


def can_cache(loaded: LoadedModel) -> bool:
    """Try whether a text read token by token gives the hidden states of a text read whole.

    This is tried, so that no part of any overlay has to declare it: a model that mixes tokens
    outside its attention, by a convolution for one, is read whole.
    """
    n_tokens = min(loaded.block_size, PROBE_LENGTH)
    if "cache" not in signature(loaded.model.hidden).parameters or n_tokens < 2:
        return False
    stream = generator(0, "probe")
    ids_BT = torch.randint(loaded.encoding.n_vocab, (2, n_tokens), generator=stream)
    ids_BT[:, n_tokens // 2] = loaded.encoding.eot_token  # may be treated differently
    texts = ids_BT.tolist()
    whole_BTC, cache = read(loaded, texts), KVCache(2, loaded.device)
    try:
        lengths = [n_tokens // 2, 1]
        read(loaded, [text[:n] for text, n in zip(texts, lengths, strict=True)], cache)
        while max(lengths) < n_tokens:
            cache.read(lengths)
            new_B1C = read(loaded, [[t[n]] for t, n in zip(texts, lengths, strict=True)], cache)
            expected_BC = whole_BTC[torch.arange(2), lengths]
            if (new_B1C[:, 0] - expected_BC).abs().max() > ROUNDING * whole_BTC.abs().max():
                return False
            lengths = [n + 1 for n in lengths]
    except (RuntimeError, ValueError, IndexError):  # a part that cannot do with one token
        return False
    return True
