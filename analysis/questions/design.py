"""Screen many interventions at once: fractional designs, and the sweep to run.

Every run turns on a balanced half of the interventions, so each run informs every effect. Two
kinds of design, both of resolution IV (a main effect is not mixed with two-way interactions):

- 4 runs for 2 factors, 8 for up to 4, 16 for up to 8, 32 for up to 16: a regular fraction
  (Box, Hunter and Hunter 1978);
- 24 runs for up to 12 factors: the Plackett-Burman design of 12 runs (1946, Biometrika 33:305),
  folded over.

Interventions that exclude each other share one factor with a level for each: at most three levels
(none, A, B) by collapsing two two-level columns, in a design large enough for it; see
`analysis.stats.factorial`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.errors import AnalysisError
from analysis.runs.frame import arm_name
from analysis.stats.factorial import factorial
from analysis.stats.linear import FEWEST_DF, Array
from analysis.table import Item, Table, columns, document, words

MOST_FACTORS = 16


@dataclass(frozen=True, slots=True)
class Screen:
    """A design: one arm a row."""

    arms: tuple[str, ...]
    """What each run turns on; no two alike."""
    factors: tuple[str, ...]
    """Interventions, each one column."""
    matrix: Array
    """(runs, factors) of 0 and 1."""
    kind: str
    seeds: int

    def commands(self) -> str:
        """Return the shell command that runs the design; each seed is a block of all its runs."""
        choices = ",".join(
            arm if "+" not in arm else f"[{arm.replace('+', ',')}]" for arm in self.arms
        )
        seeds = ",".join(str(seed) for seed in range(self.seeds))
        return f"python -m harness -m study_name=screen '+intervention={choices}' 'seed={seeds}'"

    def tables(self) -> list[Table]:
        """Return what each run turns on."""
        rows = [
            [Item(str(i), float(i)), *(words("x" if on else "") for on in row)]
            for i, row in enumerate(self.matrix, start=1)
        ]
        heads = columns("run", *self.factors, text=self.factors)
        return [Table("design", self._title(), heads, rows)]

    def to_markdown(self) -> str:
        """Return the design with the command that runs it."""
        return document(
            self._title(),
            *self.tables(),
            "Run it, then analyse it:",
            f"    {self.commands()}\n    python -m analysis design --analyse runs/screen",
            self._noise(),
            "At one seed, its verdicts hold for that seed alone." if self.seeds == 1 else "",
            "Confirm what comes out, alone against the baseline, at 2 new seeds or more.",
        )

    def _title(self) -> str:
        runs = f"{len(self.arms)} runs"
        if self.seeds > 1:
            runs += f" at each of {self.seeds} seeds ({len(self.arms) * self.seeds} in all)"
        return f"{self.kind}: {runs} for {len(self.factors)} interventions"

    def _noise(self) -> str:
        """Return a warning where too little is left for the noise."""
        df = (len(self.arms) - 1) * self.seeds - len(self.factors)
        if df >= FEWEST_DF:
            return ""
        enough = math.ceil((FEWEST_DF + len(self.factors)) / (len(self.arms) - 1))
        return (
            f"These runs leave {df} df for the noise, and a verdict needs "
            f"{FEWEST_DF:g}: --seeds {enough} has enough."
        )


def design(
    interventions: Sequence[str], exclusive: Sequence[Sequence[str]] = (), seeds: int = 1
) -> Screen:
    """Return a screening design over chosen interventions.

    Parameters
    ----------
    interventions
        2 to 16 names.
    exclusive
        Pairs of names that cannot be on together, e.g. two learning rates.
    seeds
        Repeats of the whole design.

    Raises
    ------
    AnalysisError
        Too few or too many interventions, a name twice, exclusive groups that overlap or are larger
        than two, or more exclusive pairs than there is a design for.

    Examples
    --------
    >>> design(["a", "b", "c", "d"]).arms
    ('baseline', 'a+d', 'b+d', 'a+b', 'c+d', 'a+c', 'b+c', 'a+b+c+d')
    """
    names = list(dict.fromkeys(interventions))
    _check(names, interventions, exclusive)
    if seeds < 1:
        raise AnalysisError(f"the number of seeds is {seeds}: a design is trained at 1 or more")
    order = [name for pair in exclusive for name in pair]
    order += [name for name in names if name not in order]
    pairs = [(2 * i, 2 * i + 1) for i in range(len(exclusive))]
    columns, kind = factorial(len(names), pairs)
    matrix = columns[:, [order.index(name) for name in names]]
    arms = tuple(arm_name([n for n, on in zip(names, row, strict=True) if on]) for row in matrix)
    kind += " design, resolution IV or higher"
    if pairs:
        levels = ", ".join("/".join(pair) for pair in exclusive)
        kind += f", its main effects still clear of two-way interactions with {levels} exclusive"
    return Screen(arms, tuple(names), matrix, kind, seeds)


def _check(names: list[str], given: Sequence[str], exclusive: Sequence[Sequence[str]]) -> None:
    if len(names) != len(given):
        raise AnalysisError("an intervention is named twice")
    if not 2 <= len(names) <= MOST_FACTORS:
        raise AnalysisError(
            f"{', '.join(names) or 'nothing'}: a screen takes 2 to {MOST_FACTORS} interventions, "
            f"not {len(names)}"
        )
    flat = [name for group in exclusive for name in group]
    if any(len(group) != 2 for group in exclusive) or len(flat) != len(set(flat)):
        raise AnalysisError(
            "exclusive interventions come in pairs that do not overlap (a factor of three levels: "
            "none, A, B), e.g. --exclusive higher_lr,scheduled_lr"
        )
    unknown = sorted(set(flat) - set(names))
    if unknown:
        raise AnalysisError(f"{unknown[0]!r} is exclusive but not among {', '.join(names)}")
