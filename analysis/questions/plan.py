"""How many seeds a study needs before it is run, and what they cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.comparison.compare import Source, compare
from analysis.comparison.rules import Rules
from analysis.comparison.table import planning_design
from analysis.errors import AnalysisError
from analysis.stats.planning.design import Design
from analysis.stats.planning.power import upper_sd
from analysis.stats.seed_correlation import Correlation
from analysis.table import Column, Table, columns, count, document, figure
from analysis.text import time_unit

DEFAULT_RULE = "the default rule, which averages over equal and unequal noise"
POOLED_RULE = "the pooled rule, which takes all arms to be equally noisy"


@dataclass(frozen=True, slots=True)
class Pilot:
    """What is known of the noise before a study."""

    sd: float
    """Of one run around its arm's mean, nats per token."""
    df: float
    """Degrees of freedom behind the noise of a difference, ``sd * sqrt(1 - rho)``; infinite where
    it is simply believed."""
    rho: float | None
    """Correlation of same-seed runs; None: arms do not share seeds."""
    hours: float | None = None
    """Of one run."""
    usd: float | None = None
    """Of one run."""
    source: str = "given"
    unit: str = " nats per token"
    """Of `sd`, with a space before it."""
    n_baseline: int | None = None
    """Baseline runs that there are, where they are more than an arm's."""
    pooled: bool = False
    """The study will take all arms to be equally noisy."""
    rho_source: str = ""
    """What `rho` was measured from, in words."""
    size: float | None = None
    """The practical size that the runs were judged by."""
    n_arms: int = 1
    """Of the runs, without the baseline."""
    alpha: float = 0.05
    """Family error that the runs were judged at."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Seeds for a study of T arms and a baseline."""

    delta: float
    """Difference to find, nats per token."""
    n_arms: int
    alpha: float
    power: float
    pilot: Pilot
    seeds: int
    """Seeds per arm, taking the sd at its word."""
    seeds_cautious: int
    """The same at the 80% upper confidence limit of the sd, its correlation taken as it is."""
    n_baseline: int
    """Baseline runs: as many as the arms where seeds are shared, else about n * sqrt(T)."""
    curve: pd.DataFrame
    """Columns seeds, power, power_cautious, detectable, runs, hours, usd."""

    def tables(self) -> list[Table]:
        """Return power and cost against seeds; what is known of no run has no column."""
        unit = self.pilot.unit
        time = time_unit(self.curve["hours"].max())
        rows = [
            [
                *(count(row[name]) for name in ("seeds", "runs")),
                *(figure(row[name], 2) for name in ("power", "power_cautious")),
                figure(row["detectable"], 4),
                figure(row["hours"] * time.per_hour, 1),
                figure(row["usd"], 2),
            ]
            for row in self.curve.to_dict("records")
        ]
        heads = [
            *columns("seeds per arm", "runs in all", "power", text=()),
            Column("power, cautious sd", help="at the noise's 80% upper confidence limit"),
            Column(f"found with power {self.power:g}", help=f"smallest difference,{unit}"),
            *columns(time.name, "dollars", text=()),
        ]
        return [Table("plan", f"To find {self.delta:.3g}{unit}", heads, rows).known()]

    def summary(self) -> str:
        """Return the answer in a sentence."""
        cautious = f"; **{self.seeds_cautious}** at the 80% upper limit of the sd"
        return (
            f"To find a difference of {self.delta:.3g}{self.pilot.unit} with power {self.power:g} "
            f"at family error {self.alpha:g}, run **{self.seeds} seeds per arm** and "
            f"{self.n_baseline} of the baseline"
            f"{cautious if self.seeds_cautious != self.seeds else ''}."
        )

    def to_markdown(self) -> str:
        """Return the plan for a person."""
        pilot = self.pilot
        measured = f" ({pilot.rho_source})" if pilot.rho_source else ""
        rho = f"correlation of same-seed runs {pilot.rho or 0:.2f}{measured}"
        rho = "seeds not shared" if pilot.rho is None else rho
        shared = "Every arm and the baseline get the same seeds."
        df = f", df {pilot.df:.3g}" if math.isfinite(pilot.df) else ""
        lines = [
            self.summary(),
            f"Noise (from {pilot.source}): sd {pilot.sd:.3g}{df}, {rho}.",
            *([] if pilot.rho is None else [shared]),
            f"Power is that of {POOLED_RULE if pilot.pooled else DEFAULT_RULE}.",
        ]
        if self.delta < pilot.sd * math.sqrt(1 - (pilot.rho or 0)):
            lines.append(
                "The difference is below one sd of a run beyond its seed's share: at 8 seeds or "
                "fewer such a study nearly always ends undecided."
            )
        title = f"Plan: {self.n_arms} arm(s) against the baseline"
        return document(title, "\n".join(lines), *self.tables())


