"""Compare every arm with the baseline: the results table, and results.{md,csv,json,tex}."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.cli import shared
from analysis.errors import AnalysisError

if TYPE_CHECKING:
    from analysis.comparison.result import Comparison

EPILOG = """examples:
  python -m analysis runs/demo
  python -m analysis runs/demo --rope 0.01
  python -m analysis mine.csv --column arm=config --metric val_loss --baseline control
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the results table."""
    shared.add_sources(parser)
    shared.add_decision(parser)
    parser.add_argument(
        "--reference",
        action="append",
        default=[],
        metavar="NAME=LOSS",
        help="a published figure to show; it enters no statistics",
    )
    shared.add_options(parser, "--out")
    parser.add_argument("--no-write", action="store_true", help="print only")
    parser.epilog = EPILOG


def run(options: argparse.Namespace) -> int:
    """Print the table and write it beside the runs."""
    from dataclasses import replace

    from analysis.questions.tokens_to_target import compare_with_speed

    references = tuple(_reference(text) for text in options.reference)
    runs = shared.read(options)
    result = compare_with_speed(runs, replace(shared.rules(options), references=references))
    print(result.to_markdown(), end="")
    if not options.no_write:
        _write(result, options.out or runs.home or Path(), runs.stem)
    return 0


def _write(result: Comparison, folder: Path, stem: str) -> None:
    """Write the results, and say which rules' results they replace."""
    before = _rules_of(folder / f"{stem}.json")
    contents = {
        "md": result.to_markdown(),
        "csv": result.to_csv(),
        "json": result.to_json(),
        "tex": result.to_latex(),
    }
    shared.write(folder, {f"{stem}.{ending}": text for ending, text in contents.items()})
    print(f"\nWritten: {folder}/{stem}.{{{','.join(contents)}}}")
    after = _rules_of(folder / f"{stem}.json")
    changed = [
        f"{name} {_short(before[name])}" for name in before if before[name] != after.get(name)
    ]
    if changed:
        print(f"They replace those of other rules ({', '.join(changed)}); --out keeps both.")


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _rules_of(file: Path) -> dict[str, object]:
    """Return the rules of results that were written before; none where there is no such file."""
    names = ("metric", "baseline", "alpha", "rope", "variance", "higher_is_better")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {name: content[name] for name in names}
    except (OSError, ValueError, KeyError):
        return {}


def _reference(text: str) -> tuple[str, float]:
    name, value = shared.pair(text, "--reference")
    try:
        return name, float(value)
    except ValueError:
        raise AnalysisError(f"--reference {text!r}: {value!r} is not a number") from None
