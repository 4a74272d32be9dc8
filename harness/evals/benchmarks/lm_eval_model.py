"""Our models as EleutherAI's lm_eval asks them; imported only where a task of it is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval.api.model import LM

from harness.config import ConfigError
from harness.evals.benchmarks.scoring import Score, score
from harness.evals.models import LoadedModel


class HarnessLM(LM):  # type: ignore[misc]
    """Answers log-likelihoods with `score`, and keeps every score."""

    def __init__(self, loaded: LoadedModel) -> None:
        super().__init__()
        self.loaded = loaded
        self.scores: dict[tuple[str, str], Score] = {}
        """By context and continuation."""

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Return log-likelihood and greediness of each request's continuation."""
        asked = [(str(request.args[0]), str(request.args[1])) for request in requests]
        new = [prompt for prompt in dict.fromkeys(asked) if prompt not in self.scores]
        self.scores |= zip(new, score(self.loaded, new), strict=True)
        return [(self.scores[prompt].nats, self.scores[prompt].greedy) for prompt in asked]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Return the log-likelihood of whole texts."""
        return [found.nats for found in score(self.loaded, [("", r.args[0]) for r in requests])]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Refuse: texts are judged elsewhere."""
        raise ConfigError("tasks that generate text are not for --tasks: see docs/judge.md")
