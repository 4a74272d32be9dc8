"""The catalogue of interventions.

python -m interventions [FOLDER]           list all cards, the project's or those of your folder
python -m interventions show NAME [KEY=VALUE ...]
                                           a card, its diff to the baseline, what it did here
python -m interventions new NAME           start one of your own (--help says how)
python -m interventions publish RUNS       keep a study's results in docs/results
python -m interventions page               write docs/interventions.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import OmegaConf

from harness.records.files import printable, write_atomic
from harness.records.terminal import Parser, complain, printing
from interventions.card import OVERLAYS, Card, read_cards
from interventions.catalogue.show import describe, differences, measurements


@printing()
def main(arguments: list[str] | None = None) -> int:
    """Run the command that is named first, or list the catalogue; return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if given in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    commands = {"show": show, "new": new, "publish": publish, "page": page}
    command = commands.get(given[0], listing) if given else listing
    try:
        command(given if command is listing else given[1:])
    except ValueError as error:  # ConfigError, too
        complain(error)
        return 2
    return 0


def listing(given: list[str]) -> None:
    """Print every card of the folder named, or of the project's own."""
    if len(given) > 1:
        raise ValueError(f"one folder or command is listed at a time: what is {given[1]!r} for?")
    folder = Path(given[0]) if given else OVERLAYS
    if (folder / OVERLAYS.name).is_dir():  # a folder for hydra.searchpath
        folder /= OVERLAYS.name
    cards = read_cards(folder)
    if not cards:
        raise ValueError(f"no overlays (*.yaml) in {folder}: name a folder of interventions")
    cards_text = "\n\n".join(describe(card, _settings(card)) for card in cards)
    print(printable(cards_text, keep="\n"))


def _settings(card: Card) -> str:
    return OmegaConf.to_yaml(OmegaConf.create(card.sets))


def show(given: list[str]) -> None:
    """Print one card, what it changes at the scale that the overrides choose, and its results."""
    from harness.config.compose import load
    from interventions.catalogue.measured import read_measured

    if not given:
        raise ValueError("show needs a name: python -m interventions show NAME [KEY=VALUE ...]")
    name, overrides = given[0], given[1:]
    config = load([*overrides, f"+intervention={name}"])
    card = Card.of(name, config.interventions[name])
    changes = f"against the baseline (scale={config.scale_name}):\n{differences(config.changes)}"
    print(describe(card, changes.replace("\n", "\n  ")))
    print(f"\n{measurements(read_measured().get(name, []))}")


def new(given: list[str]) -> None:
    """Write an overlay, its module and its test from a few answers."""
    from interventions.catalogue.new import create

    create(given)


def publish(given: list[str]) -> None:
    """Keep the main figures of studies, and renew the page."""
    from interventions.catalogue.measured import publish as keep

    parser = Parser(prog="python -m interventions publish", description=publish.__doc__)
    parser.add_argument("studies", nargs="+", type=Path, metavar="STUDY", help="e.g. runs/NAME")
    studies = parser.parse_args(given).studies
    if missing := [study for study in studies if not study.is_dir()]:
        parser.error(f"{missing[0]} is no study's folder")
    for study in studies:
        print(f"Written: {keep(study)}")
    page([])


def page(given: list[str]) -> None:
    """Write docs/interventions.md."""
    Parser(prog="python -m interventions page", description=page.__doc__).parse_args(given)
    from interventions.catalogue.page import PAGE, render

    write_atomic(PAGE, render())
    print(f"Written: {PAGE}")


if __name__ == "__main__":
    sys.exit(main())
