"""Continue prompts, several at a time; a prompt's random draws do not depend on the others.

Shape suffixes: B prompts, T time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.config import ConfigError
from harness.engine.randomness import generator
from harness.evals.models import LoadedModel
from harness.evals.next_token import NextToken, can_cache


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How to continue."""

    tokens: int = 100
    """At most."""
    temperature: float = 1.0
    """0: always the likeliest token."""
    top_k: int | None = None
    """Draw among so many of the likeliest tokens."""
    top_p: float | None = None
    """Draw among the fewest tokens that hold this probability (Holtzman et al. 2020)."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.tokens < 1 or self.temperature < 0 or (self.top_k is not None and self.top_k < 1):
            raise ConfigError("sampling: tokens and top_k are at least 1, temperature at least 0")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"sampling: top_p={self.top_p} is not above 0 and at most 1")


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote behind a prompt."""

    prompt: str
    text: str
    """Without the prompt."""
    n_tokens: int
    ended: bool
    """By the end-of-text token, not by the limit."""


@torch.inference_mode()
def complete_all(
    loaded: LoadedModel, prompts: Sequence[str], how: Sampling, batch_size: int = 16
) -> list[Completion]:
    """Continue prompts to their end of text or by ``how.tokens``; the context cuts on the left."""
    encode, end = loaded.encoding.encode_ordinary, loaded.encoding.eot_token
    known = [encode(prompt) or [end] for prompt in prompts]
    grown = [list(ids) for ids in known]
    streams = [generator(how.seed, "sample", i) for i in range(len(prompts))]
    caches = can_cache(loaded)
    for first in range(0, len(prompts), batch_size):
        live = list(range(first, min(first + batch_size, len(prompts))))
        following = NextToken(loaded, caches=caches)
        for _ in range(how.tokens):
            logits_BV = following.logits({i: grown[i] for i in live})
            for i, logits_V in zip(live, logits_BV, strict=True):
                grown[i].append(draw(logits_V, how, streams[i]))
            live = [i for i in live if grown[i][-1] != end]
            if not live:
                break
    return [
        _completion(loaded, prompt, ids[len(start) :])
        for prompt, start, ids in zip(prompts, known, grown, strict=True)
    ]


def _completion(loaded: LoadedModel, prompt: str, new: list[int]) -> Completion:
    ended = bool(new) and new[-1] == loaded.encoding.eot_token
    kept = new[:-1] if ended else new
    return Completion(prompt, loaded.encoding.decode(kept, errors="replace"), len(kept), ended)


def draw(logits_V: Tensor, how: Sampling, stream: torch.Generator) -> int:
    """Draw a token; the likeliest one at temperature 0."""
    if how.temperature == 0:
        return int(logits_V.argmax())
    scaled_V = logits_V / how.temperature
    if how.top_k is not None:
        least = scaled_V.topk(min(how.top_k, len(scaled_V))).values[-1]
        scaled_V = scaled_V.masked_fill(scaled_V < least, -torch.inf)
    p_V = scaled_V.softmax(-1)
    if how.top_p is not None:
        sorted_V, order_V = p_V.sort(descending=True)
        before_V = sorted_V.cumsum(-1) - sorted_V
        p_V = p_V.index_fill(0, order_V[before_V >= how.top_p], 0.0)
    return int(torch.multinomial(p_V, 1, generator=stream))
