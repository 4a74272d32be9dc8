"""Price a study on a card that is not at hand, from its FLOPs.

usage: python -m harness.bill [+study=published] [scale=gpt2_small] [KEY=VALUE ...]
                              device=h100 [mfu=0.4] [usd_per_hour=2.5]

Trains nothing. Each arm's FLOPs, at the share `mfu` of the card's peak in the arm's own number
format. `python -m harness.throughput` measures on the machine itself.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from harness.cell.console import EXIT_REFUSED, duration, say
from harness.config import Config, ConfigError
from harness.config.compose import load, load_all
from harness.engine.cards import CARDS, Card
from harness.study.price import (
    card_named,
    cell_seconds,
    count_seeds,
    count_trials,
    dollars,
    speed_on,
)

MFU = 0.4
"""The default share of a card's peak."""
REACHED = "0.41 in llm.c and 0.33 here for the published baseline (docs/gpu.md), less when smaller"


def lines(card: Card, mfu: float, overrides: Sequence[str]) -> list[str]:
    """Return the bill: a line for all arms that take equally long, then the total."""
    config = load(overrides)
    arms = config.study.arms or [config.arm]
    alike: dict[str, list[str]] = {}
    total, n_cells = 0.0, 0
    for arm, own in zip(arms, _of_arms(config, overrides), strict=True):
        speed, n = speed_on(card, mfu, own), _n_runs(config, arm)
        seconds = cell_seconds(own, speed)
        each = f"{duration(seconds)} each, at {speed.tokens_per_second:,.0f} tokens/s"
        alike.setdefault(each, []).append(f"{n} x {arm}")
        total, n_cells = total + n * seconds, n_cells + n
    cells_text = f"{n_cells} cell{'s' * (n_cells > 1)}"
    return [
        *(f"{each}: {', '.join(cells)}" for each, cells in alike.items()),
        f"{cells_text}, {duration(total)} of one device{dollars(config, total)}, "
        f"assuming mfu={mfu:g}",
        f"mfu is the share that training reaches of the peak in {card.source}: {REACHED}; "
        "python -m harness.throughput measures tokens/s on a machine",
    ]


def _n_runs(config: Config, arm: str) -> int:
    """Return how many runs an arm has, those that only choose settings included."""
    if not config.study.arms:
        return 1
    return count_seeds(config, arm) + count_trials(config) // len(config.study.arms)


def _of_arms(config: Config, overrides: Sequence[str]) -> list[Config]:
    if not config.study.arms:
        return [config]
    overlays = [f"+intervention=[{arm.replace('+', ',')}]" for arm in config.study.arms]
    return load_all([[*overrides, overlay] for overlay in overlays])


def main(arguments: list[str] | None = None) -> int:
    """Print the bill of the study that the command line describes; return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(given):
        print(f"{__doc__}\nCards: {', '.join(CARDS)}")
        return 0
    own = dict(word.split("=", 1) for word in given if word.startswith(("device=", "mfu=")))
    overrides = [
        f"hardware.{word}" if word.startswith("usd_per_hour=") else word
        for word in given
        if not word.startswith(("device=", "mfu="))
    ]
    try:
        if "device" not in own:
            raise ConfigError(f"name the card: device=h100; the table has {', '.join(CARDS)}")
        print("\n".join(lines(card_named(own["device"]), _share(own.get("mfu", MFU)), overrides)))
    except ConfigError as error:
        say(f"error: {error}")
        return EXIT_REFUSED
    return 0


def _share(value: str | float) -> float:
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ConfigError(f"mfu={value}: a share of the card's peak, in (0, 1]")
    return share


if __name__ == "__main__":
    sys.exit(main())
