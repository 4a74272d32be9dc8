"""The comparison of every arm with the baseline: what `python -m analysis RUNS` prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison.checks import all_warnings
from analysis.comparison.estimate import Estimate, estimate
from analysis.comparison.noise_band import NoiseBand, noise_band
from analysis.comparison.rules import Rules, check_rules
from analysis.comparison.run_checks import repeats, wrong_way
from analysis.comparison.table import build_table
from analysis.comparison.verdict import Judged, Kind, Verdict, judge, verdicts
from analysis.errors import AnalysisError
from analysis.runs.frame import Runs, complete, is_foreign, named, prepare
from analysis.runs.ledger import Ledger, require_baseline, take_stock
from analysis.runs.tables import read_runs
from harness.records import BASELINE, StudyPlan

GIVEN_NOW = "given on this call"
Source = pd.DataFrame | Runs | str | Path | Sequence[str | Path]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every arm against the baseline.

    ``table`` has one row an arm, sorted by delta, the baseline in its place; columns and units are
    in ``docs/statistics.md``.
    """

    table: pd.DataFrame
    verdicts: dict[str, Verdict]
    """By arm, for every row of the table."""
    noise: NoiseBand | None
    """Where one more baseline run would fall; None: the baseline has too few runs."""
    method: str
    why: str
    alpha: float
    rope: float | None
    """Practically relevant difference, nats per token; None: nothing to take it from."""
    rope_source: str
    sd: float | None
    """Sd of one run around its arm's mean, nats per token."""
    rho: float | None
    """Correlation of same-seed runs, where the model estimates it."""
    ledger: Ledger
    warnings: tuple[str, ...]
    next_steps: tuple[str, ...]
    rules: Rules
    judged: Judged | None
    estimate: Estimate
    runs: pd.DataFrame
    """The runs that were read, whatever their status."""

    def to_markdown(self) -> str:
        """Return the report for a person: the table, the noise, the method, the ledger."""
        from analysis.text import to_markdown

        return to_markdown(self)

    def to_csv(self) -> str:
        """Return the whole table as CSV."""
        return self.table.to_csv(index=False, lineterminator="\n")

    def to_json(self) -> str:
        """Return everything, the runs behind each figure included, as JSON."""
        from analysis.text import to_json

        return to_json(self)

    def to_latex(self) -> str:
        """Return the short table as a LaTeX tabular (booktabs)."""
        from analysis.text import to_latex

        return to_latex(self)


def compare(
    runs: Source,
    rules: Rules | None = None,
    **changes: Any,
) -> Comparison:
    """Compare every arm with the baseline.

    Parameters
    ----------
    runs
        A frame with one row a run (columns in `analysis.runs`), or paths of studies, record files,
        CSV or parquet tables.
    rules
        Baseline, metric, alpha, practical size, variance; see `Rules`.
    **changes
        Single fields of `Rules`, e.g. ``rope=0.01``.

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
    ...     "init_seed": [0, 1, 2, 3] * 2,
    ...     "test_loss": [3.692, 3.704, 3.681, 3.698, 3.641, 3.659, 3.635, 3.650]})
    >>> result = compare(frame, rope=0.01)
    >>> result.table[["arm", "n", "verdict"]].to_dict("records")
    [{'arm': 'no_dropout', 'n': 4, 'verdict': 'better'}, {'arm': 'baseline', 'n': 4, 'verdict': ''}]
    """
    rules = check_rules(rules, changes)
    frame, plans = read_frame(runs, rules)
    return _compare(frame, plans, rules)


def read_frame(runs: Source, rules: Rules) -> tuple[pd.DataFrame, dict[str, StudyPlan]]:
    """Return the runs in the analysis's shape, and their plans; refuse what is refused."""
    given = _as_runs(runs)
    frame = prepare(given.frame, metric=rules.metric, allow_reruns=rules.allow_reruns)
    if not is_foreign(frame) and (rules.baseline, rules.metric) != (BASELINE, "test_loss"):
        frame["published_delta"] = np.nan  # a card's figure is the test loss minus its baseline's
    return frame, given.plans


def _compare(frame: pd.DataFrame, plans: dict[str, StudyPlan], rules: Rules) -> Comparison:
    _check_looks(rules, plans)
    done = require_baseline(frame, complete(frame), rules.baseline)
    fitted = estimate(done, rules.baseline, rules.variance)
    alpha = _planned(rules.alpha, plans, "alpha") or 0.05
    band = noise_band(done, fitted, alpha)
    rope, rope_source = _rope(rules, plans, band, fitted)
    judged = _judge(fitted, alpha, rope)
    found = _verdicts(fitted, judged, alpha, rope, rules)
    found, looks = _at_looks(frame, fitted, plans, (rules, rope), found)
    ledger = take_stock(frame, plans)
    table, by_arm = build_table(frame, done, rules, (fitted, judged, found, alpha, rope))
    warnings, steps = all_warnings(table, by_arm, done, fitted, ledger, (alpha, rope, rope_source))
    fit = fitted.fit
    return Comparison(
        table=table,
        verdicts=by_arm,
        noise=band,
        method=fitted.method,
        why=fitted.why,
        alpha=alpha,
        rope=rope,
        rope_source=rope_source,
        sd=fit.sd_total if fit else None,
        rho=fit.rho if fit and fit.method == "mixed" else None,
        ledger=ledger,
        warnings=(
            *looks,
            *repeats(frame, done),
            *wrong_way(rules.metric, higher_is_better=rules.higher_is_better),
            *warnings,
        ),
        next_steps=steps,
        rules=rules,
        judged=judged,
        estimate=fitted,
        runs=frame,
    )


