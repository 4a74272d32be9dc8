"""Say how many seeds a study needs, with its power curve and cost, before it is run."""

from __future__ import annotations

import argparse
import math

from analysis.cli import shared
from analysis.errors import AnalysisError

EPILOG = """examples:
  python -m analysis plan runs/demo                              what would decide its arms
  python -m analysis plan --delta 0.01 --arms 6                  at noises measured elsewhere
  python -m analysis plan --delta 0.02 --arms 8 --sd 0.015 --rho 0.4
  python -m analysis plan runs/demo --delta 0.02 --arms 8        the next study, at its noise
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a plan."""
    amount, finite = shared.number(float, at_most=shared.LARGEST), shared.number(float)
    help_of_runs = "finished runs that show the noise and the cost"
    shared.add_options(parser, "runs", nargs="*", help=help_of_runs)
    parser.add_argument(
        "--delta",
        type=shared.number(float, above=0, at_most=shared.LARGEST),
        metavar="SIZE",
        help="smallest difference worth finding, in the metric's unit (default: the practical "
        "size of the RUNS)",
    )
    parser.add_argument(
        "--arms",
        type=shared.number(int, at_least=1, at_most=10_000),
        metavar="T",
        help="interventions and stacks, without the baseline (default: those of the RUNS)",
    )
    parser.add_argument(
        "--pilot",
        nargs="+",
        type=shared.source,
        default=[],
        metavar="RUNS",
        help="another way to give RUNS",
    )
    parser.add_argument("--sd", type=amount, metavar="SD", help="noise sd of one run")
    parser.add_argument(
        "--rho",
        type=shared.number(float, at_least=-1, at_most=1),
        metavar="R",
        help="correlation of same-seed runs (default: the pilot's, else 0)",
    )
    shared.add_options(parser, "--alpha")
    parser.add_argument("--power", type=finite, default=0.8, help="(default: %(default)s)")
    parser.add_argument("--hours", type=amount, help="of one run (default: the pilot's)")
    parser.add_argument("--usd", type=amount, help="dollars of one run (default: the pilot's)")
    shared.add_options(parser, *shared.READING)
    parser.epilog = EPILOG


def run(options: argparse.Namespace) -> int:
    """Print the plan."""
    from dataclasses import replace

    from analysis.questions.plan import Pilot, pilot_of, plan

    rules = shared.rules(options)
    options.runs = [*options.runs, *options.pilot]
    if not options.runs and None in (options.delta, options.arms):
        raise AnalysisError(
            "nothing to plan from: name finished runs, e.g. runs/demo, or say what to find: "
            "--delta 0.01 --arms 6"
        )
    if options.sd is None and not options.runs:
        print(_without_noise(options, rules.unit()), end="")
        return 0
    if options.runs:
        pilot = pilot_of(shared.read(options), rules)
    else:
        nothing = "not known, so that sharing seeds gains nothing; --rho says otherwise"
        pilot = Pilot(options.sd, math.inf, 0.0, unit=rules.unit(), rho_source=nothing)
    names = ("sd", "rho", "hours", "usd")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.rho is not None:
        given["rho_source"] = ""
    if options.sd is not None:
        given |= {"df": math.inf, "source": "the command line"}
    pilot = replace(pilot, **given)
    delta, n_arms = options.delta or pilot.size or pilot.sd, options.arms or pilot.n_arms
    result = plan(delta, pilot, n_arms, alpha=options.alpha, power=options.power)
    print(result.to_markdown(), end="")
    return 0


def _without_noise(options: argparse.Namespace, unit: str) -> str:
    from analysis.questions.typical_noise import Outlook

    if not unit:
        raise AnalysisError(
            f"the noise of {options.metric} is not known: give --sd, or finished runs with --pilot"
        )
    names = ("alpha", "power", "hours", "usd")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    return Outlook(options.delta, options.arms, **given).to_markdown()
