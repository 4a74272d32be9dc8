"""Decide arm by arm whether to stop, from the records and the study's frozen plan."""

from __future__ import annotations

import argparse

from analysis.cli import shared
from analysis.errors import AnalysisError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the sequential decision."""
    shared.add_sources(parser)
    parser.add_argument(
        "--looks",
        type=shared.number(int, at_least=1, at_most=10_000),
        nargs="+",
        metavar="N",
        help="seeds per arm at each look (default: the plan's)",
    )
    shared.add_decision(parser)
    parser.epilog = "example: python -m analysis sequential runs/demo --looks 2 3"


def run(options: argparse.Namespace) -> int:
    """Print the state of the sequential study."""
    from dataclasses import replace

    from analysis.comparison.compare import decide
    from harness.records import StudyPlan

    runs = shared.read(options)
    plans = list(runs.plans.values())
    if len(plans) > 1:
        raise AnalysisError(f"runs of {len(plans)} studies ({', '.join(runs.plans)}): give one")
    plan = plans[0] if plans else StudyPlan(study="from the command line")
    given = {"looks": options.looks, "alpha": options.alpha, "rope": options.practical_size}
    plan = replace(plan, **{name: value for name, value in given.items() if value is not None})
    if not plan.looks:
        raise AnalysisError(
            "the study's plan has no looks, so looking early is not accounted for: give those that "
            "were fixed before the first run with --looks, e.g. --looks 2 3 4"
        )
    if options.looks and plans and plans[0].looks not in ([], options.looks):
        print(f"Warning: the plan's looks are {plans[0].looks}; other looks are exploratory.\n")
    decision = decide(runs, plan, shared.rules(options))
    print(decision.to_markdown(), end="")
    return 0