def pilot_of(runs: Source, rules: Rules | None = None, **changes: Any) -> Pilot:
    """Return the noise and the cost of runs that were made, for planning the next study.

    Parameters are those of `analysis.compare`.

    Raises
    ------
    AnalysisError
        The runs show no noise: too few of them, or all equal.

    Examples
    --------
    >>> frame = pd.DataFrame({"arm": "baseline", "test_loss": [3.69, 3.70, 3.68, 3.71]})
    >>> pilot_of(frame).df
    3.0
    """
    result = compare(runs, rules, **changes)
    fit, design = result.estimate.fit, planning_design(result)
    if fit is None or design is None:
        why = result.why
        if fit is not None and result.estimate.obstacle is None:
            why = "no loss differs by more than its arm's and its seed's share"
        raise AnalysisError(
            f"these runs show no noise to plan with ({why}): run the baseline with 4 "
            "initialisation seeds or more, or give --sd"
        )
    rows, df = result.table[result.table["n"] > 0], fit.df_resid
    measured = result.estimate.correlation
    if fit.method == "mixed":
        # Planning rests on the residual alone, sd^2 (1 - rho): its df are fewer than N - A.
        df = min(df, float(2 * fit.var_resid**2 / fit.W[-1, -1]))
    return Pilot(
        design.sd,
        df,
        design.rho,
        _mean(rows, "hours"),
        _mean(rows, "usd"),
        f"{int(rows['n'].sum())} runs of {len(rows)} arms",
        result.rules.unit(),
        design.n_baseline,
        design.pooled,
        _rho_source(measured, design.rho),
        result.rope,
        design.n_arms,
        result.alpha,
    )


def plan(
    delta: float, pilot: Pilot, n_arms: int, *, alpha: float | None = None, power: float = 0.8
) -> Plan:
    """Return the seeds that find a difference with a power, by the default rule of a comparison.

    Each difference then answers for its own variance, which costs power with few seeds
    (`analysis.stats.planning.design`).

    Parameters
    ----------
    delta
        Smallest difference worth finding, nats per token, of either sign.
    pilot
        Noise and cost; see `pilot_of`.
    n_arms
        Interventions and stacks, without the baseline.
    alpha, power
        Family error (None: the pilot's) and the chance to find `delta` in one given arm.

    Raises
    ------
    AnalysisError
        A figure out of range, or no number of seeds is enough.

    Examples
    --------
    >>> plan(0.025, Pilot(0.015, 7, 0.4), n_arms=8).seeds
    7
    """
    if n_arms < 1:
        raise AnalysisError(
            f"the number of arms is {n_arms}: at least 1 is compared with the baseline"
        )
    for what, cost in (("hours", pilot.hours), ("dollars", pilot.usd)):
        if cost is not None and cost < 0:
            raise AnalysisError(f"the {what} of one run are {cost:g}: they cannot be below 0")
    delta, alpha = abs(delta), pilot.alpha if alpha is None else alpha
    cautious = upper_sd(pilot.sd, pilot.df) if math.isfinite(pilot.df) else pilot.sd
    likely, wary = (
        Design(sd, pilot.rho, n_arms, pilot.n_baseline, alpha, pooled=pilot.pooled)
        for sd in (pilot.sd, cautious)
    )
    seeds, more = (design.fewest_seeds(delta, power) for design in (likely, wary))
    rows = []
    for n in sorted({2, 3, 4, 5, 6, 8, seeds, more, 2 * seeds}):
        here = likely.allocated(n)
        runs = n * n_arms + (here.n_baseline or n)
        rows.append(
            {
                "seeds": n,
                "power": here.power(delta, n),
                "power_cautious": wary.allocated(n).power(delta, n),
                "detectable": here.detectable(n, power),
                "runs": runs,
                "hours": runs * (pilot.hours or math.nan),
                "usd": runs * (pilot.usd or math.nan),
            }
        )
    K = likely.allocated(seeds).n_baseline or seeds
    return Plan(delta, n_arms, alpha, power, pilot, seeds, more, K, pd.DataFrame(rows))


def _rho_source(measured: Correlation | None, planned: float | None) -> str:
    """Return where the correlation was measured, with its value if the plan takes another."""
    if measured is None:
        return ""
    same = measured.estimate == planned
    return measured.origin if same else f"measured {measured.estimate:.2f} {measured.origin}"


def _mean(table: pd.DataFrame, column: str) -> float | None:
    known = table[table[column].notna()]
    if not len(known):
        return None
    return float((known[column] * known["n"]).sum() / known["n"].sum())
