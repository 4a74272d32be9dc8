"""How a study stands: ``python -m harness.status runs/NAME [--watch]``, from any machine."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from harness.records import RecordError
from harness.study.view import cell_states, summary, table


def main() -> None:
    """Print the study's table, again and again with ``--watch``."""
    parser = argparse.ArgumentParser(prog="python -m harness.status", description=__doc__)
    parser.add_argument("study", type=Path, help="a study's folder, such as runs/demo")
    parser.add_argument("--watch", action="store_true", help="refresh every two seconds")
    arguments = parser.parse_args()
    study: Path = arguments.study
    try:
        states = cell_states(study) if study.is_dir() else []
    except RecordError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if not states:
        print(f"error: no cells in {study}: name a study's folder below runs", file=sys.stderr)
        sys.exit(2)
    from rich.console import Console
    from rich.live import Live

    console = Console()
    if not arguments.watch:
        console.print(table(states, str(study), console.width))
        console.print(summary(states), markup=False, highlight=False)
        return
    try:
        with Live(table(states, str(study), console.width), console=console) as live:
            while True:
                time.sleep(2)
                live.update(table(cell_states(study), str(study), console.width))
    except RecordError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
