"""Report the noise band, its sources, the pairing of seeds, and the test set's share."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.cli import shared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the noise report."""
    shared.add_sources(parser)
    parser.add_argument(
        "--arms",
        choices=("auto", "baseline", "all"),
        default="auto",
        help="whose spread is split into sources (default: %(default)s)",
    )
    parser.add_argument(
        "--clusters", type=Path, metavar="FILE", help=".npy with the document of each test sequence"
    )
    parser.epilog = "example: python -m analysis noise runs/demo"


def run(options: argparse.Namespace) -> int:
    """Print the noise report."""
    from analysis.questions.noise import noise

    runs, rules = shared.read(options), shared.rules(options)
    report = noise(runs, rules, arms=options.arms, clusters=options.clusters)
    print(report.to_markdown(), end="")
    return 0
