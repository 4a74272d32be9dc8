"""Write report.html, one file to look at, with its tables and figures beside it."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.commands import shared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the report."""
    shared.add_sources(parser)
    shared.add_decision(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write (default: beside the runs)"
    )
    parser.add_argument(
        "--only-page", action="store_true", help="leave out the tables/ and figures/ folders"
    )
    parser.epilog = "example: python -m analysis report runs/demo"


def run(options: argparse.Namespace) -> int:
    """Write the report and say where it is."""
    from analysis.report import write_report

    done = write_report(
        shared.read(options), shared.rules(options), options.out, extras=not options.only_page
    )
    size = done.report.stat().st_size / 1e6
    print(f"Written: {done.report} ({size:.2f} MB)")
    if not options.only_page:
        folder = done.report.parent
        print(
            f"Written: {folder}/tables/ ({len(done.tables)} files), "
            f"{folder}/figures/ ({len(done.figures)} files)"
        )
    return 0
