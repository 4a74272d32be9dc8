"""What a careful colleague would say about the runs themselves: which count, how they differ."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pandas as pd

from analysis.check import Check, Level, warning
from analysis.comparison.estimate import hardly_paired
from analysis.comparison.rules import Rules
from analysis.comparison.verdict import Judgement
from analysis.runs.frame import (
    SEEDS,
    SEEDS_IN_ARMS,
    SHARED_ENOUGH,
    arms_with_seeds,
    is_foreign,
    named,
    possible_copies,
    times_exported,
)
from analysis.runs.prepare import differences, differing, known_seeds

HIGHER = re.compile(
    r"(?<![a-z])(acc|accuracy|reward|return|score|bleu|rouge|chrf|f1|auc|auroc|exact_match|em|pass|"
    r"win_?rate|elo|map|top_?[15]|mfu|throughput|tokens_per_s(ec(ond)?)?|mmlu|hellaswag|arc|piqa|"
    r"boolq|winogrande|lambada|gsm8k|humaneval|mbpp|truthfulqa|blimp)(?![a-z])"
)
"""In a metric's name: better when higher."""
LOWER = re.compile(r"loss|error|perplexity|brier")


def run_checks(judgement: Judgement) -> list[Check]:
    """Return what is to be said of the runs behind the table."""
    parts = (
        unlike_repeats,
        namesakes,
        seeds_in_names,
        _equal_losses,
        _equal_weights,
        _unpaired,
        _budgets,
        _recipes,
        _versions,
        _ledger,
        _survivors,
    )
    return [check for part in parts for check in part(judgement)]


def repeats(judgement: Judgement) -> Iterator[Check]:
    """Say how many complete runs do not count, since they repeat another, and which may."""
    all_done = judgement.runs[judgement.runs["status"] == "complete"]
    if (times := times_exported(all_done)) > 1:
        yield warning(
            f"the table lists every run {times} times with equal figures: each counts once. "
            "If they are different runs, add a column seed that tells them apart"
        )
        return
    equal = possible_copies(judgement.done)
    if len(equal):
        yield warning(
            f"{named(equal['run_id'])}: equal figures in one arm, and no seed tells the runs "
            "apart. Copies of a run make the noise look smaller than it is: keep one line per run, "
            "or add a column seed",
            tuple(str(arm) for arm in equal["arm"].unique()),
            "runs of equal figures",
        )
    count = len(all_done) - len(judgement.done)
    if count:
        yield warning(
            f"{count} rerun(s) repeat a run to the last digit, which adds no information: the run "
            "counts once"
        )


def unlike_repeats(judgement: Judgement) -> Iterator[Check]:
    """Name the settings in which runs differ that count as repeats of one arm."""
    seedless = not known_seeds(judgement.source.frame)
    apart = differing(judgement.source) if seedless or judgement.rules.allow_reruns else {}
    if not apart:
        return
    what, way_on = "repeats of one arm and seed", ""
    if seedless:
        what, way_on = "runs of one arm", "; a column that counts repeats: --column seed=NAME"
    yield warning(
        f"{what} differ in {differences(apart)}, and are averaged as if they did not: make that "
        f"part of the arm with --column arm=NAME,SETTING, or select with --where{way_on}"
    )


def namesakes(judgement: Judgement) -> Iterator[Check]:
    """Point out arms whose names differ in their capitals alone."""
    arms = [str(arm) for arm in judgement.source.frame["arm"].unique()]
    alike = Counter(arm.casefold() for arm in arms)
    found = [arm for arm in arms if alike[arm.casefold()] > 1]
    if found:
        yield warning(
            f"{named(map(repr, found))} differ only in upper and lower case, and count as "
            "different arms: give them one name if they are the same",
            tuple(found),
        )


def seeds_in_names(judgement: Judgement) -> Iterator[Check]:
    """Point out arms of one run whose names differ in the seed at their end."""
    if found := arms_with_seeds(judgement.source.frame):
        yield warning(f"{named(found)} {SEEDS_IN_ARMS}", tuple(found))


