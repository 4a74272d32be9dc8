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
from analysis.comparison.verdict import Judgement, Kind, Verdict, judge, verdicts, with_lost
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
    *("arm", "n", "look", "alpha", "p_adj", "delta", "decision", "verdict"),
    *("conditional_power", "futile", "note"),
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
        return replace(judgement, looks=note)
    plan = replace(planned[0], rope=judgement.practical.declared)
    decision = decide_prepared(judgement.runs, plan, judgement.rules, judgement.estimate)
    early = decision.stopped_early
    note = (
        f"sequential study with looks at {', '.join(map(str, plan.looks))} seeds, {decision.look} "
        "done: verdicts spend each look's own alpha; p and intervals in the table do not "
        "(python -m analysis sequential)"
        + (f"; stopped early, biased outward: {named(early)}" if early else "")
    )
    found = {arm: decision.verdicts[arm] for arm in judgement.arms[1:]}
    found = with_lost(found, judgement.runs, judgement.done, judgement.rules, judgement.alpha)
    return replace(judgement, verdicts=judgement.verdicts | found, looks=note)


def decide_prepared(
    runs: pd.DataFrame, plan: StudyPlan, rules: Rules, whole: Estimate | None = None
) -> Decision:
    """Decide from prepared runs; `whole` is the estimate of all complete ones, if it is known."""
    # A run that failed, waits or was superseded takes no place: another has its seed, or will.
    ranked = _ranked(pd.concat([complete(runs), runs[runs["status"] == "diverged"]]), plan)
    states = {arm: _State() for arm in _arms(runs, plan, rules.baseline)}
    study = _Study(plan, rules, ranked, states, whole)
    look = 0
    while look < len(plan.looks) and _due(study, plan.looks[look]):
        look += 1
        _judge_look(study, look)
    return _decision(study, look)


@dataclass(slots=True)
class _State:
    """An arm as of the look at which it was last judged."""

    look: int = 0
    p_adj: float = math.nan
    delta: float = math.nan
    verdict: Verdict = field(default_factory=lambda: Verdict(Kind.UNDECIDED))
    conditional_power: float = math.nan
    df: float = math.nan

    @property
    def stopped(self) -> bool:
        return self.verdict.kind.real


@dataclass(frozen=True, slots=True)
class _Study:
    plan: StudyPlan
    rules: Rules
    ranked: pd.DataFrame
    """Complete and diverged runs, with the ``rank`` of each among its arm's."""
    states: dict[str, _State]
    whole: Estimate | None
    """Of all complete runs, if it is known."""

    @property
    def alphas(self) -> tuple[float, ...]:
        return spending(self.plan.looks, self.plan.alpha)

    def at(self, look: int) -> pd.DataFrame:
        """Return the runs of a look: a stopped arm keeps those of the look at which it stopped."""
        places = self.plan.looks
        limits = {a: places[(s.look if s.stopped else look) - 1] for a, s in self.states.items()}
        places_by_arm = self.ranked["arm"].map(limits).fillna(places[look - 1])
        return self.ranked[self.ranked["rank"] < places_by_arm]


def _due(study: _Study, n: int) -> bool:
    """Tell whether a look at `n` seeds has all its runs, and an arm that is still open."""
    active = [arm for arm, state in study.states.items() if not state.stopped]
    have = Counter(study.ranked.loc[study.ranked["rank"] < n, "arm"])
    return bool(active) and all(have[arm] >= n for arm in (*active, study.rules.baseline))


