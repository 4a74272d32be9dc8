"""Print a runnable sweep that screens many interventions at once, or analyse its runs."""

from __future__ import annotations

import argparse

from analysis.commands import shared

EPILOG = """examples:
  python -m analysis design no_dropout qkv_bias gradient_clipping weight_tying
  python -m analysis design a b c d higher_lr scheduled_lr --exclusive higher_lr,scheduled_lr
  python -m analysis design --analyse runs/screen
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a screening design."""
    parser.add_argument("interventions", nargs="*", metavar="NAME", help="2 to 16 interventions")
    parser.add_argument(
        "--exclusive",
        action="append",
        default=[],
        metavar="A,B",
        help="two of them that cannot be on together",
    )
    parser.add_argument("--seeds", type=int, default=1, help="repeats (default: %(default)s)")
    parser.add_argument(
        "--analyse",
        nargs="+",
        dest="runs",
        metavar="RUNS",
        help="estimate the effects from the design's runs",
    )
    parser.add_argument("--alpha", type=float, default=0.05, help="(default: %(default)s)")
    parser.add_argument("--metric", default="test_loss", metavar="COLUMN")
    parser.add_argument(
        "--higher-is-better", action="store_true", help="the metric is an accuracy, not a loss"
    )
    parser.add_argument("--column", action="append", default=[], metavar="OURS=THEIRS")
    parser.epilog = EPILOG


def run(options: argparse.Namespace) -> int:
    """Print the design, or the effects."""
    from analysis.screening import analyse, design

    if options.runs:
        result = analyse(
            shared.read(options),
            metric=options.metric,
            alpha=options.alpha,
            higher_is_better=options.higher_is_better,
        )
        print(result.to_markdown(), end="")
        return 0
    pairs = [text.split(",") for text in options.exclusive]
    print(design(options.interventions, pairs, options.seeds).to_markdown(), end="")
    return 0
