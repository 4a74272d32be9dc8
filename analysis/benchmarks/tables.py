"""One table a task, for a terminal, a paper and the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from analysis.benchmarks.answers import Answers
from analysis.benchmarks.verdicts import ArmOnTask, Benchmark
from analysis.check import Check, Level
from analysis.comparison.result import Comparison
from analysis.comparison.table import percent
from analysis.comparison.verdict import Kind
from analysis.questions.measures import Measure, loss_measure, side_by_side
from analysis.questions.paired import POWER
from analysis.table import Item, Table, columns, count, figure, interval, p_item, words
from analysis.text import DASH

PREFIX = "benchmark_"
"""How the tables' names begin."""
DIGITS = 3


def task_table(found: Benchmark) -> Table:
    """Return an arm a row: right answers, the paired difference in margin, and its verdict."""
    level = percent(found.rules.alpha)
    labels = [
        *("arm", "seeds", "% right", "margin", level, "p adj"),
        *("% by seeds", "detectable", "verdict"),
    ]
    rows = [_row(a) for a in found.arms]
    base = [words(found.rules.baseline), count(len(found.task.arms[found.rules.baseline]))]
    base += [figure(100 * found.task.accuracy(found.rules.baseline), 1), *[Item(DASH)] * 5]
    place = sum(a.margin.estimate > 0 for a in found.arms)
    rows.insert(place, [*base, words("(baseline)")])
    rows += [_reference(found, model) for model in found.task.references]
    name = PREFIX + re.sub(r"\W+", "_", found.task.name).strip("_")
    caption = f"{found.task.name}: right answers against {found.rules.baseline}"
    return Table(name, caption, columns(*labels, text=("arm", "verdict")), rows, _notes(found))


def _row(a: ArmOnTask) -> list[Item]:
    mean, half = a.margin.estimate, a.decided.half_width
    return [
        words(a.arm),
        count(a.margin.n_seeds),
        figure(100 * a.accuracy, 1),
        figure(mean, DIGITS, sign=True),
        interval(mean - half, mean + half, DIGITS),
        p_item(a.decided.p_adj),
        figure(100 * a.seeds_share, 0),
        figure(a.decided.detectable, DIGITS),
        words(str(a.decided.verdict), a.decided.verdict.kind),
    ]


def _reference(found: Benchmark, model: Answers) -> list[Item]:
    return [
        words(model.run.model),
        Item(DASH),
        figure(100 * float(model.right.mean()), 1),
        figure(found.over_baseline(model), DIGITS, sign=True),
        *[Item(DASH)] * 4,
        words(str(Kind.REFERENCE), Kind.REFERENCE),
    ]


def _notes(found: Benchmark) -> tuple[str, ...]:
    task, unit = found.task, found.unit
    what = "A margin is the log-likelihood of the right choice minus that of the best wrong one"
    right = f"chance is {100 * task.items.chance:.1f}% right"
    if task.items.last_words:
        what = "A margin is the log-likelihood of the right last word"
        right = "right is a word that the model would write by itself: chance is 0"
    groups = f"{task.n_items} items"
    if task.n_groups < task.n_items:
        groups += f" in {task.n_groups} groups, which are the clusters"
    said = (
        f"{groups}; {right}. {what}, in {unit}; its difference is arm minus baseline, each item "
        "paired with itself at the same seeds; items and seeds are both random in the model. The "
        "intervals hold for all arms at once (Bonferroni); p values are adjusted by Holm, which "
        "has more power where other arms clearly differ: a significant arm's interval may include "
        f"0. Detectable is the true difference that would be found with probability {POWER:g}. "
        "% by seeds is the share of the variance that more seeds reduce; the rest needs more items."
    )
    return (said,)


def checks(found: Benchmark) -> list[Check]:
    """Return what a careful colleague would say of one task."""
    task, said = found.task, []
    cut = max((a.run.n_cut for seeds in task.arms.values() for a in seeds.values()), default=0)
    if task.missing:
        text = f"python -m harness.evaluate {Path(task.missing[0]).parents[1]} --tasks asks them"
        what = f"{len(task.missing)} complete cells did not answer {task.name}"
        said.append(Check(Level.WARNING, what, text))
    if found.unpaired:
        text = f"{', '.join(found.unpaired)}; train them at its seeds"
        said.append(Check(Level.WARNING, f"no seed shared with the baseline on {task.name}", text))
    if any(a.margin.n_seeds < 2 for a in found.arms):
        text = "the noise of training is unknown: no verdict"
        said.append(Check(Level.WARNING, f"one seed of an arm answered {task.name}", text))
    if cut:
        text = f"{cut} of {task.n_items} are longer than its context"
        said.append(
            Check(Level.NOTE, f"some items of {task.name} were read without their beginning", text)
        )
    return said


def beside_loss(
    comparison: Comparison, benchmarks: Sequence[Benchmark], more: Sequence[Measure] = ()
) -> Table:
    """Return test loss, benchmarks and `more` side by side, and what a lower loss was worth."""
    compared = [found for found in benchmarks if found.arms]
    others = [*(found.by_margin() for found in compared), *more]
    return side_by_side(loss_measure(comparison), others, [found.by_items() for found in compared])