def _judge_look(study: _Study, look: int) -> None:
    """Judge the arms that are still open by the runs of a look."""
    plan, rules, alpha = study.plan, study.rules, study.alphas[look - 1]
    runs = study.at(look)
    done = complete(runs)
    if (done["arm"] == rules.baseline).sum() < 2:
        return
    fitted = study.whole
    if fitted is None or fitted.fit is None or fitted.fit.n.sum() != len(done):
        fitted = estimate(done, rules.baseline, rules.variance)
    model, arms = fitted.judging, fitted.arms[1:]
    if model is None:
        return
    rope = plan.rope or model.fit.sd_total
    practical = Practical(rope, Origin.PLAN if plan.rope else Origin.RUN_SD)
    judged = judge(model, alpha, practical)
    # Arms without a single run yet still count: with more arms, p values only grow.
    scale = len(study.states) / len(arms)
    said = verdicts(judged, alpha / scale, practical, higher_is_better=rules.higher_is_better)
    found = with_lost(dict(zip(arms, said, strict=True)), runs, done, rules, alpha)
    for i, arm in enumerate(arms):
        if study.states[arm].stopped:
            continue
        delta, se, df = float(judged.delta[i]), float(judged.se[i]), float(judged.df[i])
        state = _State(look, float(judged.p_adj[i]), delta, found[arm], df=df)
        if se > 0 and df > 0:
            n = int(model.fit.n[i + 1])
            state.conditional_power = conditional_power(
                delta / se, rope / se, n, plan, len(study.states)
            )
        study.states[arm] = state


def _ranked(runs: pd.DataFrame, plan: StudyPlan) -> pd.DataFrame:
    """Add ``rank``: the place of a run among its arm's, by the plan and then by its seed."""
    order = {cell["cell"]: i for i, cell in enumerate(plan.cells)}
    cells, seeds = runs.get("cell"), runs.get("init_seed")
    keyed = runs.assign(
        _planned=0 if cells is None else cells.astype(str).map(order),
        _seed=range(len(runs)) if seeds is None else pd.to_numeric(seeds, errors="coerce"),
    )
    keyed = keyed.sort_values(["_planned", "_seed", "run_id"], kind="stable")
    keyed["rank"] = keyed.groupby("arm").cumcount()
    return keyed.drop(columns=["_planned", "_seed"]).reset_index(drop=True)


def _arms(runs: pd.DataFrame, plan: StudyPlan, baseline: str) -> list[str]:
    arms = {cell["arm"] for cell in plan.cells} | set(runs["arm"])
    if baseline not in {*arms, BASELINE}:  # which may be run later
        raise AnalysisError(
            f"no run of the baseline {baseline!r}, and none planned (arms: "
            f"{', '.join(map(repr, sorted(arms)))}): name another"
        )
    return sorted(arms - {baseline})


def _decision(study: _Study, look: int) -> Decision:
    plan, states, runs = study.plan, study.states, study.ranked
    over = look == len(plan.looks) or all(state.stopped for state in states.values())
    next_n = None if over else plan.looks[look]
    kept = runs[(runs["status"] == "complete") & (runs["rank"] < plan.looks[-1])]
    have, alphas = Counter(kept["arm"]), (math.nan, *study.alphas)
    rows = [
        {"arm": arm, "n": have[arm]} | _row(state, alphas[state.look], have[arm], next_n)
        for arm, state in states.items()
    ]
    return Decision(
        table=pd.DataFrame(rows, columns=COLUMNS),
        looks=tuple(plan.looks),
        alphas=study.alphas,
        look=look,
        next_n=next_n,
        verdicts={arm: state.verdict for arm, state in states.items()},
        stopped_early=() if over else tuple(arm for arm, s in states.items() if s.stopped),
    )


def _row(state: _State, alpha: float, have: int, next_n: int | None) -> dict[str, object]:
    """Return the row of an arm that has `have` complete runs."""
    open_still = not state.stopped
    futile = open_still and state.conditional_power < FUTILE_BELOW
    notes = []
    if state.stopped and next_n is not None:
        notes.append("stopped early, biased outward")
    if open_still and state.p_adj < alpha and state.df < FEWEST_DF:
        notes.append(f"p is below alpha, but a verdict needs {FEWEST_DF:g} df: {state.df:.2g}")
    if futile and next_n is not None:
        notes.append("futile: may be given up")
    decision = STOP if state.stopped or next_n is None else WAIT if have >= next_n else CONTINUE
    return {
        "look": state.look,
        "alpha": alpha,
        "p_adj": state.p_adj,
        "delta": state.delta,
        "decision": decision,
        "verdict": str(state.verdict),
        "conditional_power": state.conditional_power,
        "futile": futile,
        "note": "; ".join(notes),
    }
