"""What each optimiser step reads: how many sequences, of which length, and how many came before.

A step's batch is a function of the step alone. Where it changes along training, it changes at
fractions of the token budget, so that arms with other batches read the same tokens.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any


@dataclass(frozen=True, slots=True)
class Stage:
    """Consecutive steps with equal batches."""

    first_step: int
    first_sequence: int
    """Sequences of ``model.block_size`` tokens that the steps before have read."""
    batch_size: int
    """Sequences of ``model.block_size`` tokens in each step."""
    pieces: int
    """Into so many sequences of equal length each of these is cut."""


@dataclass(frozen=True, slots=True)
class Steps:
    """All steps of a training, stage after stage."""

    stages: tuple[Stage, ...]
    n_steps: int

    def stage(self, step: int) -> Stage:
        """Return the stage of a step."""
        if len(self.stages) == 1:
            return self.stages[0]
        return self.stages[bisect_right([s.first_step for s in self.stages], step) - 1]

    def n_before(self, step: int) -> int:
        """Return how many sequences of ``model.block_size`` the steps before `step` have read."""
        stage = self.stage(step)
        return stage.first_sequence + (step - stage.first_step) * stage.batch_size


def constant(batch_size: int, n_steps: int = 0) -> Steps:
    """Return steps that are all alike."""
    return Steps((Stage(0, 0, batch_size, 1),), n_steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What `Config.train` says of its steps."""

    tokens: int
    """The budget."""
    block_size: int
    batch_size: int
    round_up: bool
    """Pay for a last step that the budget does not cover."""
    batch_stages: Sequence[Sequence[float]]
    length_stages: Sequence[Sequence[float]]

    def steps(self) -> Steps:
        """Return the steps that the budget pays for.

        A stage lasts until the step that reaches the next one's fraction of the tokens.
        """
        cuts = sorted({start for start, _ in [*self.batch_stages, *self.length_stages]} or {0.0})
        stages: list[Stage] = []
        step = sequence = 0
        for start, end in zip(cuts, [*cuts[1:], 1.0], strict=True):
            batch_size = _whole(_at(self.batch_stages, start), self.batch_size)
            length = _whole(_at(self.length_stages, start), self.block_size)
            stages.append(Stage(step, sequence, batch_size, self.block_size // length))
            left = Fraction(str(end)) * self.tokens - sequence * self.block_size
            n_steps = left / (batch_size * self.block_size)
            round_up = end < 1 or self.round_up
            n = max(0, math.ceil(n_steps) if round_up else math.floor(n_steps))
            step, sequence = step + n, sequence + n * batch_size
        return Steps(tuple(stages), step)


def _at(stages: Sequence[Sequence[float]], start: float) -> float:
    """Return the value that holds from a fraction of the tokens on; 1 without stages."""
    return next((value for first, value in reversed(stages) if first <= start), 1.0)


def _whole(part: float, whole: int) -> int:
    return round(part * whole)


def refusal(stages: Sequence[Any], whole: int, *, divides: bool) -> str | None:
    """Say what is wrong with stages of fractions of `whole`; None: nothing.

    `divides`: each must divide it, too.
    """
    pairs = [stage for stage in stages if isinstance(stage, Sequence) and len(stage) == 2]
    numbers = all(isinstance(number, int | float) for pair in pairs for number in pair)
    if len(pairs) < len(stages) or not numbers:
        return "pairs of numbers, the fraction of the tokens from which a stage holds and its value"
    starts = [start for start, _ in pairs]
    if starts != sorted(set(starts)) or starts[:1] not in ([0], []) or starts[-1:] >= [1]:
        return "stages begin at ascending fractions of the tokens in [0, 1), the first at 0"
    for _, part in stages:
        if not 0 < part <= 1 or abs(part * whole - round(part * whole)) > 1e-9 * whole:
            return f"{part} of {whole} is no whole number up to it"
        if divides and whole % round(part * whole):
            return f"{part} of {whole} does not divide it"
    return None