def wrong_way(rules: Rules) -> Iterator[Check]:
    """Point out a metric that is better when higher by its name, and was not said to be."""
    name = rules.metric.lower()
    if not rules.higher_is_better and HIGHER.search(name) and not LOWER.search(name):
        yield warning(
            f"{rules.metric} looks like a metric of which more is better, but here lower counts as "
            "better: add --higher-is-better if so"
        )
    if rules.higher_is_better and LOWER.search(name) and not HIGHER.search(name):
        yield warning(
            f"{rules.metric} looks like a loss, but here higher counts as better: compare "
            "it in a command of its own, without --higher-is-better"
        )


def _equal_losses(judgement: Judgement) -> Iterator[Check]:
    """Point out arms whose losses equal the baseline's at every shared seed."""
    done, baseline = judgement.done, judgement.rules.baseline
    seeds = [name for name in SEEDS if name in done]
    if not seeds or judgement.estimate.obstacle:
        return
    known = done.dropna(subset=seeds)
    base = known[known["arm"] == baseline].drop_duplicates(seeds)
    pairs = known[known["arm"] != baseline].merge(base, on=seeds, suffixes=("", "_base"))
    equal = (pairs["loss"] == pairs["loss_base"]).groupby(pairs["arm"]).all()
    same = tuple(str(arm) for arm in equal.index[equal])
    if same:
        yield warning(
            f"{named(same)}: the same losses as the baseline at the same seeds, to the last digit; "
            "the arm has no effect, and its runs make the noise look smaller than it is",
            same,
            "same losses as the baseline",
        )


def _equal_weights(judgement: Judgement) -> Iterator[Check]:
    """Point out two arms that ended with the same weights: one has no effect beside the other."""
    keys = [name for name in (*SEEDS, "final_weights") if name in judgement.done]
    if "final_weights" not in keys:
        return
    arms = judgement.done[judgement.done["arm"] != judgement.rules.baseline]
    known = arms.dropna(subset=keys).drop_duplicates(["arm", *keys])
    groups = known[known.duplicated(keys, keep=False)].groupby(keys)["arm"]
    for same in dict.fromkeys(tuple(sorted(group)) for _, group in groups):
        yield warning(
            f"{' and '.join(same)} ended with the same weights at the same seeds: what one adds "
            "to the other has no effect; two interventions may undo each other",
            same,
            "same weights as another arm",
        )


def _unpaired(judgement: Judgement) -> Iterator[Check]:
    """Point out arms that are not paired with the baseline, though they have seeds of its."""
    done = judgement.done
    if judgement.estimate.obstacle:
        return
    if few := hardly_paired(done, judgement.rules.baseline):
        yield warning(
            f"{named(few)}: fewer than half of the initialisation seeds are the baseline's, so "
            "these runs are not paired with it: use the same seeds"
        )
    if "init_shared" not in done:
        return
    share = pd.to_numeric(done["init_shared"]).groupby(done["arm"]).max()
    own = [arm for arm in judgement.arms[1:] if share[arm] < SHARED_ENOUGH]
    if own:
        yield warning(
            f"{named(own)}: the initial weights differ from the baseline's at the same seed, so "
            "these runs are not paired with it"
        )


def _budgets(judgement: Judgement) -> Iterator[Check]:
    """Point out arms that trained on another number of tokens (or steps) than the baseline."""
    done, baseline = judgement.done, judgement.rules.baseline
    counted = next((what for what in ("tokens", "step") if what in done), None)
    if counted is None:
        return
    spent = pd.to_numeric(done[counted]).groupby(done["arm"]).mean()
    apart = (spent / spent[baseline] - 1).abs()
    other = tuple(arm for arm in judgement.arms[1:] if apart[arm] > 0.01)
    if other:
        what = f"a different number of {counted.removesuffix('s')}s"
        equal = set(done["equal_budget"]) if "equal_budget" in done else {None}
        if len(equal) == 1 and isinstance(spent_alike := equal.pop(), str):
            text = f"for as many {spent_alike} as {baseline}, which is the study's budget"
            level = Level.OK
        else:
            text, level = "so the budget is part of the difference", Level.WARNING
        yield Check(
            level, f"{named(other)}: trained on {what} than {baseline}, {text}", "", other, what
        )


