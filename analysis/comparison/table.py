"""The results table, one row an arm: all figures as a frame, the readable ones as a `Table`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from analysis.check import Check
from analysis.comparison.estimate import POOLED
from analysis.comparison.verdict import Judgement, Kind, breakeven_without_noise
from analysis.errors import AnalysisError
from analysis.stats.planning.design import Design
from analysis.table import Column, Item, Table, count, figure, interval, p_item, words
from analysis.text import DASH, digits

COSTS = ("tokens", "hours", "usd")
COLUMNS = [
    *("arm", "n", "n_diverged", "n_shared_init", "mean_loss", "delta", "se", "df"),
    *("ci_low", "ci_high", "p_raw", "p_adj", "se_own", "p_own", "verdict"),
    *("breakeven_sd", "power_at_rope", "seeds_needed"),
    *("token_ratio", "token_ratio_low", "token_ratio_high", "published_delta"),
    *(*COSTS, "nats_per_usd", "method", "warnings"),
]
TEXT = ("arm", "verdict", "method", "warnings")
FIGURES = (
    *("delta", "se", "df", "ci_low", "ci_high"),
    *("p_raw", "p_adj", "se_own", "p_own", "power_at_rope"),
)


def build_table(judgement: Judgement) -> pd.DataFrame:
    """Return all figures, sorted by delta, with the baseline and the references in their places."""
    rows = _arm_rows(judgement)
    rows += [
        {"arm": arm, "n_diverged": verdict.n_diverged}
        for arm, verdict in judgement.verdicts.items()
        if verdict.kind is Kind.NO_RUN
    ]
    baseline = rows[0]["mean_loss"]
    rows += [
        {"arm": name, "mean_loss": value, "delta": value - baseline}
        for name, value in judgement.rules.references
    ]
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    table["verdict"] = [str(judgement.verdicts[arm]) for arm in table["arm"]]
    table[["n", "n_shared_init"]] = table[["n", "n_shared_init"]].fillna(0).astype(int)
    numeric = [name for name in COLUMNS if name not in (*TEXT, "n", "n_shared_init")]
    table[numeric] = table[numeric].astype(float)
    table["n_diverged"] = table["n_diverged"].fillna(0.0)
    table["warnings"] = pd.Series([""] * len(table), dtype=object)
    order = -table["delta"] if judgement.rules.higher_is_better else table["delta"]
    return table.iloc[np.argsort(order.to_numpy(), kind="stable")].reset_index(drop=True)


def with_marks(table: pd.DataFrame, checks: Iterable[Check]) -> pd.DataFrame:
    """Return the table with what the checks say of single arms."""
    marks: dict[str, list[str]] = {}
    for check in checks:
        for arm in check.arms if check.mark else ():
            marks.setdefault(arm, []).append(check.mark)
    return table.assign(warnings=["; ".join(marks.get(arm, [])) for arm in table["arm"]])


def _arm_rows(judgement: Judgement) -> list[dict[str, Any]]:
    fitted, judged, done = judgement.estimate, judgement.judged, judgement.done
    loss = done.groupby("arm")["loss"].mean()
    costs, published = _costs(done), _published(done)
    breakeven, seeds = _breakeven(judgement, loss), _seeds(judgement)
    gain = 1 if judgement.rules.higher_is_better else -1
    rows = []
    for i, arm in enumerate(fitted.arms):
        row: dict[str, Any] = {
            "arm": arm,
            "n": judgement.verdicts[arm].n,
            "n_diverged": judgement.verdicts[arm].n_diverged,
            "n_shared_init": fitted.n_shared[i],
            "mean_loss": float(loss[arm]),
            "delta": float(loss[arm] - loss[fitted.arms[0]]),
            "method": fitted.method,
            "published_delta": published.get(arm),
            **costs.get(arm, {}),
        }
        if i:
            row |= {"breakeven_sd": breakeven[i - 1], "seeds_needed": seeds}
            if judged is not None:
                row |= {name: float(getattr(judged, name)[i - 1]) for name in FIGURES}
            if row.get("usd"):
                row["nats_per_usd"] = gain * row["delta"] / row["usd"]
        rows.append(row)
    return rows


def _breakeven(judgement: Judgement, loss: pd.Series) -> np.ndarray:
    judged, arms = judgement.judged, list(judgement.arms)
    if judged is not None and np.isfinite(judged.breakeven_sd).all():
        return judged.breakeven_sd
    if len(arms) == 1:
        return np.zeros(0)
    means = loss.reindex(arms).to_numpy(dtype=float)
    n = np.array([judgement.verdicts[arm].n for arm in arms], dtype=float)
    return breakeven_without_noise(means[1:] - means[0], n, judgement.alpha)


def planning_design(judgement: Judgement) -> Design | None:
    """Return what these runs say of a study like theirs; None: they show no noise."""
    fit = judgement.estimate.fit
    if fit is None or judgement.estimate.obstacle or judgement.estimate.noiseless:
        return None
    spare = int(fit.n[0]) if fit.n[0] > fit.n[1:].max(initial=1) else None
    n_arms, pooled = max(len(judgement.arms) - 1, 1), judgement.rules.variance == POOLED
    return Design(
        fit.sd_total, judgement.estimate.rho, n_arms, spare, judgement.alpha, pooled=pooled
    )


def _seeds(judgement: Judgement) -> float:
    """Return the seeds per arm that would find the practical size with power 0.8, as `plan`."""
    design, rope = planning_design(judgement), judgement.practical.size
    if design is None or not rope:
        return np.nan
    try:
        return float(design.fewest_seeds(rope))
    except AnalysisError:
        return np.inf


def _costs(done: pd.DataFrame) -> dict[str, dict[str, float]]:
    known = [name for name in COSTS if name in done]
    if not known:
        return {}
    numbers = done[known].apply(pd.to_numeric, errors="coerce")
    means = numbers.groupby(done["arm"]).mean()
    return {str(arm): {k: float(row[k]) for k in known} for arm, row in means.iterrows()}


def _published(done: pd.DataFrame) -> dict[str, float]:
    if "published_delta" not in done:
        return {}
    known = done.dropna(subset=["published_delta"]).groupby("arm")["published_delta"].first()
    return {str(arm): float(value) for arm, value in known.items()}


def columns(judgement: Judgement) -> list[Column]:
    """Return the headings of the readable table."""
    rules, nats = judgement.rules, judgement.rules.unit(", ")
    return [
        Column("arm", numeric=False),
        Column("n", help="complete runs"),
        Column("mean", help=f"mean {rules.metric}{nats}"),
        Column("delta", help=f"arm - {rules.baseline}{nats}"),
        Column(percent(judgement.alpha), help="simultaneous over all arms; sorts by its lower end"),
        Column("p adj", help="adjusted for the number of arms"),
        Column("own se", help="standard error by this difference's own spread over seeds"),
        Column("p own", help="by this difference's own noise alone: paired t or Welch's"),
        Column("tokens", help="share of the baseline's tokens needed to reach its last loss"),
        Column("published", help="difference in the source that proposed it"),
        Column("break-even sd", help="noise of a run below which the interval would exclude 0"),
        Column("seeds needed", help="per arm, to find a difference of the practical size"),
        Column("verdict", numeric=False),
    ]


def readable(judgement: Judgement, frame: pd.DataFrame, notes: tuple[str, ...]) -> Table:
    """Return the table for a person, without the columns in which nothing is known."""
    sd = judgement.estimate.fit.sd_total if judgement.estimate.fit else None
    rows = [_items(row, judgement, digits(sd)) for row in frame.to_dict("records")]
    title = "Every arm against the baseline"
    return Table("verdicts", title, columns(judgement), rows, notes).known()


def _items(row: dict[Any, Any], judgement: Judgement, decimals: int) -> list[Item]:
    verdict = judgement.verdicts[row["arm"]]
    base = verdict.kind is Kind.BASELINE
    undecided = verdict.kind in (Kind.UNDECIDED, Kind.CONVERGED)
    open_only = row if undecided else dict.fromkeys(row)  # what more runs would do
    breakeven = open_only["breakeven_sd"] if single_runs(judgement) else None
    return [
        words(row["arm"]),
        count(row["n"]) if row["n"] else Item(DASH),
        figure(row["mean_loss"], decimals),
        Item(DASH, 0.0) if base else figure(row["delta"], decimals, sign=True),
        interval(row["ci_low"], row["ci_high"], decimals),
        p_item(row["p_adj"]),
        figure(row["se_own"], decimals + 1),
        p_item(row["p_own"]),
        figure(row["token_ratio"], 2),
        figure(row["published_delta"], 3, sign=True),
        figure(breakeven, decimals),
        count(open_only["seeds_needed"]),
        words("(baseline)" if base else verdict, verdict.kind.name.lower()),
    ]


def single_runs(judgement: Judgement) -> bool:
    """Tell whether every arm has a single run, so that all rests on the baseline's noise."""
    fit = judgement.estimate.fit
    return fit is None or bool((fit.n[1:] == 1).all() and len(fit.n) > 1)


def percent(alpha: float) -> str:
    """Return the heading of a column of intervals."""
    return f"{100 * (1 - alpha):g}% CI"