def _as_runs(runs: Source) -> Runs:
    if isinstance(runs, Runs):
        return runs
    if isinstance(runs, pd.DataFrame):
        return Runs(runs)
    paths = [runs] if isinstance(runs, str | Path) else list(runs)
    return read_runs([str(path) for path in paths])


def _planned(given: float | None, plans: dict[str, StudyPlan], name: str) -> float | None:
    """Return what was asked for now, else what all the plans agree on."""
    if given is not None:
        return given
    values = {getattr(plan, name) for plan in plans.values()} - {None}
    if len(values) > 1:
        raise AnalysisError(
            f"the plans of {', '.join(plans)} declare different values of {name} "
            f"({', '.join(f'{value:g}' for value in sorted(values))}): choose one with --{name}"
        )
    return values.pop() if values else None


def _rope(
    rules: Rules, plans: dict[str, StudyPlan], band: NoiseBand | None, fitted: Estimate
) -> tuple[float | None, str]:
    if rules.rope is not None:
        return rules.rope, GIVEN_NOW
    planned = _planned(None, plans, "rope")
    if planned is not None:
        return planned, "declared in the study's plan"
    if band is not None and band.K >= 3 and band.sd > 0:
        return band.sd, f"1 x sd of the {band.K} baseline runs, not declared before the runs"
    if fitted.fit is not None and fitted.obstacle is None and fitted.fit.sd_total > 0:
        return fitted.fit.sd_total, "1 x sd of a run, not declared before the runs"
    return None, "nothing to take it from: give --rope"


def _check_looks(rules: Rules, plans: dict[str, StudyPlan]) -> None:
    """Refuse another rule than the one that a study with looks has spent its alpha by."""
    for plan in [plan for plan in plans.values() if plan.looks and len(plans) == 1]:
        for name in ("alpha", "rope"):
            given, fixed = getattr(rules, name), getattr(plan, name)
            if None not in (given, fixed) and given != fixed:
                raise AnalysisError(
                    f"{name} is {given:g}, but the plan of {plan.study}, which has looks, fixed "
                    f"{fixed:g} before the runs: leave it out, or try others with "
                    "python -m analysis sequential"
                )


def _judge(fitted: Estimate, alpha: float, rope: float | None) -> Judged | None:
    if fitted.fit is None or fitted.obstacle is not None or len(fitted.arms) == 1:
        return None
    return judge(fitted.fit, alpha, rope if rope is not None else float(np.finfo(float).tiny))


def _verdicts(
    fitted: Estimate, judged: Judged | None, alpha: float, rope: float | None, rules: Rules
) -> list[Verdict]:
    if judged is None:
        return [Verdict(Kind.UNDECIDED)] * (len(fitted.arms) - 1)
    return verdicts(judged, alpha, rope or 0.0, higher_is_better=rules.higher_is_better)


def _at_looks(
    frame: pd.DataFrame,
    fitted: Estimate,
    plans: dict[str, StudyPlan],
    rule: tuple[Rules, float | None],
    found: list[Verdict],
) -> tuple[list[Verdict], tuple[str, ...]]:
    """Return the verdicts of a study that is looked at while it runs, and what to say of it.

    `rule` has the rules and the practical size that is printed: the verdicts' own.
    """
    planned = [plan for plan in plans.values() if plan.looks]
    if not planned:
        return found, ()
    looks = ", ".join(str(n) for n in planned[0].looks)
    if len(plans) > 1:
        return found, ("several studies, one with looks: early looks are not accounted for",)
    from analysis.comparison.sequential import decide

    decision = decide(frame, dataclasses.replace(planned[0], rope=rule[1]), rule[0])
    note = (
        f"sequential study with looks at {looks} seeds, {decision.look} done: verdicts spend each "
        "look's own alpha; p and intervals in the table do not (python -m analysis sequential)"
    )
    early = decision.stopped_early
    also = f"; stopped early, biased outward: {named(early)}" if early else ""
    undecided = Verdict(Kind.UNDECIDED)
    return [decision.verdicts.get(arm, undecided) for arm in fitted.arms[1:]], (note + also,)
