"""What a study would take at noises that others have measured, where nobody has measured one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from analysis.errors import AnalysisError
from analysis.stats.planning.design import Design
from analysis.table import Table, columns, count, document, figure, words
from analysis.text import time_unit

SEEDS = 3
"""What studies often have; the table says what these find."""


@dataclass(frozen=True, slots=True)
class Typical:
    """A noise: sd of the test loss over seeds, and whose it is."""

    sd: float
    """Nats per token."""
    of: str
    source: str = ""


TYPICAL = (
    Typical(
        0.0014,
        "GPT-2 124M, no dropout, one order of the data",
        "0.0012 to 0.0016 between runs of one recipe in the public logs of "
        "github.com/KellerJordan/modded-nanogpt",
    ),
    Typical(0.003, "twice that"),
    Typical(0.006, "163M parameters, dropout 0.1, initial weights fixed",
            "three baselines of gilesthomas.com, LLM from scratch 32i: 3.6915, 3.6814, 3.6805"),
    Typical(0.0074, "this project's demo: 0.5M parameters, 1,024 test sequences",
            "measured here; 0.025 with 320 of one end: a small test set adds noise"),
    Typical(0.019, "163M parameters, dropout 0.1, three seeds of everything",
            "three baselines of the same post: 3.6915, 3.6735, 3.6536"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outlook:
    """Seeds and price of a study at each typical noise."""

    delta: float
    """Difference to find, nats per token."""
    n_arms: int
    alpha: float = 0.05
    power: float = 0.8
    hours: float | None = None
    """Of one run."""
    usd: float | None = None

    def __post_init__(self) -> None:
        """Refuse a study without arms."""
        if self.n_arms < 1:
            raise AnalysisError(f"the number of arms is {self.n_arms}: at least 1 is compared")

    def tables(self) -> list[Table]:
        """Return seeds and price by sd; what is known of no run has no column."""
        designs = [Design(noise.sd, 0.0, self.n_arms, alpha=self.alpha) for noise in TYPICAL]
        seeds = [design.seeds_needed(self.delta, self.power) for design in designs]
        runs = [n * (self.n_arms + 1) for n in seeds]
        time = time_unit(max(runs) * self.hours if self.hours else math.nan)
        rows = [
            [
                figure(noise.sd, 4),
                count(n),
                count(n_runs),
                figure(self.hours and n_runs * self.hours * time.per_hour, 1),
                figure(None if self.usd is None else n_runs * self.usd, 2),
                figure(design.detectable(SEEDS, self.power), 4),
                words(noise.of),
            ]
            for noise, design, n, n_runs in zip(TYPICAL, designs, seeds, runs, strict=True)
        ]
        labels = ("sd", "seeds per arm", "runs in all", time.name, "dollars")
        found = f"found with {SEEDS} seeds"
        heads = columns(*labels, found, "such a noise", text=("such a noise",))
        return [Table("outlook", f"To find {self.delta:.3g} nats per token", heads, rows).known()]

    def to_markdown(self) -> str:
        """Return the table and its sources for a person."""
        lines = [
            "No noise is given, so here are those that were measured elsewhere; yours may differ. "
            f"Power {self.power:g} at family error {self.alpha:g}, every arm and the baseline with "
            "the same seeds, and nothing gained by sharing them.",
            *(
                f"- sd {noise.sd:g}, {noise.of}: {noise.source}."
                for noise in TYPICAL
                if noise.source
            ),
            "Measure yours: train the baseline with 4 seeds or more, then plan with --pilot "
            "runs/STUDY, or give --sd. "
            + ("" if self.hours or self.usd else "--hours and --usd of one run add the price; ")
            + "python -m harness.bill computes it for a card that is not at hand.",
        ]
        title = f"Plan: {self.n_arms} arm(s) against the baseline, noise unknown"
        return document(title, "\n".join(lines), *self.tables())
