"""Fit the loss against the batch size, and give the best batch with its interval."""

from __future__ import annotations

import argparse

from analysis.cli import shared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the batch-size fit."""
    shared.add_sources(parser)
    finite = shared.number(float)
    parser.add_argument("--confidence", type=finite, default=0.95, help="(default: %(default)s)")
    parser.epilog = "example: python -m analysis batch-size runs.csv --column batch_size=bs"


def run(options: argparse.Namespace) -> int:
    """Print the fit."""
    from analysis.questions.batch_size import batch_size

    runs, rules = shared.read(options), shared.rules(options)
    print(batch_size(runs, rules, confidence=options.confidence).to_markdown(), end="")
    return 0
