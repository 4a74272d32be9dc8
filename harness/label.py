"""Score responses yourself, blind: ``python -m harness.label RESPONSES...``.

The models' responses come one instruction after the other, in random order and without names, and
you give each 0 to 100 points. Every score is written at once; the same command goes on where you
stopped. As gold.csv beside the judgements, the scores correct the judge in table and report.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
from collections.abc import Iterable
from pathlib import Path

from harness.records.files import printable
from harness.records.numbers import number
from harness.records.reading import read_bytes
from harness.records.responses import Response, read_responses
from harness.records.terminal import Parser, complain, printing

COLUMNS = ["instruction_id", "model", "score"]
"""What the judged table reads (`analysis.judged.gold`); an empty score is a response left out."""
BREAK = "\n"
ASKED = "0 to 100 points (Enter leaves it out, q stops): "
Labelled = set[tuple[str, str]]
"""Instruction and model of each response that was seen."""


@printing()
def main(arguments: list[str] | None = None) -> int:
    """Ask for scores, and return the exit code: 2 the input was refused."""
    options = _parser().parse_args(arguments)
    try:
        responses = [r for path in options.responses for r in read_responses(path)]
        seen = _seen(options.out)
        options.out.parent.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        complain(error)
        return 2
    asked = shuffled(responses, options.instructions, options.seed)
    left = [r for r in asked if (r.instruction_id, r.model) not in seen]
    try:
        for i, response in enumerate(left, len(asked) - len(left) + 1):
            print(_shown(response, f"{i} of {len(asked)}"))
            _write(options.out, response, _score())
    except (EOFError, KeyboardInterrupt):
        print("\nStopped: the same command goes on.")
        return 0
    print(f"All {len(asked)} responses have been seen: {options.out}")
    return 0


def shuffled(responses: Iterable[Response], n_instructions: int, seed: int) -> list[Response]:
    """Return all responses to some instructions, drawn at random, each instruction's together.

    They are a random part of the instructions, as the correction of a judge by them supposes, and
    an arm is labelled wherever the baseline is.
    """
    of: dict[str, dict[str, Response]] = {}
    for response in responses:
        of.setdefault(response.instruction_id, {})[response.model] = response
    chance = random.Random(seed)
    chosen = chance.sample(sorted(of), min(n_instructions, len(of)))
    drawn = []
    for name in chosen:
        models = sorted(of[name])
        drawn += [of[name][model] for model in chance.sample(models, len(models))]
    return drawn


def _seen(file: Path) -> Labelled:
    """Return what a file of scores has already; `ValueError` if it is something else."""
    if not file.exists():
        return set()
    rows = csv.DictReader(read_bytes(file).decode(errors="replace").splitlines())
    if rows.fieldnames != COLUMNS:
        raise ValueError(
            f"--out {file}: its columns are {', '.join(rows.fieldnames or ['none'])}, not "
            f"{', '.join(COLUMNS)}: name a new file"
        )
    return {(row["instruction_id"], row["model"]) for row in rows}


def _shown(response: Response, place: str) -> str:
    parts = {
        "Instruction": response.instruction,
        "Input": response.input,
        "Reference": response.reference,
        f"Response{' (cut off at the longest answer)' * response.truncated}": response.response
        or "(empty)",
    }
    shown = [f"{name}:\n{printable(text, keep=BREAK)}" for name, text in parts.items() if text]
    return "\n\n".join(["", f"--- {place} ---", *shown, ""])


def _score() -> str:
    """Ask until there is an answer: a number as it was typed, or nothing; `EOFError` stops."""
    while True:
        given = input(ASKED).strip()
        if given.lower() == "q":
            raise EOFError
        try:
            if not given or 0 <= float(given) <= 100:
                return given
        except ValueError:
            pass
        print(f"{printable(given)!r} is no number from 0 to 100.")


def _write(file: Path, response: Response, score: str) -> None:
    new = not file.exists()
    with file.open("a", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerows([COLUMNS] * new)
        writer.writerow([response.instruction_id, response.model, score])


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m harness.label",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("responses", nargs="+", type=Path, metavar="RESPONSES", help="files of harness.finetune")
    add("--out", type=Path, default=Path("gold.csv"), help="default: %(default)s")
    count, seed = number(int, at_least=1, at_most=10**6), number(int, at_least=0, at_most=2**63 - 1)
    add(
        "--instructions",
        type=count,
        default=20,
        metavar="N",
        help="label the responses to N of them, drawn at random (%(default)s)",
    )
    add("--seed", type=seed, default=0, help="of the draw and the order (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
