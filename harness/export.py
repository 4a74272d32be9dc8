"""Write a trained model for transformers: ``python -m harness.export CELL --to DIR``.

``--push NAME`` uploads the folder to the Hugging Face hub as well; the key is that of
``hf auth login`` or HF_TOKEN.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.config import ConfigError
from harness.records.terminal import Parser, complain, printing, source


@printing()
def main() -> None:
    """Write the folder, push it where that was asked for, and say where it is."""
    options = _parser().parse_args()
    try:
        _export(options)
    except ConfigError as error:
        complain(error)
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m harness.export", description=__doc__)
    parser.add_argument("model", type=source, help="a cell, CELL@STEP, hf:NAME or a folder")
    parser.add_argument("--to", type=Path, required=True, help="a new folder")
    parser.add_argument("--push", metavar="NAME", help="USER/MODEL on the hub")
    parser.add_argument("--private", action="store_true", help="with --push")
    return parser


def _export(options: argparse.Namespace) -> None:
    from harness.evals.export import export
    from harness.evals.models import load

    if options.push is not None:
        from harness.hub.push import check_name

        check_name(options.push)
    loaded = load(options.model, "cpu")
    export(loaded, options.to)
    print(f"Written: {options.to} ({loaded.name})")
    if options.push:
        from harness.hub.push import push

        print(f"Pushed: {push(options.to, options.push, private=options.private)}")


if __name__ == "__main__":
    main()
