"""Arms against the baseline by the items of a task, each paired with itself at the same seeds."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np

from analysis.benchmarks.answers import Answers, Task
from analysis.comparison.verdict import Kind
from analysis.errors import AnalysisError
from analysis.questions.measures import Effect, Measure
from analysis.questions.paired import Decided, PairedRules, decide
from analysis.stats.judging.crossed import CrossedMean, by_group, crossed_mean


@dataclass(frozen=True, slots=True)
class ArmOnTask:
    """One arm against the baseline."""

    arm: str
    accuracy: float
    """Of all its seeds."""
    margin: CrossedMean
    """Difference in the right choice's margin, nats; groups of items and seeds random."""
    right: CrossedMean
    """Difference in the share of right answers."""
    decided: Decided
    """On the margin."""
    seeds_share: float
    """Of the difference's variance: the part that more seeds take away; NaN with one seed."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """All arms on one task, the best first."""

    task: Task
    rules: PairedRules
    arms: list[ArmOnTask]
    unpaired: tuple[str, ...]
    """Arms that share no seed with the baseline: no difference is said of them."""
    per_character: bool

    @property
    def unit(self) -> str:
        """Of a margin."""
        return "nats per character" if self.per_character else "nats"

    def by_margin(self) -> Measure:
        """Return the margin as one of several measures."""
        effects = {
            a.arm: Effect.around(a.margin.estimate, a.decided.half_width, str(a.decided.verdict))
            for a in self.arms
        }
        references = {
            model.run.model: Effect.around(self.over_baseline(model), nan, str(Kind.REFERENCE))
            for model in self.task.references
        }
        unit = f"{self.unit} an item of {self.task.name}"
        return Measure(self.task.name, unit, True, effects, 3, references)

    def by_items(self) -> Measure:
        """Return the number of right answers as one of several measures."""
        n, alpha = self.task.n_items, self.rules.alpha / max(len(self.arms), 1)
        effects = {
            a.arm: Effect.around(n * a.right.estimate, n * a.right.half_width(alpha), "")
            for a in self.arms
        }
        unit = f"of the {n} items of {self.task.name} right"
        return Measure(f"{self.task.name}, items right", unit, True, effects, 1)

    def over_baseline(self, model: Answers) -> float:
        """Return how far a model's mean margin lies above the baseline's."""
        return float(model.margins.mean()) - self.task.margin(self.rules.baseline)


def judge_task(task: Task, rules: PairedRules, *, per_character: bool = False) -> Benchmark:
    """Compare every arm with the baseline on one task."""
    base = rules.baseline
    if base not in task.arms or task.n_groups < 2:
        raise AnalysisError(
            f"{task.name}: answered by {', '.join(task.arms) or 'no arm'}, in {task.n_groups} "
            f"groups of items: the baseline ({base}; name another with --baseline) and 2 groups "
            "are needed"
        )
    others = [arm for arm in task.arms if arm != base]
    paired = [arm for arm in others if task.shared_seeds(arm, base)]
    margins = [_difference(task, arm, base, "margins") for arm in paired]
    found = [
        ArmOnTask(
            arm=arm,
            accuracy=task.accuracy(arm),
            margin=margin,
            right=_difference(task, arm, base, "right"),
            decided=decided,
            seeds_share=_seeds_share(margin),
        )
        for arm, margin, decided in zip(paired, margins, decide(margins, rules), strict=True)
    ]
    return Benchmark(
        task=task,
        rules=rules,
        arms=sorted(found, key=lambda a: -a.margin.estimate),
        unpaired=tuple(arm for arm in others if arm not in paired),
        per_character=per_character,
    )


def _difference(task: Task, arm: str, baseline: str, of: str) -> CrossedMean:
    ours, theirs = task.arms[arm], task.arms[baseline]
    columns = [
        getattr(ours[seed], of) - getattr(theirs[seed], of)
        for seed in task.shared_seeds(arm, baseline)
    ]
    return crossed_mean(by_group(np.stack(columns, axis=1), task.items.groups))


def _seeds_share(margin: CrossedMean) -> float:
    known = margin.n_seeds > 1 and margin.variance > 0
    return margin.var_seed / margin.n_seeds / margin.variance if known else float("nan")
