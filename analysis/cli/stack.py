"""Compare stacked interventions with the sum of their parts, and take each part out."""

from __future__ import annotations

import argparse

from analysis.cli import shared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the additivity tables."""
    shared.add_sources(parser)
    shared.add_decision(parser)
    parser.epilog = "example: python -m analysis stack runs/published"


def run(options: argparse.Namespace) -> int:
    """Print the additivity tables."""
    from analysis.comparison.compare import compare
    from analysis.questions.stack import stack

    print(stack(compare(shared.read(options), shared.rules(options))).to_markdown(), end="")
    return 0
