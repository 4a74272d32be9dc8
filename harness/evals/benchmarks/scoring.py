"""The log-likelihood of texts behind their contexts, under any model that can be loaded.

A context and its continuation are encoded together, as lm_eval does: spaces at the context's end
belong to the continuation, and an empty context is an end-of-text token. What is longer than the
model's context loses its beginning; a continuation that is longer by itself is read in pieces, each
behind as much of the text as fits.

Shape suffixes: B pieces, T time, C channels, N targets, n targets at a time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional as F

from harness.config import ConfigError
from harness.evals.losses import by_tokens
from harness.evals.models import LoadedModel
from harness.evals.next_token import read

ROWS = 1024
"""Targets whose logits exist at a time: 0.2 GB of float32 at 50,257 words."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a model gives a continuation."""

    nats: float
    """Its log-likelihood."""
    greedy: bool
    """Each of its tokens is the likeliest one."""
    cut: bool
    """The model saw no more than the end of the context."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some targets with what stands before them."""

    prompt: int
    """Which of the prompts it is of."""
    ids: list[int]
    """Its inputs, then its last target."""
    n_targets: int


def score(loaded: LoadedModel, prompts: Sequence[tuple[str, str]]) -> list[Score]:
    """Return the score of each continuation behind its context."""
    texts = [_encode(loaded, *prompt) for prompt in prompts]
    todo = [piece for i, text in enumerate(texts) for piece in _pieces(i, *text, loaded.block_size)]
    nats, greedy = [0.0] * len(texts), [True] * len(texts)
    for batch in by_tokens(sorted(todo, key=_length), _length):
        for piece, (likelihood, likeliest) in zip(batch, _scored(loaded, batch), strict=True):
            nats[piece.prompt] += likelihood
            greedy[piece.prompt] &= likeliest
    cut = [len(ids) - 1 > loaded.block_size for ids, _ in texts]
    return [Score(*found) for found in zip(nats, greedy, cut, strict=True)]


def _length(piece: _Piece) -> int:
    return len(piece.ids)


def _encode(loaded: LoadedModel, context: str, continuation: str) -> tuple[list[int], int]:
    """Return the tokens of both, and how many of them are the continuation's."""
    encode, end = loaded.encoding.encode_ordinary, loaded.encoding.eot_token
    before = encode(context.rstrip())
    targets = encode(context + continuation)[len(before) :]
    if not targets:
        raise ConfigError(
            f"{continuation!r} is no token of its own behind {context[-40:]!r}: begin it with a "
            "space"
        )
    return [*(before or [end]), *targets], len(targets)


def _pieces(prompt: int, ids: list[int], n_targets: int, block_size: int) -> Iterator[_Piece]:
    n_pieces = -(-n_targets // block_size)
    first = len(ids) - n_targets
    ends = [first + round(n_targets * k / n_pieces) for k in range(n_pieces + 1)]
    for start, end in pairwise(ends):
        yield _Piece(prompt, ids[max(0, end - 1 - block_size) : end], end - start)


@torch.inference_mode()
def _scored(loaded: LoadedModel, batch: Sequence[_Piece]) -> list[tuple[float, bool]]:
    """Return each piece's log-likelihood, and whether its tokens are the likeliest."""
    hidden_BTC = read(loaded, [piece.ids[:-1] for piece in batch])
    hidden_NC = torch.cat(
        [
            h[len(p.ids) - 1 - p.n_targets : len(p.ids) - 1]
            for h, p in zip(hidden_BTC, batch, strict=True)
        ]
    )
    y_N = torch.tensor([y for p in batch for y in p.ids[-p.n_targets :]], device=loaded.device)
    nats, likeliest = [], []
    for start in range(0, len(y_N), ROWS):
        logits_nV = loaded.model.head(hidden_NC[start : start + ROWS]).float()
        y_n = y_N[start : start + ROWS]
        nats.append(-F.cross_entropy(logits_nV, y_n, reduction="none").double())
        likeliest.append(logits_nV.argmax(-1) == y_n)
    nats_N, likeliest_N = torch.cat(nats).cpu().numpy(), torch.cat(likeliest).cpu().numpy()
    ends = np.cumsum([0, *(piece.n_targets for piece in batch)])
    return [
        (float(nats_N[a:b].sum()), bool(likeliest_N[a:b].all())) for a, b in pairwise(ends.tolist())
    ]
