"""What a careful colleague would say about the table, and what to run next."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import special

from analysis.check import Check, warning
from analysis.comparison.controls import control_checks
from analysis.comparison.estimate import Obstacle, block_labels
from analysis.comparison.run_checks import repeats, run_checks, wrong_way
from analysis.comparison.tuning import tuning_checks
from analysis.comparison.verdict import Judgement, Kind
from analysis.runs.frame import is_foreign, named
from analysis.stats.baseline_noise import baseline_noise
from analysis.stats.linear import ENOUGH_DF, FEWEST_DF
from analysis.stats.mixed import seed_index
from analysis.stats.planning.power import power

NOISIER = 0.05
"""Level of the one-sided F test of the baseline's noise against its arms'."""

ENOUGH_RUNS = 4
"""From so many runs on an arm's own noise has a say of its own."""

WILD_RATIO = 100.0
"""An arm's variance over all others', from which on its runs are pointed out."""

FAR, TOO_FAR = 2.0, 6.0
"""Standard errors from the baseline. If half of the arms do nothing, 1-3% of simulated studies have
hardly an arm within the first; a baseline of fourfold variance does not explain the second.
"""

LOOP_ONLY = (
    "loop-only band: all repeats of an arm share one initialisation seed, so their spread leaves "
    "out the noise of the initial weights (such a band has 27% coverage and a 95% family "
    "error); no verdict is given"
)
NO_RESIDUAL = (
    "every loss is exactly its arm's effect plus its seed's: no residual noise is left to "
    "judge differences by, so nothing is decided; some figures may be copies"
)
IDENTICAL = (
    "the runs of each arm have identical losses (sd 0): either the seed changes nothing or the "
    "figures are copies; nothing is decided"
)
OVERESTIMATED = "likely overestimated"
NOT_CONFIRMED = "not confirmed by its own noise"
OWN_UNKNOWN = "one run: its own noise is unknown"
ENDLESS = "no interval, since it would be wider than the losses themselves"
SAME_EVERYWHERE = "the same difference from the baseline at every seed"


def checks_of(judgement: Judgement, table: pd.DataFrame) -> list[Check]:
    """Return everything worth a warning; what is about single arms names them."""
    return [
        *([warning(judgement.looks)] if judgement.looks else []),
        *repeats(judgement),
        *wrong_way(judgement.rules),
        *_obstacles(judgement, table),
        *_wild(judgement.done),
        *_noisy_baseline(judgement),
        *_alone(judgement, table),
        *run_checks(judgement),
        *tuning_checks(judgement),
        *_step_down(judgement, table),
        *_own_noise(judgement, table),
        *_own_unknown(table),
        *_practical_size(judgement),
        *_overestimated(judgement, table),
        *control_checks(judgement, table),
    ]


def _obstacles(judgement: Judgement, table: pd.DataFrame) -> Iterator[Check]:
    fitted, fewest = judgement.estimate, table["df"].min()
    if fitted.obstacle is Obstacle.LOOP_ONLY:
        yield warning(LOOP_ONLY)
    elif fitted.fit is not None and fitted.noiseless:
        yield warning(IDENTICAL if fitted.fit.sd_total == 0 else NO_RESIDUAL)
    elif fewest < ENOUGH_DF:
        yield warning(
            f"too few residual degrees of freedom ({fewest:.2g}): "
            f"verdicts need at least {FEWEST_DF:g}"
        )


def _wild(done: pd.DataFrame) -> Iterator[Check]:
    """Name the arm whose runs lie much further apart than all others': a mistyped loss does that.

    The F test of its variance against the others' is only to keep out what two runs may do.
    """
    groups = [(str(arm), group.to_numpy(dtype=float)) for arm, group in done.groupby("arm")["loss"]]
    ss = np.array([((values - values.mean()) ** 2).sum() for _, values in groups])
    df = np.array([len(values) - 1 for _, values in groups])
    widest = int(np.argmax(ss / np.maximum(df, 1)))
    own, others = ss[widest], ss.sum() - ss[widest]
    df_own, df_others = int(df[widest]), int(df.sum() - df[widest])
    if not others > 0:
        return
    ratio = own / df_own / (others / df_others)
    if ratio >= WILD_RATIO and special.fdtrc(df_own, df_others, ratio) <= 0.001:
        yield warning(
            f"the runs of {groups[widest][0]} lie far apart: sd {math.sqrt(own / df_own):.2g}, "
            f"{math.sqrt(others / df_others):.2g} for the other arms. Is a loss mistyped, or did a "
            "run nearly diverge? It widens the intervals of every arm"
        )


