"""Options that several commands take, and the reading and writing that they share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.errors import AnalysisError, require_alpha
from harness.records.files import printable, write_together
from harness.records.numbers import number as number
from harness.records.terminal import source as source
from harness.records.terminal import text as text

if TYPE_CHECKING:
    from analysis.comparison.rules import Rules
    from analysis.questions.paired import PairedRules
    from analysis.runs.frame import Runs
    from analysis.runs.reading import Reading
    from analysis.table import Table

LARGEST = 1e12
"""Of any size, time or price."""
OPTIONS: dict[str, dict[str, Any]] = {
    "runs": {
        "nargs": "+",
        "type": source,
        "metavar": "RUNS",
        "help": "a study's folder, record files, a .csv, .tsv, .parquet, .json or .jsonl, "
        "modded-nanogpt's logs, wandb:ENTITY/PROJECT",
    },
    "--column": {
        "action": "append",
        "default": [],
        "metavar": "OURS=THEIRS",
        "help": "a table's name for one of our columns: arm (of several: arm=Model,LR), seed (or "
        "init_seed, data_seed, loop_seed), test_loss or your --metric, status, run_id, tokens, "
        "hours, usd, study; what is not named is guessed, and the output says how",
    },
    "--where": {
        "action": "append",
        "default": [],
        "metavar": "COLUMN=VALUE",
        "help": "keep these rows of a table, e.g. LR=1e-3; may be given several times",
    },
    "--wide": {
        "choices": ("arms", "seeds"),
        "help": "the table has one column for each arm, or seed (default: where it looks so)",
    },
    "--baseline": {
        "default": "baseline",
        "metavar": "ARM",
        "help": "what the others are compared with (default: %(default)s)",
    },
    "--metric": {
        "default": "test_loss",
        "metavar": "COLUMN",
        "help": "what to compare (default: %(default)s)",
    },
    "--test-set": {
        "dest": "metric",
        "type": lambda name: f"test_loss.{text(name)}",
        "default": argparse.SUPPRESS,
        "metavar": "NAME",
        "help": "compare on this test set of eval.data instead of the study's main one",
    },
    "--higher-is-better": {
        "action": "store_true",
        "help": "the metric is an accuracy, not a loss",
    },
    "--allow-reruns": {
        "action": "store_true",
        "help": "accept repeats of one arm with equal seeds",
    },
    "--alpha": {
        "type": number(float),
        "metavar": "P",
        "help": "family error (default: the plan's, else 0.05)",
    },
    "--practical-size": {
        "former": "--rope",
        "type": number(float, above=0, at_most=LARGEST),
        "metavar": "SIZE",
        "help": "practically relevant difference in the metric's unit (default: the plan's, else "
        "one sd)",
    },
    "--variance": {
        "choices": ("moderated", "pooled"),
        "default": "moderated",
        "help": "average over equally and unequally noisy arms by how likely each is (default), or "
        "take all arms to be equally noisy",
    },
    "--out": {
        "type": Path,
        "metavar": "DIR",
        "help": "where to write (default: beside the runs)",
    },
}
READING = (
    "--column",
    "--where",
    "--wide",
    "--baseline",
    "--metric",
    "--test-set",
    "--higher-is-better",
    "--allow-reruns",
)
DECIDING = ("--alpha", "--practical-size", "--variance")


def add_options(parser: argparse.ArgumentParser, *names: str, **changes: Any) -> None:
    """Add options by name; `changes` to their declaration are of one command."""
    for name in names:
        how = {**OPTIONS[name], **changes}
        former = how.pop("former", None)
        parser.add_argument(name, *([former] if former else []), **how)


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add the runs and how to read them."""
    add_options(parser, "runs", *READING)


def add_decision(parser: argparse.ArgumentParser) -> None:
    """Add what decides a verdict."""
    add_options(parser, *DECIDING)


