"""Judge arms by an LLM's scores of their responses; ranks, and the judge's habits."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.cli import shared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the judged tables."""
    parser.add_argument(
        "judgements",
        nargs="+",
        type=shared.source,
        metavar="JUDGEMENTS",
        help="files of python -m harness.judge",
    )
    shared.add_paired(parser, "points")
    parser.add_argument(
        "--gold",
        type=Path,
        metavar="FILE",
        help="hand labels that correct the judge: instruction_id, model, score (CSV or JSON lines; "
        "default: gold.csv or gold.jsonl beside the judgements, where there is one)",
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
    from analysis.judged.gold import gold_beside, read_gold
    from analysis.judged.scores import read_scores
    from analysis.judged.tables import report_judged
    from analysis.judged.verdicts import judged_differences
    from analysis.questions.measures import loss_measure, side_by_side
    from analysis.runs.tables import read_runs

    rules = shared.paired_rules(options)
    beside = Path(options.judgements[0])
    gold = read_gold(options.gold) if options.gold else gold_beside(beside)
    judged = judged_differences(read_scores(options.judgements), rules, gold)
    report = report_judged(judged)
    print(report.to_markdown(), end="")
    tables = report.tables()
    if options.runs:
        losses = compare(read_runs(options.runs), Rules(baseline=options.baseline))
        measures = side_by_side(loss_measure(losses), [judged.measure()])
        print(f"\n### {measures.caption}\n\n{measures.to_markdown()}", end="")
        tables.append(measures)
    shared.write_tables(options.out, tables)
    return 0
