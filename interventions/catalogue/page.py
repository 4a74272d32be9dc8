"""Write docs/interventions.md: every card, and what it was measured to do here."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from harness.records.files import CONF_DIR
from interventions.card import Card, read_cards
from interventions.catalogue.measured import (
    RESULTS,
    Measured,
    read_measured,
    read_origin,
    studies_in,
)

PAGE = CONF_DIR.parent / "docs" / "interventions.md"
HEAD = """\
# The catalogue

<!-- written by `python -m interventions page`; do not edit -->

{n} interventions, one overlay each in [`conf/intervention`](../conf/intervention). Any of them \
alone is `+intervention=NAME`, a stack is `'+intervention=[A,B]'`; one of your own starts with \
`python -m interventions new NAME`, and `python -m interventions show NAME` prints one with its \
diff to the baseline.

"""


def render(results: Path = RESULTS) -> str:
    """Return the page."""
    cards, measured = read_cards(), read_measured(results)
    parts = [HEAD.format(n=len(cards)), *_origins(results), *_table(cards, measured), "\n"]
    parts += [_card(card, measured.get(card.name, [])) for card in cards]
    return "".join(parts)


def _origins(results: Path) -> list[str]:
    """Say of each study's results what they are worth, and how to have them again."""
    said = []
    for file in studies_in(results):
        origin = read_origin(file)
        said.append(
            f"Measured here, study `{file.stem}` ({origin['finished']}, {origin['device']}, torch "
            f"{origin['torch']}): `{origin['command']}`, figures in "
            f"[results/{file.name}](results/{file.name}).{_worth(origin['scale'])}\n\n"
        )
    return said or ["No results of the whole catalogue are committed yet: `make catalogue`.\n\n"]


def _worth(scale: str) -> str:
    if not scale.startswith("demo"):
        return ""
    return (
        " **These are verdicts at the demo's scale**, a byte-level model of half a million "
        "parameters after 307,200 bytes: they show the tool, and no truth about large models."
    )


def _table(cards: list[Card], measured: dict[str, list[Measured]]) -> list[str]:
    rows = ["| intervention | what | measured here |\n|---|---|---|\n"]
    for card in cards:
        found = "<br>".join(map(str, measured.get(card.name, []))) or "–"
        rows.append(f"| [{card.name}](#{card.name}) | {_cell(card.summary)} | {found} |\n")
    return rows


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _card(card: Card, measured: list[Measured]) -> str:
    settings = OmegaConf.to_yaml(OmegaConf.create(card.sets)).strip()
    lines = [f"- Source: {card.source}"]
    if card.published_delta is not None:
        lines.append(
            f"- Published: {card.published_delta:+.3f} nats/token ({card.published_where})"
        )
    if card.claim:
        lines.append(f"- Claim{' (in part negative)' * card.claimed_negative}: {card.claim}")
    if card.extra_cost:
        lines.append(f"- Cost: {card.extra_cost}")
    lines += [f"- Not with `{other}`: {why}" for other, why in card.not_with.items()]
    lines += [f"- Measured here, study `{item.study}`: {item}" for item in measured]
    body = "\n".join(lines)
    shown = "" if settings == "{}" else f"\n```yaml\n{settings}\n```\n"
    return f"\n### {card.name}\n\n{card.summary}.\n\n{body}\n{shown}"