def add_paired(parser: argparse.ArgumentParser, unit: str) -> None:
    """Add what decides a verdict on answers to the same items, whose scores are in `unit`."""
    add_options(parser, "--baseline")
    add_options(parser, "--alpha", default=0.05, help="family error (default: %(default)s)")
    add_options(parser, "--practical-size", help=f"practically relevant difference in {unit}")


def paired_rules(options: argparse.Namespace) -> PairedRules:
    """Return the rules that were asked for by the options of `add_paired`."""
    from analysis.questions.paired import PairedRules

    require_alpha(options.alpha)
    return PairedRules(options.baseline, options.alpha, options.practical_size)


def read(options: argparse.Namespace) -> Runs:
    """Read the runs that were asked for."""
    from analysis.runs.tables import read_runs

    runs = read_runs(options.runs, reading=reading(options))
    for error in runs.unreadable:
        print(f"unreadable: {printable(str(error))}", file=sys.stderr)
    if runs.summary and options.command != "table":
        raise AnalysisError(
            f"{options.runs[0]} has means instead of runs, which are enough for the table alone: "
            "python -m analysis table"
        )
    return runs


def reading(options: argparse.Namespace) -> Reading:
    """Return how the runs are to be read."""
    from analysis.runs.reading import Reading

    where = dict(pair(text, "--where") for text in options.where)
    return Reading(columns=_columns(options), metric=options.metric, where=where, wide=options.wide)


def read_apart(options: argparse.Namespace, sources: Sequence[list[str]]) -> list[Runs]:
    """Read several studies with the same options, each by itself."""
    return [read(argparse.Namespace(**{**vars(options), "runs": given})) for given in sources]


def _columns(options: argparse.Namespace) -> dict[str, str]:
    """Return our column -> the table's; refuse what would be read by nothing."""
    from analysis.runs.frame import COLUMNS
    from analysis.runs.tables import is_table

    columns = dict(pair(text, "--column") for text in options.column)
    known = dict.fromkeys([*COLUMNS, options.metric])
    unknown = next((name for name in columns if name not in known), None)
    if unknown is not None:
        raise AnalysisError(
            f"--column {unknown}={columns[unknown]}: no column of ours is called {unknown!r}; "
            f"allowed are {', '.join(known)} (one a --column; another metric: name it with "
            "--metric too)"
        )
    said = [f"--column {ours}={theirs}" for ours, theirs in columns.items()]
    said += [f"--where {text}" for text in options.where]
    said += [f"--wide {options.wide}"] if options.wide else []
    if said and not any(map(is_table, options.runs)):
        raise AnalysisError(
            f"{said[0]}: {options.runs[0]} holds records, whose columns are known; leave "
            f"{said[0].split()[0]} out, it is for tables (CSV, parquet, W&B)"
        )
    return columns


def rules(options: argparse.Namespace) -> Rules:
    """Return the rules that were asked for; a subcommand without some argument has its default."""
    from analysis.comparison.rules import Rules

    given = vars(options)
    names = ["baseline", "metric", "alpha", "practical_size", "variance"]
    names += ["higher_is_better", "allow_reruns"]
    return Rules(**{name: given[name] for name in names if name in given})


def pair(text: str, option: str) -> tuple[str, str]:
    """Split ``NAME=VALUE``."""
    name, equals, value = text.rpartition("=")
    if not (name and equals and value):
        raise AnalysisError(f"{option} {text!r}: write it as NAME=VALUE")
    return name.strip(), value.strip()


def write_tables(folder: Path | None, tables: Iterable[Table]) -> None:
    """Write each table as CSV, where a folder was named."""
    if folder:
        write(folder, {f"{table.name}.csv": table.to_csv() for table in tables})


def write(folder: Path, files: dict[str, str]) -> None:
    """Write result files, all or none."""
    try:
        write_together({folder / name: content for name, content in files.items()})
    except OSError as error:
        raise AnalysisError(
            f"cannot write {error.filename or folder}: {error.strerror or error}; choose another "
            "folder with --out, or print only with --no-write"
        ) from error
