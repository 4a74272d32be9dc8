"""Write report.html, one file to look at, with its tables and figures beside it."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.cli import shared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the report."""
    shared.add_sources(parser)
    shared.add_decision(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write (default: beside the runs)"
    )
    parser.add_argument(
        "--figures", action="store_true", help="write figures/ too, every chart as SVG and PNG"
    )
    parser.epilog = "example: python -m analysis report runs/demo --figures"


def run(options: argparse.Namespace) -> int:
    """Write the report and say where it is."""
    from analysis.report import write_report

    done = write_report(
        shared.read(options), shared.rules(options), options.out, figures=options.figures
    )
    print(f"Written: {done.report} ({done.report.stat().st_size / 1e6:.2f} MB)")
    print(f"Written: {done.tables[0].parent}/ ({len(done.tables)} files: markdown, CSV, LaTeX)")
    if done.figures:
        print(f"Written: {done.figures[0].parent}/ ({len(done.figures)} files: SVG, PNG)")
    if done.evidence.comparison is None:
        print(f"It compares nothing: {done.evidence.reasons['verdicts']}")
    return 0
