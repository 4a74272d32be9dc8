"""Say whether effects survive scale: studies of the same arms at several sizes."""

from __future__ import annotations

import argparse

from analysis.cli import shared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the question."""
    shared.add_sources(parser)
    shared.add_options(parser, "--variance")
    parser.add_argument(
        "--at",
        type=shared.number(float, above=0, at_most=1e60),
        metavar="FLOPS",
        help="of one run at the size that is asked about (default: ten times the largest)",
    )
    shared.add_options(parser, "--out", help="write scale.md, .csv, .tex, .svg and .png there")
    parser.epilog = "example: python -m analysis scale runs/ladder_*"


def run(options: argparse.Namespace) -> int:
    """Print the answer, and write it where asked to."""
    from analysis.questions.scale import scale

    sizes = shared.read_apart(options, [[study] for study in options.runs])
    found = scale(sizes, shared.rules(options), at=options.at)
    print(found.to_markdown(), end="")
    if options.out is not None:
        from analysis.report.chart_compute import scale_chart
        from analysis.report.write import write_chart

        shared.write(options.out, found.to_table().files())
        write_chart(scale_chart(found), options.out)
        print(f"\nWritten: {options.out}/scale.{{md,csv,tex,svg,png}}")
    return 0
