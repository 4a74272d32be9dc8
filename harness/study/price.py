"""What a study costs: its cells, the seconds of each, and how they grow."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Protocol

from harness.cell.console import duration
from harness.config import Config, ConfigError
from harness.engine.cards import CARDS, Card


class Speed(Protocol):
    """How fast a cell trains and evaluates on one device; measured or computed."""

    @property
    def tokens_per_second(self) -> float:
        """In training."""

    @property
    def eval_tokens_per_second(self) -> float:
        """In validation and test."""


@dataclass(frozen=True, slots=True)
class ComputedSpeed:
    """Speed at a share of a card's peak FLOP/s (MFU); a forward pass is a third of a step."""

    tokens_per_second: float

    @property
    def eval_tokens_per_second(self) -> float:
        """In validation and test."""
        return 3 * self.tokens_per_second


def speed_on(card: Card, mfu: float, config: Config) -> ComputedSpeed:
    """Return how fast the config's model trains there; experts that are not asked cost nothing."""
    from harness.cell.speed.flops import model_flops_per_token  # imports torch

    return ComputedSpeed(mfu * card.peak(config.precision) / model_flops_per_token(config.model))


def count_cells(config: Config) -> int:
    """Return the cells of the study that the config names, 1 without one."""
    study = config.study
    return sum(count_seeds(config, arm) for arm in study.arms) + count_trials(config) or 1


def count_seeds(config: Config, arm: str) -> int:
    """Return the seeds that the study gives an arm."""
    study = config.study
    return (study.baseline_seeds or study.seeds) if arm == "baseline" else study.seeds


def count_trials(config: Config) -> int:
    """Return how many of them only choose settings."""
    study = config.study
    n_tried = math.prod(map(len, study.tune.values())) if study.tune else 0
    return len(study.arms) * n_tried * study.tune_seeds


def cell_seconds(config: Config, speed: Speed) -> float:
    """Return the seconds that one cell trains and evaluates on one device."""
    evaluation = config.eval
    n_tests = len(evaluation.data) + (evaluation.test_set is None)
    n_sequences = evaluation.n_val * evaluation.val_sequences + n_tests * evaluation.test_sequences
    evaluating = n_sequences * config.eval_block_size / speed.eval_tokens_per_second
    return config.train.tokens / speed.tokens_per_second + evaluating


def bill(config: Config, speed: Speed) -> str:
    """Return time and dollars of the study, and how they grow."""
    n_cells, seconds = count_cells(config), cell_seconds(config, speed)
    lines = [
        f"{n_cells} cell{'s' * (n_cells > 1)} x {duration(seconds)} = "
        f"{duration(n_cells * seconds)} of one device{dollars(config, n_cells * seconds)}"
    ]
    if n_trials := count_trials(config):
        lines.append(f"  {n_trials} of them choose settings (study.tune), the others are judged")
    if config.study.arms:
        lines.append("  all arms taken as fast as this config: one in float32 may be far slower")
    lines += [f"  {name}: x {factor:.2g}" for name, factor in growth(config).items()]
    return "\n".join(lines)


def dollars(config: Config, seconds: float) -> str:
    """Return the price of device seconds, or how it comes to be known."""
    rate = config.hardware.usd_per_hour
    if rate is None:
        return " (set hardware.usd_per_hour for dollars)"
    return f", ${seconds / 3600 * rate:,.2f}"


def growth(config: Config) -> dict[str, float]:
    """Return by which factor training costs more for larger models or more tokens, at equal MFU."""
    m = config.model
    larger = {
        "twice the layers": replace(m, n_layer=2 * m.n_layer),
        "twice the width": replace(m, n_embd=2 * m.n_embd, n_head=2 * m.n_head),
        "twice the context": replace(m, block_size=2 * m.block_size),
    }
    from harness.cell.speed.flops import flops_by_weights  # imports torch

    now = flops_by_weights(m)
    factors = {name: flops_by_weights(model) / now for name, model in larger.items()}
    return {"twice the tokens": 2.0, **factors}


def card_named(name: str) -> Card:
    """Return a card of the table, in whatever capitals; `ConfigError` if it has none such."""
    plain = re.sub(r"[\W_]", "", name.lower())
    known = {card.replace("_", ""): card for card in CARDS}
    if plain not in known:
        near = [
            card
            for text, card in known.items()
            if plain and (text.endswith(plain) or plain.startswith(text))
        ]
        meant = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise ConfigError(
            f"device={name}: no such card in the table{meant}, which has {', '.join(CARDS)}; "
            "measure another one on its machine: python -m harness.throughput"
        )
    return CARDS[known[plain]]
