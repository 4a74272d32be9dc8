"""Looking at a study while it runs, without fooling oneself.

The largest number of seeds and the looks are fixed before the first run. Each look may spend a
part of alpha, the increment of an O'Brien-Fleming-type spending function (Lan and DeMets 1983,
Biometrika 70:659); the parts are summed by the union bound, so the family error holds under any
dependence between looks. An arm stops when it is decided; its runs stay in the pooled fit, and the
number of arms in Dunnett's adjustment stays what it was.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace

import pandas as pd

from analysis.comparison.estimate import Estimate, estimate
from analysis.comparison.rules import Origin, Practical, Rules
from analysis.comparison.verdict import (
    Judgement,
    Kind,
    Looks,
    Verdict,
    judge,
    verdicts,
    with_counts,
    with_survivors,
)
from analysis.errors import AnalysisError
from analysis.runs.frame import complete, named
from analysis.stats.linear import FEWEST_DF
from analysis.stats.planning.spending import conditional_power, spending
from analysis.table import Table, columns, count, document, figure, p_item, words
from harness.records import BASELINE, StudyPlan

FUTILE_BELOW = 0.1
"""Conditional power under which an arm may be given up; non-binding."""
WAIT, CONTINUE, STOP = "wait", "continue", "stop"
COLUMNS = [
    "arm",
    "n",
    "look",
    "alpha",
    "p_adj",
    "delta",
    "decision",
    "verdict",
    "conditional_power",
    "futile",
    "note",
]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do next with every arm.

    ``table`` has one row an arm: arm, n, look (at which it was last judged; 0: none yet), alpha
    (what that look may spend), p_adj, delta (nats per token), decision (``continue``: run its next
    seeds; ``stop``; ``wait``: for runs of this look), verdict, conditional_power, futile, note.
    """

    table: pd.DataFrame
    looks: tuple[int, ...]
    alphas: tuple[float, ...]
    look: int
    """Looks whose runs are all there."""
    next_n: int | None
    """Seeds per arm that the next look needs; None: the study is over."""
    verdicts: dict[str, Verdict]
    """By arm, as of the look at which it was last judged."""
    stopped_early: tuple[str, ...]
    """Arms decided before the last look: their estimates are biased outward."""

    @property
    def running(self) -> tuple[str, ...]:
        """Arms that need more runs; the baseline needs them as long as there is one."""
        return tuple(self.table.loc[self.table["decision"] != STOP, "arm"])

    def tables(self) -> list[Table]:
        """Return the state of every arm."""
        rows = [
            [
                words(row["arm"]),
                count(row["n"]),
                count(row["look"]),
                figure(row["delta"], 4, sign=True),
                p_item(row["p_adj"]),
                figure(row["alpha"], 5),
                words(row["decision"]),
                words(row["verdict"]),
                figure(row["conditional_power"], 2),
                words(row["note"]),
            ]
            for row in self.table.to_dict("records")
        ]
        labels = ("arm", "n", "look", "delta", "p adj", "alpha", "decision", "verdict")
        text = ("arm", "decision", "verdict", "note")
        heads = columns(*labels, "cond. power", "note", text=text)
        spent = ", ".join(
            f"{n} seeds: {a:.3g}" for n, a in zip(self.looks, self.alphas, strict=True)
        )
        after = "the study is over" if self.next_n is None else f"next look at {self.next_n} seeds"
        notes = (
            f"Alpha of each look: {spent}.",
            f"{self.look} of {len(self.looks)} looks done; {after}.",
        )
        return [Table("looks", "Sequential study", heads, rows, notes)]

    def to_markdown(self) -> str:
        """Return the state of the study for a person."""
        return document("Sequential study", *self.tables())


