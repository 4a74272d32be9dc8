"""Test trained models on a study's test set: ``python -m harness.evaluate MODEL... --on STUDY``.

MODEL is a cell's folder or id, CELL@STEP, hf:NAME (say hf:openai-community/gpt2) or a folder in
GPT-2's format. Each gets a folder in ``runs/NAME/references/``, and a row in the study's tables.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.config import ConfigError
from harness.records.cell import Cell
from harness.records.files import printable
from harness.records.numbers import number
from harness.records.terminal import printing


@printing()
def main() -> None:
    """Evaluate the models and print a line for each."""
    options = _parser().parse_args()
    try:
        _evaluate(options)
    except ValueError as error:  # ConfigError, DataError, RecordError
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness.evaluate", description=__doc__)
    parser.add_argument("model", nargs="+", help="a cell, CELL@STEP, hf:NAME or a folder")
    parser.add_argument("--on", type=Path, help="the study (default: that of the first cell)")
    parser.add_argument(
        "--precision", choices=("fp32", "fp16"), default="fp32", help="fp16: as published"
    )
    parser.add_argument(
        "--tokens-of",
        type=number(int, at_least=0, at_most=10**6),
        default=4,
        metavar="N",
        help="keep every token's loss in so many sequences, for the report (default: %(default)s)",
    )
    parser.add_argument("--device", default="auto")
    return parser


def _evaluate(options: argparse.Namespace) -> None:
    from harness.evals.losses import study_test_set
    from harness.evals.models import load
    from harness.evals.reference import evaluate_on

    first = load(options.model[0], options.device)
    cell = first.weights.cell
    if options.on is None and cell is None:
        raise ConfigError(f"{first.name} belongs to no study: name one, e.g. --on runs/demo")
    study: Path = options.on or Cell(cell or Path()).study.folder
    test = study_test_set(study)
    for i, text in enumerate(options.model):
        loaded = load(text, options.device) if i else first
        done = evaluate_on(loaded, test, study, options.precision, options.tokens_of)
        print(
            f"{done.name}: test loss {done.loss:.4f} nats per token, {done.bits_per_byte:.4f} bits "
            f"per byte ({done.precision}; {done.context})"
        )


if __name__ == "__main__":
    main()
