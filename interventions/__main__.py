"""Print the catalogue: ``python -m interventions [FOLDER]``, FOLDER being your own overlays."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from omegaconf import OmegaConf

from harness.records.files import printable
from harness.records.terminal import printing
from interventions.card import OVERLAYS, Card, read_cards


def main() -> None:
    """Print every card of the folder named, or of the project's own."""
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        return
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else OVERLAYS
    if (folder / OVERLAYS.name).is_dir():  # a folder for hydra.searchpath
        folder /= OVERLAYS.name
    try:
        cards = read_cards(folder)
    except ValueError as error:
        sys.exit(_refuse(str(error)))
    if not cards:
        sys.exit(_refuse(f"no overlays (*.yaml) in {folder}: name a folder of interventions"))
    with printing():
        print(printable("\n\n".join(_describe(card) for card in cards), keep="\n"))


def _describe(card: Card) -> str:
    sets = OmegaConf.to_yaml(OmegaConf.create(card.sets)).strip().replace("\n", "\n  ")
    lines = [card.name, *textwrap.wrap(card.summary, 92), sets]
    if card.published_delta is not None:
        lines += _wrap(
            f"published: {card.published_delta:+.3f} nats/token ({card.published_where})"
        )
    if card.claim:
        lines += _wrap(f"claim{' (in part negative)' * card.claimed_negative}: {card.claim}")
    if card.extra_cost:
        lines += _wrap(f"cost: {card.extra_cost}")
    return "\n  ".join([*lines, *_wrap(f"source: {card.source}")])


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, 92, subsequent_indent="  ")


def _refuse(message: str) -> int:
    print(f"error: {printable(message)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