def _recipes(judgement: Judgement) -> Iterator[Check]:
    """Point out arms that were applied to other settings than the baseline's."""
    done, baseline = judgement.done, judgement.rules.baseline
    if "recipe" not in done or is_foreign(done):
        return
    base = set(done.loc[done["arm"] == baseline, "recipe"].dropna())
    apart = done["recipe"].notna() & ~done["recipe"].isin(base) & ~done["changes"].map(_is_of_data)
    unlike = set(done.loc[apart, "arm"])
    other = [arm for arm in judgement.arms[1:] if arm in unlike]
    if other and base:
        yield warning(
            f"{named(other)}: trained with other settings than {baseline}, beyond the arm's own "
            "changes, so those settings are part of the difference: see the cells' config.yaml"
        )


def _is_of_data(changes: object) -> bool:
    """Tell whether an arm changes its data, which its recipe then cannot leave out."""
    return isinstance(changes, dict) and any(key.startswith(("data.", "eval.")) for key in changes)


def _versions(judgement: Judgement) -> Iterator[Check]:
    """Point out arms whose seeds ran with different settings or own code."""
    if mixed := mixed_arms(judgement.done):
        yield warning(
            f"{named(mixed)}: the seeds ran with different settings or own code, so mean and "
            "verdict are those of a mixture; run the arm in one version with all of these "
            "seeds"
        )


def mixed_arms(done: pd.DataFrame) -> list[str]:
    """Return the arms whose runs are not of one version."""
    if "version" not in done or is_foreign(done):
        return []
    counts = done.groupby("arm")[["version", "code"]].nunique()  # older records know their code
    return [str(arm) for arm in counts.index[(counts > 1).any(axis=1)]]


def _ledger(judgement: Judgement) -> Iterator[Check]:
    ledger = judgement.ledger
    again = "" if is_foreign(judgement.done) else "; run the study again to retry them"
    if ledger.unreadable:
        yield warning(f"unreadable, and not counted: {named(ledger.unreadable)}")
    apart = {name: far for name, far in judgement.source.shared.items() if far > 0}
    if apart:
        yield warning(
            f"the studies share cells whose losses differ by up to {max(apart.values()):.2g} "
            f"({named(apart)}): trained on other machines or with other packages; the first "
            "counts"
        )
    if ledger.not_named:
        yield warning(
            f"{len(ledger.not_named)} planned run(s) lie outside of the folders named "
            f"({named(ledger.not_named)}): the family error is that of the arms shown here alone; "
            "name the study's folder for all of them"
        )
    if ledger.diverged:
        yield warning(f"diverged: {named(ledger.diverged)}")
    if ledger.failed:
        yield warning(f"failed: {named(ledger.failed)}{again}")
    if ledger.other_tests:
        yield warning(
            f"left out: {named(ledger.other_tests)}: measured on another test set than the "
            "baseline's, so the losses cannot be compared; compare it in a study of its own "
            "whose baseline has these settings"
        )
    if ledger.superseded:
        yield warning(
            f"left out: {named(ledger.superseded)}. Edited since: {named(ledger.edits)}. The "
            "planned version counts, else the last one requested: to count another, undo the edit "
            "and run its command again, which trains nothing. Editing after a look makes a study "
            "exploratory"
        )
    if ledger.unplanned:
        yield warning(
            f"exploratory: {len(ledger.unplanned)} complete run(s) are not in the plan "
            f"({named(ledger.unplanned)}); adding seeds after a look raises the family error"
        )


def _survivors(judgement: Judgement) -> Iterator[Check]:
    """Say whose figures are those of the runs that happened not to diverge."""
    partly = {arm: v for arm, v in judgement.verdicts.items() if v.n and v.n_diverged}
    if not partly:
        return
    lost = [
        f"{arm}: {v.n_diverged} of {v.n_diverged + v.n} runs diverged" for arm, v in partly.items()
    ]
    pairing = (
        ". Too few shared seeds are left for pairing: only more seeds of all arms restore it"
        if judgement.estimate.pairing_lost
        else ""
    )
    yield warning(
        f"{named(lost)}. Mean, interval and verdict describe only the runs that survived: judge "
        f"the arm by how often it diverges, too{pairing}",
        tuple(partly),
        "mean of the runs that did not diverge",
    )
