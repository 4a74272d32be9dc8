"""Everything that a report shows, computed once; what cannot be computed is kept as a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from analysis.comparison.compare import compare
from analysis.comparison.result import Comparison
from analysis.comparison.rules import Rules
from analysis.errors import AnalysisError
from analysis.questions.noise import NoiseReport, noise
from analysis.questions.plan import Plan, pilot_of, plan
from analysis.questions.stack import Stacking, stack
from analysis.report.cells import Cell, current, read_cells
from analysis.report.chart_rows import arm_order
from analysis.report.curves import Curves, read_curves
from analysis.runs.frame import Runs, with_names
from analysis.runs.ledger import Ledger, take_stock

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Evidence:
    """A study as it stands."""

    title: str
    runs: Runs
    rules: Rules
    comparison: Comparison | None
    noise: NoiseReport | None
    stacking: Stacking | None
    plan: Plan | None
    ledger: Ledger
    cells: list[Cell]
    curves: Curves
    reasons: dict[str, str]
    """Section -> why it is empty."""

    @property
    def arms(self) -> list[str]:
        """Arms, the baseline first, the others from the lowest loss to the highest."""
        if self.comparison is None:
            base = self.rules.baseline
            others = sorted(set(self.runs.frame["arm"].astype(str)) - {base})
            return [base, *others]
        return arm_order(self.comparison)


def gather(runs: Runs, rules: Rules) -> Evidence:
    """Compute all sections of a report.

    Parameters
    ----------
    runs
        As read by `analysis.read_runs`; the study may still be running.
    rules
        How to compare.

    Raises
    ------
    AnalysisError
        A record, a metrics file or a samples file that cannot be read.
    """
    reasons: dict[str, str] = {}

    def attempt(section: str, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except AnalysisError as error:
            reasons[section] = str(error)
            return None

    comparison = attempt("verdicts", lambda: compare(runs, rules))
    report = plan_ = stacking = None
    if comparison is not None:
        result = comparison
        report = attempt("noise", lambda: noise(runs, baseline=rules.baseline, metric=rules.metric))
        stacking = attempt("stacks", lambda: stack(result))
        plan_ = attempt("plan", lambda: _plan(runs, rules, result))
    cells = read_cells(runs.frame)
    return Evidence(
        title=_title(runs),
        runs=runs,
        rules=rules,
        comparison=comparison,
        noise=report,
        stacking=stacking,
        plan=plan_,
        ledger=take_stock(replace(runs, frame=with_names(runs.frame))),
        cells=cells,
        curves=read_curves(current(cells)),
        reasons=reasons,
    )


def _plan(runs: Runs, rules: Rules, result: Comparison) -> Plan:
    pilot = pilot_of(runs, rules)
    n_arms = max(len(result.estimate.arms) - 1, 1)
    # What can be found with a few seeds is worth planning for, not a practical size far below the
    # noise: that one has its own line in the table of verdicts.
    delta = max(result.rope or pilot.sd, pilot.sd)
    return plan(delta, pilot, n_arms, alpha=result.alpha)


def _title(runs: Runs) -> str:
    if "study" in runs.frame and runs.frame["study"].notna().any():
        return " + ".join(sorted(set(runs.frame["study"].dropna().astype(str))))
    return runs.stem.removesuffix("_results")
