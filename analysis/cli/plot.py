"""Draw noise band, effects, loss curves, sources of noise, plan and cost as SVG and PNG files."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.cli import shared
from analysis.errors import AnalysisError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the figures."""
    shared.add_sources(parser)
    shared.add_decision(parser)
    shared.add_options(parser, "--out")
    parser.epilog = "example: python -m analysis plot runs/demo --out figures"


def run(options: argparse.Namespace) -> int:
    """Draw what the runs allow; say what they do not."""
    from analysis.report.evidence import gather
    from analysis.report.sections import CHARTED, sections
    from analysis.report.write import write_figures

    runs = shared.read(options)
    evidence = gather(runs, shared.rules(options))
    if evidence.comparison is None:
        raise AnalysisError(evidence.reasons["verdicts"])
    prefix = runs.stem.removesuffix("results")  # of tables side by side
    for file in write_figures(evidence, options.out or runs.home or Path(), prefix):
        print(f"Written: {file}")
    for part in sections(evidence):
        if part.name in CHARTED and part.chart is None:
            print(f"no figure of {part.title.lower()}: {part.missing or part.text}")
    return 0
