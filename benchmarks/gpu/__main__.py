"""Measure and prove what only a GPU can show, into docs/gpu.md.

    make gpu [STAGE=check|speed|arms|packing|study]
    python -m benchmarks.gpu [--stage NAME] [--device cuda] [--nanogpt CHECKOUT] [--out docs]

Each stage ends within about seven minutes and writes its own part of the page, with card, driver,
versions and date; `check` and `arms` go on where they stopped when they are called again. Nothing
is installed and nothing is fetched. Where the environment names a folder OUT, the page goes there.
Without a GPU, `--device cpu` tries everything out at the demo's size.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch

from benchmarks.gpu import arms, check, packing, speed, study
from benchmarks.gpu.bench import ROOT, Bench

STAGES = {"check": check, "speed": speed, "arms": arms, "packing": packing, "study": study}


def main(words: list[str] | None = None) -> int:
    """Run the stages asked for; 1 where one found something wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", choices=STAGES, action="append", help="default: all")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=6.0, help="for each stage")
    parser.add_argument("--nanogpt", help="a local checkout of karpathy/nanoGPT, measured beside")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ROOT / "docs")))
    options = parser.parse_args(words)
    if options.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"torch {torch.__version__} sees no GPU here: --device cpu is a trial run")
    # also for commands that start in other folders: nothing needs to be installed
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    wrong = 0
    for stage in options.stage or STAGES:
        bench = Bench(
            device=options.device,
            out=options.out,
            seconds=60 * options.minutes,
            nanogpt=options.nanogpt,
        )
        result = STAGES[stage].run(bench)
        bench.write(stage, result.text)
        wrong += result.failed
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
