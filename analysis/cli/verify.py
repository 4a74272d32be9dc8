"""Trace every figure of results.{json,md,csv,tex} to its records, those to their files."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.cli import shared

EPILOG = """examples:
  python -m analysis verify runs/demo
  python -m analysis verify runs/demo --rerun runs/demo/baseline/1f2e3d --steps 20
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verification."""
    parser.add_argument("studies", nargs="+", type=Path, metavar="STUDY", help="a study's folder")
    parser.add_argument(
        "--rerun",
        type=Path,
        metavar="CELL",
        help="train this cell again and compare its curve; runs the code in its folder",
    )
    count = shared.number(int, at_least=1, at_most=10**12)
    parser.add_argument("--steps", type=count, default=50, help="of --rerun (default: %(default)s)")
    parser.epilog = EPILOG


def run(options: argparse.Namespace) -> int:
    """Print the checks; exit code 1 if one failed or a rerun differs."""
    from analysis.audit.rerun import rerun
    from analysis.audit.verify import verify

    passed = True
    for study in options.studies:
        found = verify(study)
        print(found.to_markdown(), end="")
        passed &= found.passed
    if options.rerun is not None and not passed:
        print(f"\n{options.rerun} is not run again: its code is trusted only after every check")
    elif options.rerun is not None:
        again = rerun(_cell(options.rerun, options.studies), options.steps)
        print(f"\nRerun of {options.rerun}: {again.to_markdown()}", end="")
        passed &= again.identical
    return 0 if passed else 1


def _cell(given: Path, studies: list[Path]) -> Path:
    """Return a cell's folder, which may be called by its name or by ARM/NAME."""
    if given.exists():
        return given
    return next((path for study in studies for path in study.glob(f"**/{given}")), given)
