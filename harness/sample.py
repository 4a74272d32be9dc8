"""Let a trained model write: ``python -m harness.sample MODEL --prompt "Every effort"``.

MODEL is a cell's folder or id, CELL@STEP, hf:NAME or a folder in GPT-2's format. ``--ladder`` shows
one prompt over all saved steps of a run (``checkpoint.n_weights=8`` keeps eight).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config import ConfigError
from harness.records.files import append_json_lines, printable
from harness.records.numbers import number
from harness.records.terminal import Parser, complain, printing, source

if TYPE_CHECKING:
    from harness.evals.sampling import Sampling

PROMPT = "Every effort moves you"


@printing()
def main() -> None:
    """Print completions."""
    options = _parser().parse_args()
    try:
        _ladder(options) if options.ladder else _chat(options) if options.chat else _once(options)
    except ConfigError as error:
        complain(error)
        sys.exit(2)
    except KeyboardInterrupt:
        pass


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m harness.sample", description=__doc__)
    parser.add_argument("model", type=source, help="a cell, CELL@STEP, hf:NAME or a folder")
    parser.add_argument("--prompt", action="append", help=f"may be repeated ({PROMPT!r})")
    parser.add_argument("--chat", action="store_true", help="go on asking; the text so far is kept")
    parser.add_argument("--ladder", action="store_true", help="over all saved steps of a cell")
    parser.add_argument("--write", action="store_true", help="with --ladder: keep it in the cell")
    count = number(int, at_least=1, at_most=10**6)
    parser.add_argument("--tokens", type=count, default=100)
    parser.add_argument(
        "--temperature",
        type=number(float, at_least=0, at_most=1e6),
        default=1.0,
        help="0: the likeliest token",
    )
    parser.add_argument("--top-k", type=count)
    parser.add_argument("--top-p", type=number(float, above=0, at_most=1))
    parser.add_argument("--seed", type=number(int, at_least=0, at_most=2**63 - 1), default=0)
    parser.add_argument("--n", type=count, default=1, help="completions of each prompt")
    parser.add_argument("--device", default="auto")
    return parser


def _how(options: argparse.Namespace) -> Sampling:
    from harness.evals.sampling import Sampling

    return Sampling(
        tokens=options.tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
    )


def _once(options: argparse.Namespace) -> None:
    from harness.evals.models import load
    from harness.evals.sampling import complete_all

    prompts = [prompt for prompt in options.prompt or [PROMPT] for _ in range(options.n)]
    for done in complete_all(load(options.model, options.device), prompts, _how(options)):
        print(shown(done.prompt + done.text), end="\n\n")


def _chat(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from harness.evals.models import load
    from harness.evals.sampling import complete_all

    loaded, how, text = load(options.model, options.device), _how(options), ""
    for turn, line in enumerate(_lines()):
        text += line
        done = complete_all(loaded, [text], replace(how, seed=how.seed + turn))[0]
        print(shown(done.text))
        text += done.text + "\n"


def _lines() -> Iterator[str]:
    while True:
        try:
            yield input("> ")
        except EOFError:
            return


def _ladder(options: argparse.Namespace) -> None:
    from harness.evals.ladder import ladder
    from harness.records import SAMPLES_FILE

    for prompt in options.prompt or [PROMPT]:
        rows = []
        for row in ladder(options.model, prompt, _how(options), options.device):
            rows.append(row.as_json())
            print(f"step {row.step:,} ({row.tokens:,} tokens):\n{shown(prompt + row.completion)}\n")
        if options.write:
            append_json_lines(Path(row.cell) / SAMPLES_FILE, rows)


def shown(text: str) -> str:
    """Return what a model wrote without anything that could steer the terminal."""
    return "\n".join(printable(line) for line in text.split("\n"))


if __name__ == "__main__":
    main()
