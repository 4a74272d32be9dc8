"""What every arm spends to reach a loss, as a table and in words."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

import numpy as np

from analysis.comparison.result import Comparison
from analysis.comparison.verdict import Kind
from analysis.runs.curves import FLOPS, SECONDS, TOKENS, Curve
from analysis.stats.crossing import Crossing
from analysis.table import Item, Table, columns, count, document, figure, p_item, words
from analysis.text import DASH
from harness.records import Status

WORDS = {Kind.BETTER: "faster", Kind.WORSE: "slower"}
CREDIT_STEPS = 100
"""A credit is given in nats for so many steps."""
COARSE = 1.25
"""Points further apart than by this factor leave much to the line between them."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How one run came to the target."""

    curve: Curve
    crossings: dict[str, Crossing]
    """By what training is counted in."""

    @property
    def diverged(self) -> bool:
        """Whether the run was lost: then it does not count as having got there."""
        return str(self.curve.run["status"]) == Status.DIVERGED

    @property
    def there(self) -> bool:
        """Whether the run came to the target."""
        found = self.crossings.get(TOKENS)
        return not self.diverged and found is not None and found.tokens is not None

    @property
    def early(self) -> bool:
        """Whether it was there at its first validation: then what it had spent is only bounded."""
        return self.there and self.crossings[TOKENS].at_start

    def cost(self, name: str) -> float | None:
        """Return what the run had spent; None: it never got there, or that is not known."""
        known = self.there and not self.early and name in self.crossings
        return self.crossings[name].tokens if known else None


@dataclass(frozen=True, slots=True)
class Factor:
    """An arm's cost over the baseline's, with its simultaneous interval where there is one."""

    ratio: float
    low: float
    high: float
    p: float
    """Adjusted for all arms of the study."""
    kind: Kind

    def __str__(self) -> str:
        if not np.isfinite([self.low, self.high]).all():
            return f"{self.ratio:.2f}"
        places = 3 if self.high - self.low < 0.1 else 2
        low, high = (f"{end:.{places}f}" for end in (self.low, self.high))
        return f"{self.ratio:.{places}f} [{low}, {high}]"


