"""Test trained models on a study's test set: ``python -m harness.evaluate MODEL... --on STUDY``.

MODEL is a study's folder (all its complete cells), a cell's folder or id, CELL@STEP, hf:NAME (say
hf:openai-community/gpt2) or a folder in GPT-2's format. Each gets a folder in
``runs/NAME/references/``, and a row in the study's tables. With --tasks they answer multiple-choice
and last-word tasks instead: see docs/evaluations.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config import ConfigError
from harness.evals.benchmarks.items import BUNDLED
from harness.records.cell import Cell
from harness.records.numbers import number
from harness.records.terminal import Parser, complain, printing, source

if TYPE_CHECKING:
    from harness.evals.models import LoadedModel


@printing()
def main() -> None:
    """Evaluate the models and print a line for each."""
    parser = _parser()
    options = parser.parse_args()
    if options.task_files and options.tasks is None:
        parser.error(f"--task-files {options.task_files} is for --tasks: name some of its tasks")
    try:
        _evaluate(options)
    except ValueError as error:  # ConfigError, DataError, RecordError
        complain(error)
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m harness.evaluate", description=__doc__)
    parser.add_argument(
        "model", nargs="+", type=source, help="a study, a cell, CELL@STEP, hf:NAME or a folder"
    )
    parser.add_argument("--on", type=Path, help="the study (default: that of the first cell)")
    parser.add_argument(
        "--precision", choices=("fp32", "fp16"), default="fp32", help="fp16: as published"
    )
    parser.add_argument(
        "--tokens-of", type=number(int, at_least=0, at_most=10**6), default=4, metavar="N",
        help="keep every token's loss in so many sequences, for the report (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--tasks", nargs="?", const=",".join(BUNDLED), metavar="NAME,...",
        help="bundled tasks (default: %(const)s), files of items, or tasks of lm_eval",
    )  # fmt: skip
    parser.add_argument(
        "--task-files", type=Path, metavar="DIR", help="name tasks of lm_eval's YAML files there"
    )
    parser.add_argument("--device", default="auto")
    return parser


def _evaluate(options: argparse.Namespace) -> None:
    from harness.evals.benchmarks.items import check_task
    from harness.evals.models import load
    from harness.hub.weights import named_models

    for task in options.tasks.split(",") if options.tasks else ():
        check_task(task)
    names = named_models(options.model)
    first = load(names[0], options.device)
    cell = first.weights.cell
    if options.on is None and cell is None:
        raise ConfigError(f"{first.name} belongs to no study: name one, e.g. --on runs/demo")
    study: Path = options.on or Cell(cell or Path()).study.folder
    models = chain([first], (load(text, options.device) for text in names[1:]))
    said = (
        _losses(models, study, options) if options.tasks is None else _tasks(models, study, options)
    )
    for sentence in said:
        print(sentence, flush=True)


def _losses(
    models: Iterable[LoadedModel], study: Path, options: argparse.Namespace
) -> Iterator[str]:
    from harness.evals.losses import study_test_set
    from harness.evals.reference import evaluate_on

    test = study_test_set(study)
    for loaded in models:
        done = evaluate_on(loaded, test, study, options.precision, options.tokens_of)
        yield (
            f"{done.name}: test loss {done.loss:.4f} nats per token, {done.bits_per_byte:.4f} bits "
            f"per byte ({done.precision}; {done.context})"
        )


def _tasks(
    models: Iterable[LoadedModel], study: Path, options: argparse.Namespace
) -> Iterator[str]:
    from harness.evals.benchmarks.run import run_task

    for loaded in models:
        for name in options.tasks.split(","):
            done = run_task(loaded, name, study, options.precision, options.task_files)
            yield done.sentence()


if __name__ == "__main__":
    main()
