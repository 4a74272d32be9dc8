"""Print a runnable sweep that screens many interventions at once, or analyse its runs."""

from __future__ import annotations

import argparse
from difflib import get_close_matches
from pathlib import Path

from analysis.cli import shared
from harness.records.files import CONF_DIR

CATALOGUE = CONF_DIR / "intervention"
EPILOG = """examples:
  python -m analysis design no_dropout qkv_bias gradient_clipping weight_tying
  python -m analysis design a b c d higher_lr scheduled_lr --exclusive higher_lr,scheduled_lr
  python -m analysis design --analyse runs/screen
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a screening design."""
    parser.add_argument("interventions", nargs="*", metavar="NAME", help="2 to 16 interventions")
    parser.add_argument(
        "--exclusive",
        action="append",
        default=[],
        metavar="A,B",
        help="two of them that cannot be on together",
    )
    count = shared.number(int, at_least=1, at_most=10_000)
    parser.add_argument("--seeds", type=count, default=1, help="repeats (default: %(default)s)")
    parser.add_argument(
        "--analyse",
        nargs="+",
        type=shared.source,
        dest="runs",
        metavar="RUNS",
        help="estimate the effects from the design's runs",
    )
    shared.add_options(parser, "--alpha", help="family error of --analyse (default: 0.05)")
    shared.add_options(parser, *shared.READING)
    parser.epilog = EPILOG


def run(options: argparse.Namespace) -> int:
    """Print the design, or the effects."""
    from analysis.questions.design import design
    from analysis.questions.design_effects import analyse

    if options.runs:
        result = analyse(shared.read(options), shared.rules(options))
        print(result.to_markdown(), end="")
        return 0
    pairs = [text.split(",") for text in options.exclusive]
    print(design(options.interventions, pairs, options.seeds).to_markdown(), end="")
    print(_unknown(options.interventions, CATALOGUE), end="")
    return 0


def _unknown(names: list[str], folder: Path) -> str:
    """Return a note on the names that the catalogue does not have, if it is at hand."""
    known = [file.stem for file in folder.glob("*.yaml")]
    unknown = [name for name in names if name not in known]
    if not known or not unknown:
        return ""
    close = {name: get_close_matches(name, known, n=1) for name in unknown}
    listed = ", ".join(
        f"{name} (did you mean {near[0]}?)" if near else name for name, near in close.items()
    )
    return (
        f"\nNote: not in the catalogue (python -m interventions): {listed}. Overlays of your own "
        "lie in ./my_conf or ./conf; elsewhere: 'hydra.searchpath=[file://FOLDER]'.\n"
    )