@dataclass(frozen=True, slots=True)
class Counted:
    """One way to count what training costs."""

    comparison: Comparison
    """Of the log costs of the arms of which every run got there."""
    factors: dict[str, Factor]
    """By arm."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What every arm spent to reach the target."""

    target: float
    """Nats per token."""
    why: str
    """Where the target comes from."""
    runs: dict[str, list[Reached]]
    """By arm, the baseline first."""
    alpha: float
    """Family error over all arms, those that never get there included."""
    compared: dict[str, Counted]
    """By what is counted."""
    credit: float | None = None
    """Nats for a hundred steps that a run's last loss is worth, instead of crossings."""

    @property
    def baseline(self) -> str:
        """The arm that the others are compared with."""
        return next(iter(self.runs))

    @property
    def in_tokens(self) -> bool:
        """Whether the runs' tokens are known; else steps stand for them."""
        return all(run.curve.has_tokens for runs in self.runs.values() for run in runs)

    def n_reached(self, arm: str) -> int:
        """Return how many of the arm's runs came to the target."""
        return sum(run.there for run in self.runs[arm])

    def factor(self, arm: str, cost: str = TOKENS) -> Factor | None:
        """Return the arm's cost over the baseline's; None: that of some run is not known."""
        counted = self.compared.get(cost)
        return counted.factors.get(arm) if counted else None

    def tokens(self, arm: str) -> float | None:
        """Return the geometric mean of the tokens of the arm's runs."""
        spent = [run.cost(TOKENS) for run in self.runs[arm]]
        known = [value for value in spent if value is not None]
        return exp(sum(map(log, known)) / len(known)) if len(known) == len(spent) else None

    def sentence(self, arm: str) -> str:
        """Return what was found of the arm, in words."""
        factor, n = self.factor(arm), len(self.runs[arm])
        if factor is None:
            losses = np.concatenate([run.curve.loss for run in self.runs[arm]])
            known = losses[np.isfinite(losses)]
            lowest = f"lowest loss {known.min():.4f}" if len(known) else "no finite loss"
            lost = sum(run.diverged for run in self.runs[arm])
            more = f", {lost} diverged" if lost else ""
            if early := sum(run.early for run in self.runs[arm]):
                more += f", {early} at the first validation already"
            return f"{self.n_reached(arm)} of {n} runs reach it ({lowest}{more})"
        return f"reaches it with {factor} of the {self.baseline}'s tokens"

    def to_table(self) -> Table:
        """Return one row an arm, the fastest first, those that never get there last."""
        labels = ["arm", "n", "reached", "tokens to target", *self.compared, "p adj", "verdict"]
        ratio = {arm: factor.ratio for arm in self.runs if (factor := self.factor(arm))}
        ratio[self.baseline] = 1.0
        return Table(
            "speed",
            f"Cost to reach a loss of {self.target:.4f}, as a factor of {self.baseline}'s",
            columns(*labels, text=("arm", "verdict")),
            [self._row(arm) for arm in sorted(self.runs, key=lambda arm: ratio.get(arm, np.inf))],
            tuple(self.notes()),
        )

    def _row(self, arm: str) -> list[Item]:
        first = [words(arm), count(len(self.runs[arm])), count(self.n_reached(arm))]
        first.append(figure(self.tokens(arm), 0))
        if arm == self.baseline:
            ones = [Item("1", 1.0)] * len(self.compared)
            return [*first, *ones, Item(DASH), words("(baseline)")]
        factors = [self.factor(arm, cost) for cost in self.compared]
        shown = [Item(str(f), f.ratio) if f else Item(DASH) for f in factors]
        if (tokens := factors[0]) is None:
            said = "not reached by all its runs"
            if self.n_reached(arm) == len(self.runs[arm]):
                said = "there before the first validation"
            return [*first, *shown, Item(DASH), words(said)]
        return [*first, *shown, p_item(tokens.p), words(WORDS.get(tokens.kind, str(tokens.kind)))]

    def notes(self) -> list[str]:
        """Return what to know when reading the figures."""
        found = [
            f"Target: {self.target:.4f} nats per token, {self.why}. {self._how()} The factors are "
            f"of geometric means, with simultaneous {100 * (1 - self.alpha):g}% intervals over "
            "all arms of the study: 0.87 is the same loss with 0.87 of the tokens."
        ]
        if not self.in_tokens:
            found.append("Steps stand for tokens: the runs do not say how many a step has.")
        if FLOPS in self.compared:
            found.append("FLOPs: tokens by what a token costs the arm.")
        if SECONDS in self.compared:
            found.append("Seconds: wall-clock time, slowed by anything else that ran.")
        unknown = [arm for arm in self.runs if arm != self.baseline and not self.factor(arm)]
        if unknown:
            said = "; ".join(f"{arm}: {self.sentence(arm)}" for arm in unknown)
            found.append(
                "Not compared, because some runs never reach the target, or are there at their "
                f"first validation (a lower --target helps with the latter): {said}."
            )
        return found

    def _how(self) -> str:
        if self.credit is not None:
            return (
                f"A run's last loss counts for its steps: {self.credit:g} nats are worth "
                f"{CREDIT_STEPS} of them."
            )
        there = [run for runs in self.runs.values() for run in runs if run.cost(TOKENS)]
        widest = max((run.crossings[TOKENS].grid for run in there), default=1.0)
        more = " More validations (eval.n_val) would place the crossings better." * (
            widest > COARSE
        )
        return (
            "Between two validations a curve is a straight line over the logarithm of the tokens; "
            f"around a crossing they lie up to a factor of {widest:.2f} apart.{more}"
        )

    def to_markdown(self) -> str:
        """Return the answer for a person."""
        return document("Tokens to a target", self.to_table())
