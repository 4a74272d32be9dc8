"""Say how many tokens, FLOPs and seconds each arm needs to reach a loss."""

from __future__ import annotations

import argparse

from analysis.cli import shared
from analysis.errors import AnalysisError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the question."""
    shared.add_sources(parser)
    shared.add_options(parser, "--alpha", "--variance")
    parser.add_argument(
        "--target",
        default="baseline",
        metavar="LOSS",
        help="validation loss to reach, or baseline: the last loss that all its runs reach "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--credit",
        type=shared.number(float, above=0, at_most=shared.LARGEST),
        metavar="NATS",
        help="turn each run's last loss into steps: so many nats are worth a hundred "
        "(0.0045 in modded-nanogpt's track 3)",
    )
    parser.epilog = "example: python -m analysis speed runs/demo"


def run(options: argparse.Namespace) -> int:
    """Print the answer."""
    from analysis.questions.tokens_to_target import speed

    runs, rules = shared.read(options), shared.rules(options)
    found = speed(runs, rules, target=_target(options.target), credit=options.credit)
    print(found.to_markdown(), end="")
    return 0


def _target(text: str) -> float | None:
    if text == "baseline":
        return None
    try:
        return shared.number(float)(text)
    except argparse.ArgumentTypeError:
        raise AnalysisError(f"--target {text}: a loss, or baseline") from None