def _noisy_baseline(judgement: Judgement) -> Iterator[Check]:
    """Point out a baseline that is noisier than its arms: its noise is in every difference."""
    done, arms = judgement.done, judgement.arms
    if judgement.estimate.judging is None:
        return
    index = done["arm"].map({arm: i for i, arm in enumerate(arms)}).to_numpy(dtype=np.intp)
    seeds = seed_index(block_labels(done, arms[0]))
    found = baseline_noise(done["loss"].to_numpy(dtype=float), index, seeds)
    if found is not None and found.p < NOISIER:
        yield warning(
            f"{arms[0]} is noisier than its arms (F = {found.F:.2f} at {found.df:.3g} and "
            f"{found.df_arms:.3g} df, p = {found.p:.2g}), and its noise enters every difference: "
            "give the baseline more seeds"
        )


def _own_noise(judgement: Judgement, table: pd.DataFrame) -> Iterator[Check]:
    """Point out differences that are real only by what the other arms say of the noise."""
    alone = (table["p_adj"] < judgement.alpha) & (table["p_own"] > judgement.alpha)
    if arms := tuple(table.loc[alone & (table["n"] >= ENOUGH_RUNS), "arm"]):
        yield warning(
            f"{named(arms)}: {NOT_CONFIRMED} (paired t or Welch's alone, column p_own): the "
            "verdict relies on the noise of the other arms",
            arms,
            NOT_CONFIRMED,
        )


def _own_unknown(table: pd.DataFrame) -> Iterator[Check]:
    """Point out arms that do not show their own noise among arms that do."""
    judged, shown = table["p_adj"].notna(), table["p_own"].notna()
    if not (judged & shown).any():
        return
    silent = table[judged & ~shown]
    one = silent["n"] == 1
    if arms := tuple(silent.loc[one, "arm"]):
        what = f"{named(arms)}: {OWN_UNKNOWN}; the verdict uses the noise of the other arms"
        yield warning(what, arms, OWN_UNKNOWN)
    moved = one | ~np.isclose(silent["delta"], 0, atol=1e-12)  # else a copy, said elsewhere
    if arms := tuple(silent.loc[~one & moved, "arm"]):
        yield warning(
            f"{named(arms)}: {SAME_EVERYWHERE}, perhaps because the figures are rounded: its own "
            "noise is unknown and its interval wide; give the figures with more digits",
            arms,
            SAME_EVERYWHERE,
        )
    if arms := tuple(silent.loc[moved & np.isinf(silent["ci_high"]), "arm"]):
        yield warning(
            f"{named(arms)}: {ENDLESS}: its own noise is unknown, and the other arms' noise "
            "differs so much that it could be of any size. One more run of each arm named here "
            "gives an interval",
            arms,
            ENDLESS,
        )


def _alone(judgement: Judgement, table: pd.DataFrame) -> Iterator[Check]:
    """Point out a baseline that hardly any arm stays near: its own bad luck would look the same."""
    t = (table["delta"] / table["se"]).abs().dropna().sort_values()
    base, n_near = judgement.rules.baseline, len(t) // 4
    if n_near and FAR < t.iloc[n_near - 1] < TOO_FAR:
        yield warning(
            f"{(t > FAR).sum()} of {len(t)} arms lie more than {FAR:g} standard errors from {base}."
            " An unlucky or noisy baseline would look the same, since every difference depends on "
            f"its {judgement.verdicts[base].n} run(s): confirm with more baseline seeds"
        )


def _step_down(judgement: Judgement, table: pd.DataFrame) -> Iterator[Check]:
    """Explain differences that are real by a p whose interval is the more cautious one."""
    holds_zero = table.loc[(table["ci_low"] < 0) & (table["ci_high"] > 0), "arm"]
    if arms := [arm for arm in holds_zero if judgement.verdicts[arm].kind.real]:
        yield warning(
            f"{named(arms)}: significant by the step-down p, which has more power where other arms "
            "clearly differ; the simultaneous interval, which has less, includes 0"
        )


