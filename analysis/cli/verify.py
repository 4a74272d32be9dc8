"""Trace every figure of results.{json,md,csv,tex} to its records, those to their files."""

from __future__ import annotations

import argparse
from pathlib import Path

EPILOG = """examples:
  python -m analysis verify runs/demo
  python -m analysis verify runs/demo --rerun runs/demo/baseline/1f2e3d --steps 20
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verification."""
    parser.add_argument("studies", nargs="+", type=Path, metavar="STUDY", help="a study's folder")
    parser.add_argument(
        "--rerun", type=Path, metavar="CELL", help="train this cell again and compare its curve"
    )
    parser.add_argument("--steps", type=int, default=50, help="of --rerun (default: %(default)s)")
    parser.epilog = EPILOG


def run(options: argparse.Namespace) -> int:
    """Print the checks; exit code 1 if one failed or a rerun differs."""
    from analysis.audit.verify import verify

    passed = True
    for study in options.studies:
        found = verify(study)
        print(found.to_markdown(), end="")
        passed &= found.passed
    if options.rerun is not None:
        from analysis.audit.rerun import rerun

        cell = options.rerun
        if not cell.exists():  # a cell's name, or ARM/NAME
            cell = next((p for s in options.studies for p in s.glob(f"**/{cell}")), cell)
        again = rerun(cell, options.steps)
        passed &= again.identical
        word = "identical" if again.identical else f"differs by up to {again.largest_difference:g}"
        print(
            f"\nRerun of {options.rerun}: training loss {word} over {len(again.steps)} logged "
            f"steps up to {again.steps[-1]}."
        )
        if again.elsewhere:
            print(f"Not the run of then: {'; '.join(again.elsewhere)}.")
        elif not again.identical:
            print("Code, packages and device are those of then: the training is not deterministic.")
    return 0 if passed else 1
