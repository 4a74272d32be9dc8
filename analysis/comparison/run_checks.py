"""What a careful colleague would say about the runs themselves: which count, how they differ."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from analysis.comparison.estimate import Estimate
from analysis.runs.frame import SEEDS, is_foreign, named
from analysis.runs.ledger import Ledger
from analysis.runs.records import SHARED_ENOUGH

HIGHER = re.compile(
    r"(?<![a-z])(acc|accuracy|reward|return|score|bleu|rouge|f1|auc|auroc|exact_match|pass|win_?rate)"
    r"(?![a-z])"
)
"""In a metric's name: better when higher."""
LOWER = re.compile(r"loss|error|perplexity|brier")


def run_warnings(
    table: pd.DataFrame, done: pd.DataFrame, fitted: Estimate, ledger: Ledger
) -> list[str]:
    """Return the warnings; parameters as in `analysis.comparison.checks.all_warnings`."""
    found = _equal_losses(table, done, fitted) + _unpaired(done, fitted) + _budgets(done, fitted)
    found += _recipes(done, fitted) + _versions(done)
    return found + _ledger(ledger, done) + _survivors(table, fitted)


def repeats(runs: pd.DataFrame, done: pd.DataFrame) -> list[str]:
    """Say how many complete runs do not count, since they repeat another."""
    count = int((runs["status"] == "complete").sum()) - len(done)
    if not count:
        return []
    return [
        f"{count} rerun(s) repeat a run to the last digit, which says nothing new: it counts once"
    ]


def wrong_way(metric: str, *, higher_is_better: bool) -> list[str]:
    """Point out a metric that is better when higher by its name, and was not said to be."""
    if higher_is_better or not HIGHER.search(metric.lower()) or LOWER.search(metric.lower()):
        return []
    return [
        f"{metric} looks like a metric that is better when higher, and here lower counts as "
        "better: add --higher-is-better if so"
    ]


def mark(table: pd.DataFrame, text: str, where: pd.Series) -> None:
    """Add a warning of their own to some arms."""
    old = table.loc[where, "warnings"]
    table.loc[where, "warnings"] = [f"{before}; {text}" if before else text for before in old]


def _equal_losses(table: pd.DataFrame, done: pd.DataFrame, fitted: Estimate) -> list[str]:
    """Return the arms whose losses equal the baseline's at every shared seed."""
    seeds = [name for name in SEEDS if name in done]
    if not seeds or fitted.obstacle:
        return []
    base: dict[tuple[object, ...], float] = {}
    equal: dict[str, bool] = {}
    rows = [*zip(*(done[name] for name in ("arm", "loss", *seeds)), strict=True)]
    for arm, loss, *key in rows:
        if arm == fitted.arms[0] and None not in key:
            base[tuple(key)] = loss
    for arm, loss, *key in rows:
        if arm != fitted.arms[0] and tuple(key) in base:
            equal[arm] = equal.get(arm, True) and base[tuple(key)] == loss
    same = [arm for arm, all_equal in equal.items() if all_equal]
    if not same:
        return []
    mark(table, "same losses as the baseline", table["arm"].isin(same))
    return [
        f"{named(same)}: the same losses as the baseline at the same seeds, to the last digit; "
        "these runs change nothing and make the noise look smaller"
    ]


def _unpaired(done: pd.DataFrame, fitted: Estimate) -> list[str]:
    """Return the arms that draw other initial weights than the baseline of the same seed."""
    if "init_shared" not in done or fitted.obstacle:
        return []
    share = pd.to_numeric(done["init_shared"]).groupby(done["arm"]).max()
    own = [arm for arm in fitted.arms[1:] if share.get(arm, np.nan) < SHARED_ENOUGH]
    if not own:
        return []
    return [
        f"{named(own)}: other initial weights than the baseline's at the same seed, so these "
        "runs are not paired with it"
    ]


