"""How many tokens, FLOPs or seconds an arm needs to reach a loss, against the baseline.

Each run's validation curve is read at the first point where it comes down to the target; the
logarithms of what it had spent by then are compared like losses, so that a difference is a factor:
0.87 is the baseline's loss with 0.87 of its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import exp, log

import numpy as np
import pandas as pd

from analysis.comparison.compare import Source, as_runs, compare
from analysis.comparison.result import Comparison
from analysis.comparison.rules import Rules, agreed
from analysis.errors import AnalysisError
from analysis.questions.speed import CREDIT_STEPS, Counted, Factor, Reached, Speed
from analysis.runs.curves import COMPLETE, COSTS, TOKENS, VALIDATION, Curve, read_curves
from analysis.runs.frame import Runs, is_foreign
from analysis.stats.crossing import Crossing, first_crossing

LOG_COST = "log cost"
RATIO = ("token_ratio", "token_ratio_low", "token_ratio_high")
"""The columns that a table of verdicts gets."""


def speed(
    runs: Source,
    rules: Rules | None = None,
    *,
    target: float | None = None,
    credit: float | None = None,
    costs: Sequence[str] = COSTS,
) -> Speed:
    """Compare what the arms spend to reach a validation loss.

    Parameters
    ----------
    runs
        As for `analysis.compare`; a table has one line a step here (`analysis.runs.curves`).
    rules
        Baseline, alpha and variance; the metric is the curve's, ``val_loss`` by default.
    target
        Nats per token; None: the highest last loss of the baseline's runs, which all of them reach.
    credit
        Nats that a hundred steps are worth: then no crossing is looked for, and each run's last
        loss is turned into steps (0.0045 in modded-nanogpt's track 3).
    costs
        What training is counted in.

    Raises
    ------
    AnalysisError
        No curves, a target that the baseline does not reach, a credit that is not above 0.
    """
    rules, source = rules or Rules(), as_runs(runs)
    metric = VALIDATION if rules.metric == Rules().metric else rules.metric
    curves = read_curves(source, metric)
    base = [c for c in curves if c.run["arm"] == rules.baseline and c.run["status"] == COMPLETE]
    _check(curves, base, replace(rules, metric=metric), credit)
    given, why = target, "as asked for"
    if given is None:
        given = max(_last(curve) for curve in base)
        why = f"the highest last loss of the {len(base)} runs of {rules.baseline}"
    reached: dict[str, list[Reached]] = {rules.baseline: []}
    for curve in curves:
        lost = curve.run["status"] != COMPLETE
        crossings = {} if lost else _crossings(curve, given, credit)
        reached.setdefault(curve.run["arm"], []).append(Reached(curve, crossings))
    _refuse_unknown_baseline(reached[rules.baseline], given, rules.baseline)
    alpha = agreed(rules.alpha, source.plans, "alpha") or 0.05
    rules = replace(rules, metric=LOG_COST, alpha=alpha, practical_size=None, references=())
    compared = {cost: _compare(reached, cost, rules) for cost in costs if _known(reached, cost)}
    return Speed(given, why, reached, alpha, compared, credit)


def _check(
    curves: Sequence[Curve], base: Sequence[Curve], rules: Rules, credit: float | None
) -> None:
    """Refuse curves and options with which no crossing can be found."""
    if rules.higher_is_better:
        raise AnalysisError(
            f"{rules.metric} is said to be better when higher, and crossings are looked for in "
            "losses, which fall: name the loss with --metric"
        )
    if not base:
        raise AnalysisError(
            f"no complete run of {rules.baseline!r} has logged {rules.metric}: set eval.n_val "
            "above 0, or name the baseline with --baseline"
        )
    if credit is None and all(len(curve.loss) < 2 for curve in curves):
        raise AnalysisError(
            f"each run has one {rules.metric}, which is no curve: give a table of one line a step, "
            "or --credit, for which a run's last loss is enough"
        )
    if credit is not None and not credit > 0:
        raise AnalysisError(f"--credit {credit:g}: nats for {CREDIT_STEPS} steps, above 0")


def with_speed(result: Comparison, found: Speed | None) -> Comparison:
    """Return the comparison with the arms' token factors in its table."""
    if found is None:
        return result
    nothing = (np.nan,) * len(RATIO)
    factors = {arm: found.factor(arm) for arm in found.runs}
    ends = [
        (factor.ratio, factor.low, factor.high) if (factor := factors.get(arm)) else nothing
        for arm in result.table["arm"]
    ]
    table = result.table.copy()
    table[list(RATIO)] = ends
    return replace(result, table=table)


def compare_with_speed(runs: Runs, rules: Rules) -> Comparison:
    """Return the comparison, with token factors where the runs have curves and losses compared."""
    return with_speed(compare(runs, rules), speed_if_known(runs, rules, costs=(TOKENS,)))


def speed_if_known(runs: Runs, rules: Rules, costs: Sequence[str] = COSTS) -> Speed | None:
    """Return the speed of records whose losses are compared; None where it cannot be told."""
    if is_foreign(runs.frame) or rules.metric != Rules().metric:
        return None
    try:
        return speed(runs, rules, costs=costs)
    except AnalysisError:  # no validations, or none that the baseline comes down to
        return None


def _last(curve: Curve) -> float:
    return float(curve.loss[np.isfinite(curve.loss)][-1])


def _crossings(curve: Curve, target: float, credit: float | None) -> dict[str, Crossing]:
    if credit is not None:
        return _credited(curve, target, credit)
    return {cost: first_crossing(x, curve.loss, target) for cost, x in curve.costs.items()}


def _credited(curve: Curve, target: float, credit: float) -> dict[str, Crossing]:
    """Return the cost at which the run would have met the target, by its last loss."""
    steps = CREDIT_STEPS * (_last(curve) - target) / credit
    share = 1 + steps / curve.step[-1]
    return {
        cost: Crossing(float(share * x[-1]) if share > 0 else None, float(x[-1]), 1.0)
        for cost, x in curve.costs.items()
    }


def _refuse_unknown_baseline(runs: Sequence[Reached], target: float, baseline: str) -> None:
    if any(run.diverged for run in runs):
        raise AnalysisError(f"a run of {baseline} diverged: nothing can be held against it")
    late = [run for run in runs if not run.there]
    if late:
        lowest = max(float(np.nanmin(run.curve.loss)) for run in late)
        raise AnalysisError(
            f"{len(late)} of {len(runs)} runs of {baseline} never reach {target:g}: choose a "
            f"--target of {lowest:.4f} or more"
        )
    early = [run for run in runs if run.early]
    if early:
        first = min(float(run.curve.loss[np.isfinite(run.curve.loss)][0]) for run in early)
        raise AnalysisError(
            f"{len(early)} of {len(runs)} runs of {baseline} are at {target:g} at their first "
            f"validation already: choose a --target below {first:.4f}"
        )


def _known(reached: dict[str, list[Reached]], cost: str) -> bool:
    complete = (run for runs in reached.values() for run in runs if not run.diverged)
    return all(cost in run.crossings for run in complete)


def _compare(reached: dict[str, list[Reached]], cost: str, rules: Rules) -> Counted:
    """Compare the log costs of the arms of which every run's cost is known.

    The others stay in the family, since who gets there is seen in the losses: k arms of T are
    judged at k / T of the family's error.
    """
    there = {arm: runs for arm, runs in reached.items() if all(run.cost(cost) for run in runs)}
    share = max(len(there) - 1, 1) / max(len(reached) - 1, 1)
    rows = [
        run.curve.run | {LOG_COST: log(run.cost(cost) or 1.0)}
        for runs in there.values()
        for run in runs
    ]
    of_losses = ["loss", "folder", "published_delta", "tokens", "step"]
    frame = pd.DataFrame(rows).drop(columns=of_losses, errors="ignore")
    alpha = share * (rules.alpha or 0.05)
    result = compare(frame, replace(rules, alpha=alpha, higher_is_better=False))
    factors = {}
    for row in result.table.to_dict("records"):
        arm = str(row["arm"])
        if arm != rules.baseline:
            ratio, low, high = (exp(row[name]) for name in ("delta", "ci_low", "ci_high"))
            p, kind = min(1.0, row["p_adj"] / share), result.verdicts[arm].kind
            factors[arm] = Factor(ratio, low, high, p, kind)
    return Counted(result, factors)
