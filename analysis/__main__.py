"""``python -m analysis``: see ``--help``."""

from __future__ import annotations

import argparse
import sys
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

from analysis.cli import COMMANDS
from analysis.errors import AnalysisError
from harness.records.terminal import Parser, complain, printing

DEFAULT = "table"


@printing()
def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; return the exit code (2: the input was refused)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser()
    if given and given[0] not in (*COMMANDS, "-h", "--help"):
        near = get_close_matches(given[0], COMMANDS, n=1)
        if near and not given[0].startswith("-") and not Path(given[0]).exists():
            parser.error(
                f"{given[0]!r} is no command and no file; did you mean: {parser.prog} {near[0]}"
            )
        given.insert(0, DEFAULT)
    if not given:
        parser.print_help()
        return 2
    options, unknown = parser.parse_known_args(given)
    if unknown:  # the command's own --help lists what there is
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    try:
        command = import_module(f"analysis.cli.{options.command.replace('-', '_')}")
        code: int = command.run(options)
    except AnalysisError as error:
        complain(error)
        return 2
    return code


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    parser = Parser(
        prog="python -m analysis",
        description="Which interventions are real improvements, how sure are we, and what would "
        "it cost to be sure? Losses are in nats per token; delta = arm - baseline.",
        epilog="python -m analysis RUNS is short for python -m analysis table RUNS; "
        "each command has its own --help.",
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    subparsers.type = str  # the words after it are for the command's own parser to judge
    for name in COMMANDS:
        module = import_module(f"analysis.cli.{name.replace('-', '_')}")
        summary = (module.__doc__ or "").splitlines()[0]
        child = subparsers.add_parser(
            name,
            help=summary,
            description=summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(child)
        child.set_defaults(command=name.replace("-", "_"), parser=child)
    return parser


if __name__ == "__main__":
    sys.exit(main())