def _practical_size(judgement: Judgement) -> Iterator[Check]:
    fit, size = judgement.estimate.fit, judgement.practical.declared
    if fit is None or judgement.estimate.obstacle or size is None:
        return
    noise = math.sqrt(fit.var_resid)
    if size < noise:
        pairing = ", without the seed's share" if fit.var_init else ""
        yield warning(
            f"the practical size {size:.3g} is below one sd of a run ({noise:.2g}"
            f"{pairing}): at 8 seeds or fewer such a study nearly always ends undecided"
        )


def _overestimated(judgement: Judgement, table: pd.DataFrame) -> Iterator[Check]:
    """Point out arms that someone would read as real although the study could hardly see them."""
    arms = []
    for row in table.to_dict("records"):
        if row["p_raw"] < judgement.alpha:
            t, half = abs(row["delta"]) / row["se"], (row["ci_high"] - row["ci_low"]) / 2
            if power([t], row["df"], half / row["se"])[0] < 0.5:
                arms.append(row["arm"])
    if arms:
        yield warning(
            f"{OVERESTIMATED} ({named(arms)}): the power at the estimated difference is below "
            "one half, and differences found with so little power tend to be exaggerated",
            tuple(arms),
            OVERESTIMATED,
        )


def next_steps(judgement: Judgement, table: pd.DataFrame) -> tuple[str, ...]:
    """Return what to run next."""
    ledger = judgement.ledger
    todo = ledger.missing + ledger.unfinished
    steps = [f"{len(todo)} planned run(s) are not complete: {named(todo)}"] if todo else []
    if judgement.estimate.noiseless and not judgement.estimate.obstacle:
        return tuple(steps)  # as many more runs of this kind would show no noise either
    if judgement.estimate.obstacle or table["df"].min() < ENOUGH_DF:
        return (*steps, _more_seeds(judgement))
    undecided = [arm for arm, v in judgement.verdicts.items() if v.kind is Kind.UNDECIDED and v.n]
    waiting, size = table[table["arm"].isin(undecided)], judgement.practical.size
    wanted, have = waiting["seeds_needed"].max(), waiting["n"].min()
    now = str(have) if have == (most := waiting["n"].max()) else f"{have} to {most}"
    if size and wanted <= have:
        steps.append(_enough_seeds(judgement, len(waiting), size))
    elif size and wanted > have:
        number = f"about {wanted:.0f} seeds per arm" if np.isfinite(wanted) else "too many seeds"
        steps.append(
            f"{len(waiting)} arm(s) undecided: {number} (now {now}) would detect a difference of "
            f"{size:.2g} with power 0.8"
        )
    return tuple(steps)


def _enough_seeds(judgement: Judgement, n_waiting: int, size: float) -> str:
    """Say what decides arms whose seeds would have found the practical size."""
    found = f"{n_waiting} arm(s) undecided, with seeds enough to detect {size:.2g} (power 0.8)"
    if judgement.practical.declared:
        return f"{found}: more seeds narrow the interval until it lies within or beyond that size"
    return (
        f"{found}: only a practical size declared before the runs (study.practical_size; for a "
        "table --practical-size) can call a small difference no practical difference"
    )


def _more_seeds(judgement: Judgement) -> str:
    """Return which seeds would leave enough degrees of freedom, and how to run them."""
    fitted = judgement.estimate
    n = 1 + math.ceil(FEWEST_DF / max(len(fitted.arms) - 1, 1))
    what = f"the baseline with at least {n} initialisation seeds, and each arm with the same"
    if fitted.n_shared[0] >= n:
        what = f"each arm with the baseline's seeds, at least {n} of them"
    if is_foreign(judgement.done):
        how = "then add their rows, with a column seed, to the table"
    elif judgement.ledger.planned:  # a plan is fixed before its runs
        how = f"repeat the command as a new study, with study_name=NAME study.seeds={n}"
    else:
        how = f"repeat the command that trained these runs, with -m and 'seed=range({n})'"
    return f"run {what}: {how}"
