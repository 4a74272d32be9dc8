"""Compare every arm with the baseline: the results table, and results.{md,csv,json,tex}."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.cli import shared
from analysis.errors import AnalysisError

if TYPE_CHECKING:
    from analysis.comparison.result import Comparison
    from analysis.runs.frame import Runs

EPILOG = """examples:
  python -m analysis runs/demo
  python -m analysis runs/demo --practical-size 0.01
  python -m analysis mine.csv --column arm=config --metric val_loss --baseline control
  python -m analysis mine.csv --column arm=Model,LR --where Corpus=c4 --baseline 'gpt2, 0.001'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the results table."""
    shared.add_options(parser, "runs", *(name for name in shared.READING if name != "--metric"))
    shared.add_options(
        parser,
        "--metric",
        action="append",
        default=None,
        help="what to compare (default: test_loss); given several times: a table of each",
    )
    parser.add_argument(
        "--higher",
        action="append",
        default=[],
        type=shared.text,
        metavar="METRIC",
        help="of several metrics, one that is an accuracy, not a loss; may be given several times",
    )
    shared.add_decision(parser)
    parser.add_argument(
        "--reference",
        action="append",
        default=[],
        metavar="NAME=LOSS",
        help="a published figure to show, e.g. GPT-2=3.11 or 'GPT-2=3.11 ± 0.02 (5)'; it enters no "
        "statistics",
    )
    shared.add_options(parser, "--out")
    parser.add_argument("--no-write", action="store_true", help="print only")
    parser.epilog = EPILOG


def run(options: argparse.Namespace) -> int:
    """Write the tables beside the runs, then print them: printing may fail."""
    metrics = [options.metric] if isinstance(options.metric, str) else options.metric
    metrics = metrics or ["test_loss"]
    higher = _higher(options, metrics)
    texts, lines = [], []
    for metric in metrics:
        of_one = {"metric": metric, "higher_is_better": metric in higher}
        runs, result = _compared(argparse.Namespace(**{**vars(options), **of_one}))
        contents = {
            "md": result.to_markdown(),
            "csv": result.to_csv(),
            "json": result.to_json(),
            "tex": result.to_latex(),
        }
        texts.append(contents["md"])
        if not options.no_write:
            more = "_" + re.sub(r"\W+", "_", metric) if len(metrics) > 1 else ""
            lines += _write(contents, options.out or runs.home or Path(), f"{runs.stem}{more}")
    if len(metrics) > 1:
        texts.append(
            f"{len(metrics)} metrics: the family error holds in each table by itself; a finding "
            "that is to hold over all of them needs --alpha divided by their number.\n"
        )
    print("\n".join(texts), end="")
    print("\n".join(["", *lines]) if lines else "", end="\n" if lines else "")
    return 0


def _higher(options: argparse.Namespace, metrics: list[str]) -> list[str]:
    """Return the metrics of which higher is better."""
    unknown = next((name for name in options.higher if name not in metrics), None)
    if unknown is not None:
        raise AnalysisError(
            f"--higher {unknown} is no metric of this command, {', '.join(metrics)}: add --metric "
            f"{unknown}, or leave --higher out"
        )
    if options.higher_is_better and len(metrics) > 1:
        raise AnalysisError(
            f"--higher-is-better with {len(metrics)} metrics, {', '.join(metrics)}: say of which, "
            f"each with a --higher METRIC, e.g. --higher {metrics[-1]}"
        )
    return metrics if options.higher_is_better else list(options.higher)


def _compared(options: argparse.Namespace) -> tuple[Runs, Comparison]:
    from analysis.questions.tokens_to_target import compare_with_speed

    references = tuple(_reference(text) for text in options.reference)
    runs = shared.read(options)
    rules = replace(shared.rules(options), references=references)
    return runs, compare_with_speed(runs, rules)


def _write(contents: dict[str, str], folder: Path, stem: str) -> list[str]:
    """Write the results; return where, and which rules' results they replace."""
    before = _rules_of(folder / f"{stem}.json")
    shared.write(folder, {f"{stem}.{ending}": text for ending, text in contents.items()})
    lines = [f"Written: {folder}/{stem}.{{{','.join(contents)}}}"]
    after = _rules_of(folder / f"{stem}.json")
    changed = [
        f"{name} {_short(before[name])}" for name in before if before[name] != after.get(name)
    ]
    if changed:
        lines.append(f"They replace those of other rules ({', '.join(changed)}); --out keeps both.")
    return lines


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _rules_of(file: Path) -> dict[str, object]:
    """Return the rules of results that were written before; none where there is no such file."""
    names = ("metric", "baseline", "alpha", "rope", "variance", "higher_is_better")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {"practical size" if name == "rope" else name: content[name] for name in names}
    except (OSError, ValueError, KeyError):
        return {}


def _reference(text: str) -> tuple[str, float]:
    """Return a name and a figure; a mean's sd and number of runs stand beside the name."""
    from analysis.runs.shapes import PLUS_MINUS

    name, value = shared.pair(text, "--reference")
    if mean := PLUS_MINUS.fullmatch(value):
        count = f", n {mean['n']}" if mean["n"] else ""
        name, value = f"{name} (± {mean['sd']}{count})", mean["mean"]
    try:
        return name, shared.number(float)(value)
    except argparse.ArgumentTypeError:
        raise AnalysisError(f"--reference {text!r}: {value!r} is not a number") from None
