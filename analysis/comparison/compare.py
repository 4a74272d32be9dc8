"""The road of a comparison: read, fit, judge, table, checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison.checks import checks_of, next_steps
from analysis.comparison.estimate import estimate
from analysis.comparison.noise_band import noise_band
from analysis.comparison.result import Comparison
from analysis.comparison.rules import (
    Rules,
    agreed,
    check_rules,
    practical_size,
    refuse_other_rules,
)
from analysis.comparison.sequential import Decision, at_looks, decide_prepared
from analysis.comparison.table import build_table, with_marks
from analysis.comparison.verdict import Judgement, judge_arms
from analysis.errors import AnalysisError
from analysis.runs.cell.test_set import read_test_text
from analysis.runs.frame import Runs, complete, is_foreign, named
from analysis.runs.ledger import require_baseline, take_stock
from analysis.runs.normalise import normalised
from analysis.runs.prepare import prepare
from analysis.runs.reading import Reading
from analysis.runs.tables import read_runs
from harness.records import BASELINE, StudyPlan

Source = pd.DataFrame | Runs | str | Path | Sequence[str | Path]


def compare(runs: Source, rules: Rules | None = None, **changes: Any) -> Comparison:
    """Compare every arm with the baseline.

    Parameters
    ----------
    runs
        A frame with one row a run (columns in `analysis.runs.frame`), or paths of studies, record
        files, CSV or parquet tables. Frames and tables are read alike.
    rules
        Baseline, metric, alpha, practical size, variance; see `Rules`.
    **changes
        Single fields of `Rules`, e.g. ``practical_size=0.01``.

    Returns
    -------
    Comparison

    Raises
    ------
    AnalysisError
        Input that cannot be compared honestly; the message says what and what to do.

    Examples
    --------
    >>> frame = pd.DataFrame({
    ...     "arm": ["baseline"] * 4 + ["no_dropout"] * 4,
    ...     "seed": [0, 1, 2, 3] * 2,
    ...     "test_loss": [3.692, 3.704, 3.681, 3.698, 3.641, 3.659, 3.635, 3.650]})
    >>> result = compare(frame, practical_size=0.01)
    >>> result.table[["arm", "n", "verdict"]].values.tolist()
    [['no_dropout', 4, 'better (beyond practical size)'], ['baseline', 4, '']]
    """
    rules = check_rules(rules, changes)
    return _compare(read(runs, rules), rules)


def decide(runs: Source, plan: StudyPlan, rules: Rules | None = None, **changes: Any) -> Decision:
    """Decide, arm by arm, whether to stop or to run the next seeds of a sequential study.

    A pure function of the runs and the frozen plan: the same runs give the same decision, in
    whatever order they finished.

    Parameters
    ----------
    runs
        As for `compare`. Complete and diverged runs of an arm count in the order of the plan's
        cells, else of their seeds: the first ``looks[k]`` make look k.
    plan
        ``alpha``, ``looks`` and the practical size, ``rope``; its cells name the arms and the
        order of the seeds.
    rules
        Baseline, metric, variance and direction; alpha and the practical size are the plan's.
    **changes
        Single fields of `Rules`, e.g. ``metric="val_loss"``.

    Raises
    ------
    AnalysisError
        No looks in the plan, or runs that are refused.

    Examples
    --------
    >>> frame = pd.DataFrame({"arm": ["baseline"] * 3 + ["a"] * 3, "seed": [0, 1, 2] * 2,
    ...                       "test_loss": [3.70, 3.71, 3.69, 3.40, 3.42, 3.38]})
    >>> decide(frame, StudyPlan(study="s", looks=[2, 3, 4])).table["decision"].tolist()
    ['continue']
    """
    rules = check_rules(rules, changes)
    return decide_prepared(read(runs, rules).frame, plan, rules)


def read(source: Source, rules: Rules) -> Runs:
    """Return the runs in the analysis's shape; refuse what is refused."""
    runs = prepare(
        as_runs(source, rules.metric),
        metric=rules.metric,
        baseline=rules.baseline,
        allow_reruns=rules.allow_reruns,
    )
    if not is_foreign(runs.frame) and (rules.baseline, rules.metric) != (BASELINE, "test_loss"):
        runs.frame["published_delta"] = np.nan  # a card's figure is a test loss minus baseline's
    return runs


def as_runs(source: Source, metric: str = "test_loss") -> Runs:
    """Return runs from wherever they come; not yet prepared."""
    if isinstance(source, Runs):
        return source
    reading = Reading(metric=metric)
    if isinstance(source, pd.DataFrame):
        return normalised(source, reading)
    paths = [source] if isinstance(source, str | Path) else list(source)
    return read_runs([str(path) for path in paths], reading=reading)


def _compare(runs: Runs, rules: Rules) -> Comparison:
    refuse_other_rules(rules, runs.plans)
    if rules.metric == "test_loss":
        shown = {item.label: item.loss for item in runs.references} | dict(rules.references)
        rules = dataclasses.replace(rules, references=tuple(shown.items()))
    if taken := {name for name, _ in rules.references} & set(runs.frame["arm"]):
        raise AnalysisError(f"a reference is named as an arm is: {named(taken)}; name it otherwise")
    done = require_baseline(runs.frame, complete(runs.frame), rules.baseline)
    fitted = estimate(done, rules.baseline, rules.variance)
    alpha = agreed(rules.alpha, runs.plans, "alpha") or 0.05
    band = noise_band(done, fitted, alpha)
    judgement = Judgement(
        source=runs,
        done=done,
        rules=rules,
        estimate=fitted,
        noise=band,
        alpha=alpha,
        practical=practical_size(rules, runs.plans, band, fitted),
        ledger=take_stock(runs),
    )
    judgement = on_text(at_looks(judge_arms(judgement)))
    table = build_table(judgement)
    checks = checks_of(judgement, table)
    return Comparison.of(
        judgement, with_marks(table, checks), tuple(checks), next_steps(judgement, table)
    )


def on_text(judgement: Judgement) -> Judgement:
    """Return the judgement with its test text, and which verdicts may hold on that alone."""
    if judgement.rules.metric != "test_loss":
        return judgement
    text = read_test_text(judgement.done, judgement.rules.baseline)
    if text is None or judgement.judged is None:
        return dataclasses.replace(judgement, text=text)
    deltas = dict(zip(judgement.arms[1:], judgement.judged.delta, strict=True))
    verdicts = {
        arm: dataclasses.replace(verdict, on_this_text=True)
        if verdict.kind.real and abs(deltas[arm]) <= text.reach.get(arm, 0)
        else verdict
        for arm, verdict in judgement.verdicts.items()
    }
    return dataclasses.replace(judgement, text=text, verdicts=verdicts)
