"""What a careful colleague would say about the table, and what to run next."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import special

from analysis.comparison.estimate import Estimate
from analysis.comparison.run_checks import mark, run_warnings
from analysis.comparison.verdict import Kind, Verdict
from analysis.runs.frame import is_foreign, named
from analysis.runs.ledger import Ledger
from analysis.stats.linear import DF_ROUNDING, FEWEST_DF
from analysis.stats.textbook_tests import brown_forsythe

LARGE_RATIO = 4.0
"""Arms' variances further apart than this are tested for equality."""

WILD_RATIO = 100.0
"""An arm's variance over all others', from which on its runs are pointed out."""

FAR, TOO_FAR = 2.0, 6.0
"""Standard errors from the baseline. If half of the arms do nothing, 1-3% of simulated studies have
hardly an arm within the first; a baseline of fourfold variance does not explain the second.
"""

LOOP_ONLY = (
    "loop-only band: all repeats of an arm share one initialisation seed, so the noise of the "
    "initial weights is not in their spread (such a band has 27% coverage and a 95% family "
    "error); no verdict is given"
)
OVERESTIMATED = "likely overestimated"


def all_warnings(
    table: pd.DataFrame,
    verdicts: dict[str, Verdict],
    done: pd.DataFrame,
    fitted: Estimate,
    ledger: Ledger,
    rule: tuple[float, float | None, str],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the warnings and the next steps; each arm's own go into the table's column too.

    Parameters
    ----------
    table
        The results table; its ``warnings`` column is filled in.
    done
        Complete runs.
    fitted, ledger
        What was estimated, and what became of the runs.
    rule
        Alpha, practical size (nats per token) and where that comes from.
    """
    alpha, rope, source = rule
    found = _obstacles(table, fitted) + _wild(done) + _variances(done, fitted)
    found += _alone(table, fitted) + run_warnings(table, done, fitted, ledger)
    found += _step_down(table, verdicts)
    found += _rope(rope, source, fitted)
    exaggerated = _overestimated(table, fitted, alpha)
    mark(table, OVERESTIMATED, exaggerated)
    likely = list(table.loc[exaggerated, "arm"])
    if likely:
        found.append(
            f"{OVERESTIMATED} ({named(likely)}): the power at the estimated difference is below "
            "one half, so a difference that stands out tends to be exaggerated"
        )
    return tuple(found), _next_steps(table, verdicts, done, fitted, (ledger, rope))


def _obstacles(table: pd.DataFrame, fitted: Estimate) -> list[str]:
    if fitted.obstacle == "loop-only band":
        return [LOOP_ONLY]
    fit = fitted.fit
    if fit is not None and fit.sd_total > 0 and fit.var_resid == 0:
        return [
            "every loss is its arm's plus its seed's, to the last digit: there is no residual "
            "noise to judge differences by, so nothing is decided; are some figures copies?"
        ]
    if fit is not None and fit.sd_total == 0:
        return [
            "all runs of an arm have identical losses (sd 0): either the seeds change nothing "
            "or the figures are copies; nothing is decided"
        ]
    fewest = table["df"].min()
    if fewest < FEWEST_DF - DF_ROUNDING:
        return [
            f"too few residual degrees of freedom ({fewest:.2g}): "
            f"verdicts need at least {FEWEST_DF:g}"
        ]
    return []


def _wild(done: pd.DataFrame) -> list[str]:
    """Return the arm whose runs lie much further apart than all others': a mistyped loss does that.

    The F test of its variance against the others' is only to keep out what two runs may do.
    """
    groups = [(str(arm), group.to_numpy(dtype=float)) for arm, group in done.groupby("arm")["loss"]]
    ss = np.array([((values - values.mean()) ** 2).sum() for _, values in groups])
    df = np.array([len(values) - 1 for _, values in groups])
    widest = int(np.argmax(ss / np.maximum(df, 1)))
    own, others = ss[widest], ss.sum() - ss[widest]
    df_own, df_others = int(df[widest]), int(df.sum() - df[widest])
    if not (df_own and df_others and others > 0):
        return []
    ratio = own / df_own / (others / df_others)
    if ratio < WILD_RATIO or special.fdtrc(df_own, df_others, ratio) > 0.001:
        return []
    return [
        f"the runs of {groups[widest][0]} lie far apart: sd {math.sqrt(own / df_own):.2g}, where "
        f"all others have {math.sqrt(others / df_others):.2g}. A mistyped loss, or a run that "
        "nearly diverged? It widens the intervals of every arm"
    ]


def _variances(done: pd.DataFrame, fitted: Estimate) -> list[str]:
    groups = {
        str(arm): g.to_numpy(dtype=float) for arm, g in done.groupby("arm")["loss"] if len(g) >= 3
    }
    spreads = {arm: float(np.var(values, ddof=1)) for arm, values in groups.items()}
    if len(groups) < 2 or min(spreads.values()) <= 0 or fitted.obstacle:
        return []
    ratio = max(spreads.values()) / min(spreads.values())
    if ratio <= LARGE_RATIO:
        return []
    F, p = brown_forsythe(list(groups.values()))
    if not p < 0.01:
        return []
    widest, narrowest = max(spreads, key=spreads.__getitem__), min(spreads, key=spreads.__getitem__)
    squeezed = fitted.fit is not None and fitted.fit.method == "squeezed"
    advice = "" if squeezed else "; compare with --variance squeezed"
    return [
        f"the arms' variances differ: sd {math.sqrt(spreads[widest]):.2g} in {widest}, "
        f"{math.sqrt(spreads[narrowest]):.2g} in {narrowest} (Brown-Forsythe F = {F:.2f}, "
        f"p = {p:.2g}){advice}"
    ]


def _alone(table: pd.DataFrame, fitted: Estimate) -> list[str]:
    """Point out a baseline that hardly any arm stays near: its own bad luck would look the same."""
    t = (table["delta"] / table["se"]).abs().dropna().sort_values()
    n_near = len(t) // 4
    if fitted.obstacle or not n_near or not FAR < t.iloc[n_near - 1] < TOO_FAR:
        return []
    base = fitted.arms[0]
    runs = int(table.loc[table["arm"] == base, "n"].iloc[0])
    return [
        f"{(t > FAR).sum()} of {len(t)} arms lie more than {FAR:g} standard errors from {base}. An "
        "unlucky or noisy baseline looks the same, and every difference rests on its "
        f"{runs} run(s): confirm with more baseline seeds"
    ]


def _step_down(table: pd.DataFrame, verdicts: dict[str, Verdict]) -> list[str]:
    """Explain differences that are real by a p whose interval is the more cautious one."""
    holds_zero = (table["ci_low"] < 0) & (table["ci_high"] > 0)
    real = table["arm"].map(lambda arm: verdicts[arm].kind.real)
    arms = list(table.loc[holds_zero & real, "arm"])
    if not arms:
        return []
    return [
        f"{named(arms)}: real by the step-down p, which asks less where other arms are clearer; "
        "the interval is the single-step one, which does not, and holds 0"
    ]


def _rope(rope: float | None, source: str, fitted: Estimate) -> list[str]:
    fit = fitted.fit
    if rope is None or fit is None or fitted.obstacle or source.startswith("1 x"):
        return []
    noise = math.sqrt(fit.var_resid)
    if rope < noise:
        pairing = ", its seed's share left out" if fit.var_init else ""
        return [
            f"the practical size {rope:.3g} is below one sd of a run ({noise:.2g}{pairing}): at "
            "8 seeds or fewer such a study nearly always ends undecided"
        ]
    return []


def _overestimated(table: pd.DataFrame, fitted: Estimate, alpha: float) -> pd.Series:
    """Mark arms that someone would read as real although the study could hardly have seen them."""
    from analysis.stats.power import power

    marks = []
    for row in table.to_dict("records"):
        if not (row["p_raw"] < alpha and row["df"] > 0):
            marks.append(False)
            continue
        t, half = abs(row["delta"]) / row["se"], (row["ci_high"] - row["ci_low"]) / 2
        marks.append(bool(power([t], row["df"], half / row["se"])[0] < 0.5))
    return pd.Series(marks, index=table.index)


def _next_steps(
    table: pd.DataFrame,
    verdicts: dict[str, Verdict],
    done: pd.DataFrame,
    fitted: Estimate,
    rest: tuple[Ledger, float | None],
) -> tuple[str, ...]:
    ledger, rope = rest
    steps = []
    todo = ledger.missing + ledger.unfinished
    if todo:
        steps.append(f"{len(todo)} planned run(s) are not complete: {named(todo)}")
    if fitted.obstacle or table["df"].min() < FEWEST_DF - DF_ROUNDING:
        n = 1 + math.ceil(FEWEST_DF / max(len(fitted.arms) - 1, 1))
        what = f"the baseline with at least {n} initialisation seeds, and each arm with the same"
        if fitted.n_shared[0] >= n:
            what = f"each arm with the baseline's seeds, at least {n} of them"
        if is_foreign(done):
            how = "then add their rows, with a column seed, to the table"
        elif ledger.planned:  # a plan is fixed before its runs
            how = f"as a new study, the same command with study_name=NAME study.seeds={n}"
        else:
            how = f"here, the command that trained these runs, with -m and 'seed=range({n})'"
        steps.append(f"run {what}: {how}")
        return tuple(steps)
    undecided = table["arm"].map(lambda arm: verdicts[arm].kind is Kind.UNDECIDED)
    waiting = table[undecided & (table["n"] > 0)]
    count, have = waiting["seeds_needed"].max(), waiting["n"].min()
    if rope and count > have:
        number = f"about {count:.0f} seeds per arm" if np.isfinite(count) else "too many seeds"
        steps.append(
            f"{len(waiting)} arm(s) undecided: {number} (now {have}) would find a difference of "
            f"{rope:.2g} with power 0.8"
        )
    return tuple(steps)