def at_looks(judgement: Judgement) -> Judgement:
    """Return the judgement with the verdicts of the looks, where its study has looks."""
    plans = judgement.source.plans
    planned = [plan for plan in plans.values() if plan.looks]
    if not planned:
        return judgement
    if len(plans) > 1:
        note = "several studies, one with looks: early looks are not accounted for"
        return replace(judgement, looks=Looks(note))
    declared = judgement.practical.size if judgement.practical.declared else None
    plan = replace(planned[0], rope=declared)
    decision = decide_prepared(judgement.runs, plan, judgement.rules, judgement.estimate)
    early = decision.stopped_early
    note = (
        f"sequential study with looks at {', '.join(map(str, plan.looks))} seeds, {decision.look} "
        "done: verdicts spend each look's own alpha; p and intervals in the table do not "
        "(python -m analysis sequential)"
        + (f"; stopped early, biased outward: {named(early)}" if early else "")
    )
    found = {
        arm: replace(decision.verdicts.get(arm, v), n=v.n, n_diverged=v.n_diverged)
        if arm in judgement.arms[1:]
        else v
        for arm, v in judgement.verdicts.items()
    }
    found = with_survivors(found, judgement.done, judgement.rules, judgement.alpha)
    return replace(judgement, verdicts=found, looks=Looks(note, early))


def decide_prepared(
    runs: pd.DataFrame, plan: StudyPlan, rules: Rules, whole: Estimate | None = None
) -> Decision:
    """Decide from prepared runs; `whole` is the estimate of all complete ones, if it is known."""
    # A run that failed, waits or was superseded takes no place: another has its seed, or will.
    done = complete(runs)
    ranked = _ranked(pd.concat([done, runs[runs["status"] == "diverged"]]), plan)
    arms = _arms(runs, plan, rules.baseline)
    study = _Study(plan, rules, {arm: _State() for arm in arms}, len(done), whole)
    look = 0
    for k, (n, alpha) in enumerate(zip(plan.looks, study.alphas, strict=True)):
        if not _due(ranked, study, n):
            break
        look = k + 1
        _judge_look(ranked, study, _Look(look, n, alpha))
    return _decision(ranked, study, look)


@dataclass(slots=True)
class _State:
    """An arm as of the look at which it was last judged."""

    look: int = 0
    n: int = 0
    place: int = 0
    """Seeds per arm of that look."""
    alpha: float = math.nan
    p_adj: float = math.nan
    delta: float = math.nan
    verdict: Verdict = field(default_factory=lambda: Verdict(Kind.UNDECIDED))
    conditional: float = math.nan
    df: float = math.nan

    @property
    def stopped(self) -> bool:
        return self.verdict.kind.real


@dataclass(frozen=True, slots=True)
class _Study:
    plan: StudyPlan
    rules: Rules
    states: dict[str, _State]
    n_done: int
    whole: Estimate | None

    @property
    def alphas(self) -> tuple[float, ...]:
        return spending(self.plan.looks, self.plan.alpha)


@dataclass(frozen=True, slots=True)
class _Look:
    number: int
    n: int
    """Seeds per arm."""
    alpha: float
    """What this look may spend."""


def _due(ranked: pd.DataFrame, study: _Study, n: int) -> bool:
    """Tell whether a look at `n` seeds has all its runs, and an arm that is still open."""
    active = [arm for arm, state in study.states.items() if not state.stopped]
    have = Counter(ranked.loc[ranked["rank"] < n, "arm"])
    lacking = [arm for arm in (*active, study.rules.baseline) if have[arm] < n]
    return bool(active) and not lacking


def _judge_look(ranked: pd.DataFrame, study: _Study, look: _Look) -> None:
    at_look = _at_look(ranked, study.states, look.n)
    subset = complete(at_look)
    if (subset["arm"] == study.rules.baseline).sum() < 2:
        return
    fitted = study.whole if study.whole is not None and len(subset) == study.n_done else None
    if fitted is None:
        fitted = estimate(subset, study.rules.baseline, study.rules.variance)
    if fitted.model is None or fitted.obstacle or len(fitted.arms) == 1:
        return
    fit, plan = fitted.model.fit, study.plan
    practical = Practical(plan.rope or fit.sd_total, Origin.PLAN if plan.rope else Origin.RUN_SD)
    judged = judge(fitted.model, look.alpha, practical)
    # Arms without a single run yet still count: with more arms, p values only grow.
    scale = len(study.states) / max(len(fitted.arms) - 1, 1)
    higher = study.rules.higher_is_better
    said = verdicts(judged, look.alpha / scale, practical, higher_is_better=higher)
    by_arm = dict(zip(fitted.arms, [Verdict(Kind.BASELINE), *said], strict=True))
    counted = with_counts(by_arm, at_look, subset)
    found = with_survivors(counted, subset, study.rules, look.alpha)
    for i, arm in enumerate(fitted.arms[1:]):
        if study.states[arm].stopped:
            continue
        n, delta, se = int(fit.n[i + 1]), float(judged.delta[i]), float(judged.se[i])
        state = study.states[arm] = _State(
            look=look.number,
            n=n,
            place=look.n,
            alpha=look.alpha,
            p_adj=float(judged.p_adj[i]),
            delta=delta,
            verdict=found[arm],
            df=float(judged.df[i]),
        )
        if se > 0 and state.df > 0:
            n_arms, rope = len(study.states), practical.size or 0.0
            state.conditional = conditional_power(delta / se, rope / se, n, plan, n_arms)


