"""Draw the noise band, the effects, the loss curves and the noise's sources as PNG files."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.cli import shared
from analysis.errors import AnalysisError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the figures."""
    shared.add_sources(parser)
    shared.add_decision(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write (default: beside the runs)"
    )
    parser.epilog = "example: python -m analysis plot runs/demo --out figures"


def run(options: argparse.Namespace) -> int:
    """Draw what the runs allow; say what they do not."""
    from analysis import plots
    from analysis.comparison.compare import compare
    from analysis.questions.noise import noise
    from analysis.report.chart_rows import arm_order

    runs = shared.read(options)
    rules = shared.rules(options)
    result = compare(runs, rules)
    done = result.runs[result.runs["status"] == "complete"]
    figures: dict[str, Callable[[], Figure]] = {
        "noise_band": lambda: plots.noise_band_figure(result),
        "effects": lambda: plots.effects_figure(result),
        "loss_curves": lambda: plots.loss_curves_figure(done, arm_order(result)),
        "components": lambda: plots.components_figure(
            noise(runs, baseline=rules.baseline, metric=rules.metric), rules
        ),
    }
    folder = options.out or runs.home or Path()
    prefix = runs.stem.removesuffix("results")  # of tables side by side
    for name, draw in figures.items():
        file = folder / f"{prefix}{name}.png"
        try:
            figure = draw()
        except AnalysisError as error:
            print(f"no {file.name}: {error}")
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Glyph")  # a box stands for it
                figure.savefig(file)
        except OSError as error:
            raise AnalysisError(
                f"cannot write {file}: {error.strerror}; name a folder with --out"
            ) from error
        print(f"Written: {file}")
    return 0
