"""Judge arms by multiple-choice and last-word tasks; what a lower loss was worth in items."""

from __future__ import annotations

import argparse

from analysis.cli import shared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the benchmarks' tables."""
    shared.add_options(
        parser, "runs", help="a study's folder, whose models answered: harness.evaluate --tasks"
    )
    shared.add_paired(parser, "nats of margin")
    parser.add_argument(
        "--per-character",
        action="store_true",
        help="divide log-likelihoods by the choices' lengths (lm_eval's acc_norm)",
    )
    shared.add_options(parser, "--out", help="also write the tables there")
    parser.epilog = "example: python -m analysis benchmarks runs/demo"


def run(options: argparse.Namespace) -> int:
    """Print one table a task, then all of them beside the test loss."""
    from analysis.benchmarks.answers import read_tasks
    from analysis.benchmarks.tables import beside_loss, checks, task_table
    from analysis.benchmarks.verdicts import judge_task
    from analysis.check import bullets
    from analysis.comparison.compare import compare
    from analysis.comparison.rules import Rules
    from analysis.runs.tables import read_runs
    from analysis.table import document

    rules = shared.paired_rules(options)
    runs, per = read_runs(options.runs), options.per_character
    found = [
        judge_task(task, rules, per_character=per) for task in read_tasks(runs, per_character=per)
    ]
    tables = [task_table(one) for one in found]
    tables.append(beside_loss(compare(runs, Rules(baseline=options.baseline)), found))
    said = "\n".join(bullets(check for one in found for check in checks(one)))
    print(document("Benchmarks", *tables, said), end="")
    shared.write_tables(options.out, tables)
    return 0
