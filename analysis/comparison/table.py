"""The results table, one row an arm."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.comparison.estimate import Estimate
from analysis.comparison.verdict import Judged, Kind, Verdict, breakeven_without_noise
from analysis.errors import AnalysisError
from analysis.stats.power import Design

if TYPE_CHECKING:
    from analysis.comparison.rules import Rules

COSTS = ("tokens", "hours", "usd")
Statistics = tuple[Estimate, Judged | None, list[Verdict], float, float | None]
"""Estimate, judged arms, verdicts, alpha and practical size."""

COLUMNS = [
    "arm",
    "n",
    "n_diverged",
    "n_shared_init",
    "mean_loss",
    "delta",
    "se",
    "df",
    "ci_low",
    "ci_high",
    "p_raw",
    "p_adj",
    "verdict",
    "breakeven_sd",
    "power_at_rope",
    "seeds_needed",
    "published_delta",
    "tokens",
    "hours",
    "usd",
    "nats_per_usd",
    "method",
    "warnings",
]


def build_table(
    runs: pd.DataFrame, done: pd.DataFrame, rules: Rules, statistics: Statistics
) -> tuple[pd.DataFrame, dict[str, Verdict]]:
    """Return the table, sorted by delta, with the baseline and the references in their places.

    Beside it, each row's verdict by its arm.

    Parameters
    ----------
    runs, done
        All runs, and the complete ones.
    rules
        Baseline, references and direction.
    statistics
        What was estimated from `done`.
    """
    rows = _arm_rows(done, statistics, higher_is_better=rules.higher_is_better)
    baseline = rows[0]["mean_loss"]
    rows += _lost_arms(runs, set(done["arm"]))
    for name, value in rules.references:
        rows.append(
            {
                "arm": name,
                "mean_loss": value,
                "delta": value - baseline,
                "verdict": Verdict(Kind.REFERENCE),
            }
        )
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    table["n_diverged"] = _n_diverged(runs, table)
    counts = zip(table["verdict"], table["n"].fillna(0), table["n_diverged"], strict=True)
    verdicts = [replace(v, n=int(n), n_diverged=lost) for v, n, lost in counts]
    table["verdict"] = [str(verdict) for verdict in verdicts]
    text = ("arm", "verdict", "method", "warnings")
    for name in [name for name in COLUMNS if name not in text]:
        table[name] = table[name].astype(float)
    for name in ("n", "n_shared_init"):
        table[name] = table[name].fillna(0).astype(int)
    table["warnings"] = pd.Series([""] * len(table), dtype=object)
    order = -table["delta"] if rules.higher_is_better else table["delta"]
    table_sorted = table.iloc[np.argsort(order.to_numpy(), kind="stable")].reset_index(drop=True)
    return table_sorted, dict(zip(table["arm"], verdicts, strict=True))


def _arm_rows(
    done: pd.DataFrame, statistics: Statistics, *, higher_is_better: bool
) -> list[dict[str, Any]]:
    fitted, judged, found, alpha, rope = statistics
    plain = done.groupby("arm")["loss"].mean()
    n = done.groupby("arm")["loss"].size()
    costs = _costs(done)
    published = _published(done)
    seeds = _seeds(fitted, alpha, rope)
    breakeven = _breakeven(fitted, judged, plain, n, alpha)
    base = float(plain[fitted.arms[0]])
    rows = []
    gain = 1 if higher_is_better else -1
    for i, arm in enumerate(fitted.arms):
        row: dict[str, Any] = {
            "arm": arm,
            "n": int(n[arm]),
            "n_shared_init": fitted.n_shared[i],
            "mean_loss": float(plain[arm]),
            "delta": float(plain[arm]) - base if i else 0.0,
            "verdict": found[i - 1] if i else Verdict(Kind.BASELINE),
            "method": fitted.method,
            "published_delta": published.get(arm),
            **costs.get(arm, {}),
        }
        if i:
            row |= {"breakeven_sd": breakeven[i - 1], "seeds_needed": seeds}
            row |= _figures(judged, i - 1)
        if i and row.get("usd"):
            row["nats_per_usd"] = gain * row["delta"] / row["usd"]
        rows.append(row)
    return rows


def _figures(judged: Judged | None, i: int) -> dict[str, float]:
    if judged is None:
        return {}
    names = ["delta", "se", "df", "ci_low", "ci_high", "p_raw", "p_adj", "power_at_rope"]
    return {name: float(getattr(judged, name)[i]) for name in names}


def _breakeven(
    fitted: Estimate, judged: Judged | None, plain: pd.Series, n: pd.Series, alpha: float
) -> np.ndarray:
    if judged is not None and np.isfinite(judged.breakeven_sd).all():
        return judged.breakeven_sd
    if len(fitted.arms) == 1:
        return np.zeros(0)
    means = plain.reindex(list(fitted.arms)).to_numpy(dtype=float)
    counts = n.reindex(list(fitted.arms)).to_numpy(dtype=float)
    return breakeven_without_noise(means[1:] - means[0], counts, alpha)


def _seeds(fitted: Estimate, alpha: float, rope: float | None) -> float:
    fit = fitted.fit
    if fit is None or fitted.obstacle or not rope or not fit.sd_total > 0:
        return np.nan
    rho = min(fit.rho, 0.999) if fit.method == "mixed" else None
    n_arms = max(len(fitted.arms) - 1, 1)
    design = Design(fit.sd_total, rho, n_arms, None, alpha, guarded=fit.own is not None)
    try:
        return float(design.seeds_needed(rope))
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


def _lost_arms(runs: pd.DataFrame, present: set[str]) -> list[dict[str, Any]]:
    rows = []
    for arm, group in runs[~runs["arm"].isin(list(present))].groupby("arm"):
        counts = group["status"].value_counts()
        why = ", ".join(f"{count} {status}" for status, count in counts.items())
        rows.append({"arm": arm, "n": 0, "verdict": Verdict(Kind.NO_RUN, why=why)})
    return rows


def _n_diverged(runs: pd.DataFrame, table: pd.DataFrame) -> list[int]:
    counts = runs[runs["status"] == "diverged"].groupby("arm").size()
    return [int(counts.get(arm, 0)) for arm in table["arm"]]
