"""Write report.html, one file to look at, with its tables and figures beside it."""

from __future__ import annotations

import argparse

from analysis.cli import shared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the report."""
    shared.add_sources(parser)
    shared.add_decision(parser)
    shared.add_options(parser, "--out")
    parser.add_argument(
        "--figures", action="store_true", help="write figures/ too, every chart as SVG and PNG"
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=shared.source,
        default=[],
        metavar="STUDY",
        help="studies of the same arms at other sizes: a section says what holds at scale",
    )
    parser.epilog = (
        "examples:\n  python -m analysis report runs/demo --figures\n"
        "  python -m analysis report runs/ladder_demo --sizes runs/ladder_demo_s runs/ladder_demo_m"
    )


def run(options: argparse.Namespace) -> int:
    """Write the report and say where it is."""
    from analysis.report import write_report

    runs, *sizes = shared.read_apart(options, [options.runs, *([size] for size in options.sizes)])
    done = write_report(
        runs, shared.rules(options), options.out, figures=options.figures, sizes=sizes
    )
    print(f"Written: {done.report} ({done.report.stat().st_size / 1e6:.2f} MB)")
    print(f"Written: {done.tables[0].parent}/ ({len(done.tables)} files: markdown, CSV, LaTeX)")
    if done.figures:
        print(f"Written: {done.figures[0].parent}/ ({len(done.figures)} files: SVG, PNG)")
    if done.evidence.comparison is None:
        print(f"It compares nothing: {done.evidence.reasons['verdicts']}")
    return 0