def _ranked(runs: pd.DataFrame, plan: StudyPlan) -> pd.DataFrame:
    """Add ``rank``: the place of a run among its arm's, by the plan and then by its seed."""
    order = {str(cell.get("cell")): i for i, cell in enumerate(plan.cells)}
    cells = runs["cell"].astype(str) if "cell" in runs else pd.Series([""] * len(runs))
    planned = [order.get(cell, len(order)) for cell in cells]
    seeds = runs["init_seed"] if "init_seed" in runs else pd.Series(range(len(runs)))
    keyed = runs.assign(_planned=planned, _seed=[_number(seed) for seed in seeds])
    keyed = keyed.sort_values(["_planned", "_seed", "run_id"], kind="stable")
    keyed["rank"] = keyed.groupby("arm").cumcount()
    return keyed.drop(columns=["_planned", "_seed"]).reset_index(drop=True)


def _number(seed: object) -> float:
    try:
        return float(str(seed))
    except ValueError:
        return math.inf


def _arms(runs: pd.DataFrame, plan: StudyPlan, baseline: str) -> list[str]:
    arms = {cell["arm"] for cell in plan.cells} | set(runs["arm"])
    if baseline not in {*arms, BASELINE}:  # which may be run later
        raise AnalysisError(
            f"no run of the baseline {baseline!r}, and none planned (arms: "
            f"{', '.join(map(repr, sorted(arms)))}): name another"
        )
    return sorted(arms - {baseline})


def _at_look(runs: pd.DataFrame, states: dict[str, _State], n: int) -> pd.DataFrame:
    """Return the runs of a look: a stopped arm keeps those of the look at which it stopped."""
    limits = {arm: state.place if state.stopped else n for arm, state in states.items()}
    return runs[runs["rank"] < runs["arm"].map(limits).fillna(n)]


def _decision(runs: pd.DataFrame, study: _Study, look: int) -> Decision:
    plan, states = study.plan, study.states
    over = look == len(plan.looks)
    next_n = None if over or all(s.stopped for s in states.values()) else plan.looks[look]
    kept = runs[(runs["status"] == "complete") & (runs["rank"] < plan.looks[-1])]
    have = Counter(kept["arm"])
    rows = [_arm_row(arm, state, have[arm], next_n) for arm, state in states.items()]
    stopped = tuple(arm for arm, s in states.items() if s.stopped and next_n is not None)
    return Decision(
        table=pd.DataFrame(rows, columns=COLUMNS),
        looks=tuple(plan.looks),
        alphas=study.alphas,
        look=look,
        next_n=next_n,
        verdicts={arm: state.verdict for arm, state in states.items()},
        stopped_early=stopped,
    )


def _arm_row(arm: str, state: _State, have: int, next_n: int | None) -> dict[str, object]:
    futile = bool(state.conditional < FUTILE_BELOW) and not state.stopped
    decision = STOP if state.stopped or next_n is None else CONTINUE
    if decision == CONTINUE and have >= (next_n or 0):
        decision = WAIT
    notes = []
    if state.stopped and next_n is not None:
        notes.append("stopped early, biased outward")
    if state.p_adj < state.alpha and state.df < FEWEST_DF and not state.stopped:
        notes.append(f"p is below alpha, but a verdict needs {FEWEST_DF:g} df: {state.df:.2g}")
    if futile and decision != STOP:
        notes.append("futile: may be given up")
    return {
        "arm": arm,
        "n": have,
        "look": state.look,
        "alpha": state.alpha,
        "p_adj": state.p_adj,
        "delta": state.delta,
        "decision": decision,
        "verdict": str(state.verdict),
        "conditional_power": state.conditional,
        "futile": futile,
        "note": "; ".join(notes),
    }
