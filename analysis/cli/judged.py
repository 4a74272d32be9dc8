"""Judge arms by an LLM's scores of their responses; ranks, and the judge's habits."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.cli import shared
from analysis.errors import require_alpha


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the judged tables."""
    parser.add_argument(
        "judgements",
        nargs="+",
        type=shared.source,
        metavar="JUDGEMENTS",
        help="files of python -m harness.judge",
    )
    shared.add_options(parser, "--baseline")
    shared.add_options(parser, "--alpha", default=0.05, help="family error (default: %(default)s)")
    shared.add_options(parser, "--practical-size", help="practically relevant difference in points")
    parser.add_argument(
        "--gold",
        type=Path,
        metavar="FILE",
        help="hand labels that correct the judge: instruction_id, model, score (CSV or JSON lines)",
    )
    parser.add_argument(
        "--runs",
        nargs="+",
        type=shared.source,
        metavar="RUNS",
        help="the study, for its test losses beside the scores",
    )
    shared.add_options(parser, "--out", help="also write the tables there")
    parser.epilog = "example: python -m analysis judged judgements.jsonl --runs runs/demo"


def run(options: argparse.Namespace) -> int:
    """Print the judged tables."""
    from analysis.comparison.compare import compare
    from analysis.comparison.rules import Rules
    from analysis.judged.gold import read_gold
    from analysis.judged.scores import read_scores
    from analysis.judged.tables import report_judged
    from analysis.judged.verdicts import judged_differences
    from analysis.questions.measures import loss_measure, side_by_side
    from analysis.questions.paired import PairedRules
    from analysis.runs.tables import read_runs

    require_alpha(options.alpha)
    rules = PairedRules(options.baseline, options.alpha, options.practical_size)
    gold = read_gold(options.gold) if options.gold else None
    judged = judged_differences(read_scores(options.judgements), rules, gold)
    report = report_judged(judged)
    print(report.to_markdown(), end="")
    tables = report.tables()
    if options.runs:
        losses = compare(read_runs(options.runs, {}), Rules(baseline=options.baseline))
        beside = side_by_side(loss_measure(losses), [judged.measure()])
        print(f"\n### {beside.caption}\n\n{beside.to_markdown()}", end="")
        tables.append(beside)
    if options.out:
        shared.write(options.out, {f"{table.name}.csv": table.to_csv() for table in tables})
    return 0
