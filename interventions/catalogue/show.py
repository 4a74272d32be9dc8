"""Show one intervention: its card, what it changes, and what it was measured to do here."""

from __future__ import annotations

import textwrap
from typing import Any

from interventions.card import Card
from interventions.catalogue.measured import Measured

WIDTH = 92


def describe(card: Card, settings: str) -> str:
    """Return a card as text, with what it sets in the middle."""
    lines = [card.name, *textwrap.wrap(card.summary, WIDTH), settings.strip().replace("\n", "\n  ")]
    if card.published_delta is not None:
        lines += _wrap(
            f"published: {card.published_delta:+.3f} nats/token ({card.published_where})"
        )
    if card.claim:
        lines += _wrap(f"claim{' (in part negative)' * card.claimed_negative}: {card.claim}")
    if card.extra_cost:
        lines += _wrap(f"cost: {card.extra_cost}")
    for other, why in card.not_with.items():
        lines += _wrap(f"not with {other}: {why}")
    return "\n  ".join([*lines, *_wrap(f"source: {card.source}")])


def differences(changes: dict[str, list[Any]]) -> str:
    """Return what an arm changes, one key a line."""
    shown = [
        f"{key}: {_value(before)} -> {_value(after)}" for key, (before, after) in changes.items()
    ]
    return "\n".join(shown) or "(no setting)"


def measurements(found: list[Measured]) -> str:
    """Return what an intervention was measured to do here, one study a line."""
    if not found:
        return "measured here: not in the committed results (docs/results)"
    return "\n".join(f"measured here, study {item.study}: {item}" for item in found)


def _value(value: Any) -> str:
    return "none" if value is None else str(value)


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ")