def _budgets(done: pd.DataFrame, fitted: Estimate) -> list[str]:
    """Return the arms that trained on another number of tokens than the baseline."""
    if "tokens" not in done:
        return []
    tokens = pd.to_numeric(done["tokens"]).groupby(done["arm"]).mean()
    base = tokens.get(fitted.arms[0], np.nan)
    other = [arm for arm in fitted.arms[1:] if abs(tokens.get(arm, np.nan) / base - 1) > 0.01]
    if not other:
        return []
    return [
        f"{named(other)}: trained on another number of tokens than {fitted.arms[0]}, so the "
        "difference is the budget's as well"
    ]


def _recipes(done: pd.DataFrame, fitted: Estimate) -> list[str]:
    """Return the arms that were applied to other settings than the baseline's."""
    if "recipe" not in done or is_foreign(done):
        return []
    base = set(done.loc[done["arm"] == fitted.arms[0], "recipe"].dropna())
    apart = done["recipe"].notna() & ~done["recipe"].isin(base) & ~done["changes"].map(_is_of_data)
    other = [arm for arm in fitted.arms[1:] if apart[done["arm"] == arm].any()]
    if not (other and base):
        return []
    return [
        f"{named(other)}: trained with other settings than {fitted.arms[0]}, the arm's own changes "
        "aside, so the difference is that of those settings as well: see the cells' config.yaml"
    ]


def _is_of_data(changes: object) -> bool:
    """Tell whether an arm changes its data, which its recipe then cannot leave out."""
    return isinstance(changes, dict) and any(key.startswith(("data.", "eval.")) for key in changes)


def _versions(done: pd.DataFrame) -> list[str]:
    """Return the arms whose seeds ran with different settings or own code."""
    mixed = mixed_arms(done)
    if not mixed:
        return []
    return [
        f"{named(mixed)}: the seeds ran with different settings or own code, so the mean is of a "
        "mixture and its verdict is of no arm; run the arm as it is now with all of these seeds"
    ]


def mixed_arms(done: pd.DataFrame) -> list[str]:
    """Return the arms whose runs are not of one version."""
    if "version" not in done or is_foreign(done):
        return []
    counts = done.groupby("arm")[["version", "code"]].nunique()  # older records know their code
    return [str(arm) for arm in counts.index[(counts > 1).any(axis=1)]]


def _ledger(ledger: Ledger, done: pd.DataFrame) -> list[str]:
    found, again = [], "" if is_foreign(done) else "; run the study again to retry them"
    if ledger.diverged:
        found.append(f"diverged: {named(ledger.diverged)}")
    if ledger.failed:
        found.append(f"failed: {named(ledger.failed)}{again}")
    if ledger.superseded:
        found.append(
            f"left out: {named(ledger.superseded)}. Edited since: {named(ledger.edits)}. The "
            "planned version counts, else the one asked for last: to count another, undo the edit "
            "and run its command again, which trains nothing. Editing after a look makes a study "
            "exploratory"
        )
    if ledger.unplanned:
        found.append(
            f"exploratory: {len(ledger.unplanned)} complete run(s) are not in the plan "
            f"({named(ledger.unplanned)}); adding seeds after a look raises the family error"
        )
    return found


def _survivors(table: pd.DataFrame, fitted: Estimate) -> list[str]:
    """Say whose figures are those of the runs that happened not to diverge."""
    partly = (table["n_diverged"] > 0) & (table["n"] > 0)
    if not partly.any():
        return []
    mark(table, "mean of the runs that did not diverge", partly)
    lost = [
        f"{row['arm']}: {row['n_diverged']:.0f} of {row['n_diverged'] + row['n']:.0f} runs diverged"
        for row in table[partly].to_dict("records")
    ]
    pairing = (
        ". Too few shared seeds are left for pairing: only more seeds of all arms bring it back"
        if "estimate the pairing" in fitted.why
        else ""
    )
    return [
        f"{named(lost)}. Mean, interval and verdict are of the survivors, the lucky ones: judge an "
        f"arm by how often it diverges as well{pairing}"
    ]
