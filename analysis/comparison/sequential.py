"""Looking at a study while it runs, without fooling oneself.

The largest number of seeds and the looks are fixed before the first run. Each look may spend a
part of alpha, the increment of an O'Brien-Fleming-type spending function (Lan and DeMets 1983,
Biometrika 70:659); the parts are summed by the union bound, so the family error holds under any
dependence between looks. An arm stops when it is decided; its runs stay in the pooled fit, and the
number of arms in Dunnett's adjustment stays what it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.comparison.estimate import estimate
from analysis.comparison.rules import Rules, check_rules
from analysis.comparison.verdict import Kind, Verdict, judge, verdicts
from analysis.runs.frame import complete, prepare
from analysis.stats.linear import FEWEST_DF
from analysis.stats.spending import conditional_power, spending
from analysis.table import Table, columns, count, document, figure, p_item, words
from harness.records import StudyPlan

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
        spent = ", ".join(
            f"{n} seeds: {a:.3g}" for n, a in zip(self.looks, self.alphas, strict=True)
        )
        after = "the study is over" if self.next_n is None else f"next look at {self.next_n} seeds"
        notes = (
            f"Alpha of each look: {spent}.",
            f"{self.look} of {len(self.looks)} looks done; {after}.",
        )
        labels = ("arm", "n", "look", "delta", "p adj", "alpha", "decision", "verdict")
        text = ("arm", "decision", "verdict", "note")
        heads = columns(*labels, "cond. power", "note", text=text)
        return [Table("sequential", "Sequential study", heads, rows, notes)]

    def to_markdown(self) -> str:
        """Return the state of the study for a person."""
        return document("Sequential study", *self.tables())


def decide(
    runs: pd.DataFrame, plan: StudyPlan, rules: Rules | None = None, **changes: Any
) -> Decision:
    """Decide, arm by arm, whether to stop or to run the next seeds.

    A pure function of the runs and the frozen plan: the same runs give the same decision, in
    whatever order they finished.

    Parameters
    ----------
    runs
        One row a run (columns in `analysis.runs`). Complete and diverged runs of an arm count in
        the order of the plan's cells, else of their seeds: the first ``looks[k]`` make look k.
    plan
        ``alpha``, ``looks`` and ``rope``; its cells name the arms and the order of the seeds.
    rules
        Baseline, metric, variance and direction; alpha and the practical size are the plan's.
    **changes
        Single fields of `Rules`, e.g. ``metric="val_loss"``.

    Returns
    -------
    Decision

    Raises
    ------
    AnalysisError
        No looks in the plan, or runs that are refused.

    Examples
    --------
    >>> frame = pd.DataFrame({"arm": ["baseline"] * 3 + ["a"] * 3, "init_seed": [0, 1, 2] * 2,
    ...                       "test_loss": [3.70, 3.71, 3.69, 3.40, 3.42, 3.38]})
    >>> decide(frame, StudyPlan(study="s", looks=[2, 3, 4])).table["decision"].tolist()
    ['continue']
    """
    rules = check_rules(rules, changes)
    baseline = rules.baseline
    alphas = spending(plan.looks, plan.alpha)
    runs = prepare(runs, metric=rules.metric, allow_reruns=rules.allow_reruns)
    # A run that failed, waits or was superseded takes no place: another has its seed, or will.
    ranked = _ranked(pd.concat([complete(runs), runs[runs["status"] == "diverged"]]), plan)
    arms = _arms(runs, plan, baseline)
    states = {arm: _State() for arm in arms}
    look = 0
    for k, (n, alpha) in enumerate(zip(plan.looks, alphas, strict=True)):
        active = [arm for arm in arms if not states[arm].stopped]
        have = _counts(ranked, n)
        lost = _lost(ranked, n)
        wanted = [*active, baseline]
        needed = [arm for arm in wanted if have.get(arm, 0) + lost.get(arm, 0) < n]
        if not active or needed or have.get(baseline, 0) < 2:
            break
        look = k + 1
        subset = _at_look(ranked, states, n)
        _judge_look(subset, rules, states, (look, alpha, plan, len(arms)))
    return _decision(ranked, plan, alphas, states, look)


@dataclass(slots=True)
class _State:
    look: int = 0
    n: int = 0
    alpha: float = float("nan")
    p_adj: float = float("nan")
    delta: float = float("nan")
    verdict: Verdict = Verdict(Kind.UNDECIDED)
    stopped: bool = False
    conditional: float = float("nan")
    df: float = float("nan")


def _judge_look(
    subset: pd.DataFrame,
    rules: Rules,
    states: dict[str, _State],
    rule: tuple[int, float, StudyPlan, int],
) -> None:
    look, alpha, plan, n_arms = rule
    fitted = estimate(complete(subset), rules.baseline, rules.variance)
    if fitted.fit is None or fitted.obstacle or len(fitted.arms) == 1:
        return
    rope = plan.rope or fitted.fit.sd_total
    judged = judge(fitted.fit, alpha, rope)
    # Arms without a single run yet still count: with more arms, p values only grow.
    scale = n_arms / max(len(fitted.arms) - 1, 1)
    found = verdicts(judged, alpha / scale, rope, higher_is_better=rules.higher_is_better)
    for i, arm in enumerate(fitted.arms[1:]):
        state = states[arm]
        if state.stopped:
            continue
        state.look, state.alpha, state.n = look, alpha, int(fitted.fit.n[i + 1])
        state.p_adj, state.delta = float(judged.p_adj[i]), float(judged.delta[i])
        state.verdict, state.df = found[i], float(judged.df[i])
        state.stopped = found[i].kind.real
        if judged.se[i] > 0 and judged.df[i] > 0:
            state.conditional = conditional_power(
                float(judged.delta[i]), float(judged.se[i]), rope, state.n, plan, n_arms
            )


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
    planned = {str(cell["arm"]) for cell in plan.cells if "arm" in cell}
    return sorted((planned | set(runs["arm"])) - {baseline})


def _counts(runs: pd.DataFrame, n: int) -> dict[str, int]:
    done = runs[(runs["status"] == "complete") & (runs["rank"] < n)]
    return {str(arm): int(count) for arm, count in done.groupby("arm").size().items()}


def _lost(runs: pd.DataFrame, n: int) -> dict[str, int]:
    gone = runs[(runs["status"] == "diverged") & (runs["rank"] < n)]
    return {str(arm): int(count) for arm, count in gone.groupby("arm").size().items()}


def _at_look(runs: pd.DataFrame, states: dict[str, _State], n: int) -> pd.DataFrame:
    limits = {arm: state.n if state.stopped else n for arm, state in states.items()}
    keep = [rank < limits.get(arm, n) for arm, rank in zip(runs["arm"], runs["rank"], strict=True)]
    return runs[keep]


def _decision(
    runs: pd.DataFrame,
    plan: StudyPlan,
    alphas: tuple[float, ...],
    states: dict[str, _State],
    look: int,
) -> Decision:
    over = look == len(plan.looks)
    next_n = None if over or all(s.stopped for s in states.values()) else plan.looks[look]
    have = _counts(runs, plan.looks[-1])
    rows = [_arm_row(arm, state, have.get(arm, 0), next_n) for arm, state in states.items()]
    table = pd.DataFrame(rows, columns=COLUMNS)
    verdicts = {arm: state.verdict for arm, state in states.items()}
    stopped = [arm for arm, s in states.items() if s.stopped and next_n is not None]
    return Decision(
        table, tuple(plan.looks), alphas, look, next_n, verdicts, stopped_early=tuple(stopped)
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
