"""Read the cards that the overlays in ``conf/intervention`` carry."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from omegaconf import OmegaConf

from harness.records.files import CONF_DIR

OVERLAYS = CONF_DIR / "intervention"


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One intervention: what it changes, where it comes from, what was published about it."""

    name: str
    summary: str
    source: str
    published_delta: float | None
    """Test loss minus baseline, nats per token; negative is better."""
    published_where: str | None
    claim: str | None
    """What sources report otherwise, with scale and baseline."""
    claimed_negative: bool
    """A source reports that it does not help."""
    extra_cost: str | None
    """Parameters, memory or time beyond the baseline's."""
    not_with: dict[str, str]
    """What it does not combine with, and why."""
    control: bool
    """An A/A control."""
    sets: dict[str, Any]
    """What the overlay sets, apart from its card's words."""

    @classmethod
    def of(cls, name: str, card: Any, **sets: Any) -> Self:
        """Return a card from anything that has its fields."""
        words = {
            f.name: getattr(card, f.name) for f in fields(cls) if f.name not in ("name", "sets")
        }
        return cls(name=name, sets=sets, **words)


def read_card(path: Path) -> Card:
    """Read the card of one overlay; it must have one, with a summary and a source."""
    content = OmegaConf.load(path)
    raw: dict[str, Any] = OmegaConf.to_container(content, resolve=False)  # type: ignore[assignment]
    card = raw.pop("interventions", {}).get(path.stem, {})
    missing = [key for key in ("summary", "source") if not card.get(key)]
    if missing:
        raise ValueError(
            f"{path}: interventions.{path.stem} lacks {' and '.join(missing)}: add the card"
        )
    return Card(
        name=path.stem,
        summary=card["summary"],
        source=card["source"],
        published_delta=card.get("published_delta"),
        published_where=card.get("published_where"),
        claim=card.get("claim"),
        claimed_negative=card.get("claimed_negative", False),
        extra_cost=card.get("extra_cost"),
        not_with=card.get("not_with", {}),
        control=card.get("control", False),
        sets={key: card[key] for key in ("event", "fn") if key in card} | raw,
    )


def read_cards(folder: Path = OVERLAYS) -> list[Card]:
    """Read all cards of a folder of overlays, by name; ``baseline`` is none."""
    return [read_card(path) for path in sorted(folder.glob("*.yaml")) if path.stem != "baseline"]
