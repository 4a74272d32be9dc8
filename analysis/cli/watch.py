"""Serve the report on 127.0.0.1 and keep it up to date while the study runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.cli import shared
from analysis.errors import AnalysisError

PORT = 8765


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the live report."""
    shared.add_sources(parser)
    shared.add_decision(parser)
    port = shared.number(int, at_least=0, at_most=65_535)
    parser.add_argument(
        "--port", type=port, default=PORT, help="0: any free one (default: %(default)s)"
    )
    parser.epilog = "example: python -m analysis watch runs/demo"


def run(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from analysis.report.watch import HOST, Live, server
    from harness.records.study import meant

    missing = [path for path in options.runs if not Path(path).exists()]
    if missing:
        instead = meant(missing[0]) or "start the study first, or name its folder"
        raise AnalysisError(f"no {missing[0]}: {instead}")
    live = Live(options.runs, shared.rules(options), shared.reading(options))
    with server(live, options.port) as made:
        print(f"Open http://{HOST}:{made.server_address[1]}/ (Ctrl-C stops)", flush=True)
        try:
            made.serve_forever()
        except KeyboardInterrupt:
            print("\nStopped.")
    return 0
