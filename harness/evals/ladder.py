"""One prompt over all saved steps of a run: how its text becomes coherent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.config import ConfigError
from harness.evals.models import load_weights
from harness.evals.sampling import Sampling, complete_all
from harness.hub.weights import find_weights, saved_steps


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """What a run wrote after so many steps."""

    cell: Path
    step: int
    tokens: int
    """Trained on by then."""
    prompt: str
    completion: str
    """Without the prompt."""

    def as_json(self) -> dict[str, Any]:
        """Return a line of ``samples.jsonl``."""
        return {
            "step": self.step,
            "tokens": self.tokens,
            "prompt": self.prompt,
            "completion": self.prompt + self.completion,
        }


def ladder(text: str, prompt: str, how: Sampling, device: str = "auto") -> Iterator[Rung]:
    """Yield the prompt's completion at each saved step, the same random draws for all."""
    newest = find_weights(text)
    if newest.cell is None:
        raise ConfigError(f"{text} is of the hub: only a cell has saved steps")
    for step, file in saved_steps(newest.cell).items():
        loaded = load_weights(replace(newest, step=step, file=file), device)
        per_step = loaded.config.tokens_per_step if loaded.config else 0
        done = complete_all(loaded, [prompt], how)[0]
        yield Rung(
            cell=newest.cell, step=step, tokens=step * per_step, prompt=prompt, completion=done.text
        )
