"""Where a count or a ratio decides what is said: both sides of each limit."""

import numpy as np
import pandas as pd
import pytest

from analysis import AnalysisError, compare
from analysis.comparison.rules import (
    Origin,
    Practical,
    Rules,
    agreed,
    check_rules,
    refuse_other_rules,
)
from analysis.comparison.verdict import Judged, Kind, Size, Verdict, verdicts
from harness.records import BASELINE, StudyPlan

PATTERN = {
    2: [-1.0, 1.0],
    3: [-1.0, 0.2, 0.8],
    4: [-1.1, 0.7, -0.4, 0.8],
    5: [-1, 0.3, 0.9, -0.6, 0.4],
}


def frame(arms: dict[str, tuple[int, float, float]]) -> pd.DataFrame:
    """Return runs without seeds of arms: number, difference, factor of the noise."""
    rows = [
        (arm, 3.69 + delta + 0.01 * factor * x)
        for arm, (n, delta, factor) in arms.items()
        for x in PATTERN[n]
    ]
    return pd.DataFrame(rows, columns=["arm", "test_loss"])


def told(result, words: str) -> list[str]:
    return [text for text in result.warnings if words in text]


@pytest.mark.parametrize(
    ("n", "ratio", "is_told"), [(5, 90, False), (5, 120, True), (2, 120, False)]
)
def test_an_arm_is_far_apart_from_a_hundred_times_the_variance_of_all_others(n, ratio, is_told):
    arms = {BASELINE: (n, 0.0, 1.0), "a": (n, 0.001, 1.0), "wild": (n, 0.0, ratio**0.5)}
    assert bool(told(compare(frame(arms)), "the runs of wild lie far apart")) == is_told


@pytest.mark.parametrize("n", [3, 4])
def test_own_noise_is_held_against_a_verdict_from_four_runs_on(n):
    arms = {BASELINE: (5, 0.0, 0.3), **dict.fromkeys("abc", (5, 0.0, 0.3)), "x": (n, -0.02, 2.0)}
    result = compare(frame(arms), variance="pooled")
    row = result.table.set_index("arm").loc["x"]
    assert row["p_adj"] < 0.05 < row["p_own"]
    assert bool(told(result, "x: not confirmed by its own noise")) == (n == 4)


@pytest.mark.parametrize(
    ("nearest", "said"),
    [
        ([1.0, 2.5, 3.0], "7 of 8 arms lie more than 2 standard errors"),
        ([1.0, 1.5, 3.0], None),
        ([1.0, 6.5, 7.0], None),
        ([2.2, 5.5, 7.0], "8 of 8 arms lie more than 2 standard errors"),
    ],
)
def test_a_quarter_of_the_arms_is_to_lie_near_the_baseline(nearest, said):
    t = [*nearest, 8.0, 8.5, 9.0, 9.5, 10.0]
    se = 0.01 * np.std(PATTERN[4], ddof=1) * (1 / 4 + 1 / 4) ** 0.5
    arms = {f"a{i}": (4, -x * se, 1.0) for i, x in enumerate(t)}
    result = compare(frame({BASELINE: (4, 0.0, 1.0), **arms}), variance="pooled")
    found = told(result, "standard errors from baseline")
    assert [text.partition(" from")[0] for text in found] == ([said] if said else [])


@pytest.mark.parametrize("n", [2, 3])
def test_three_runs_of_the_baseline_give_a_practical_size(n):
    result = compare(frame({BASELINE: (n, 0.0, 1.0), "a": (5, 0.0, 1.0)}))
    assert result.practical.origin is (Origin.BASELINE_SD if n == 3 else Origin.RUN_SD)
    assert result.rope == (result.noise.sd if n == 3 else result.sd)
    known = {2: "1 x sd of a run", 3: "1 x sd of the 3 baseline runs"}
    assert result.rope_source == f"{known[n]}, not declared before the runs"


def judged(**figures: float) -> Judged:
    known = {
        "delta": -0.03,
        "se": 0.01,
        "df": 3.0,
        "p_adj": 0.01,
        "ci_low": -0.05,
        "ci_high": -0.01,
    }
    names = [*known, "p_raw", "se_own", "p_own", "breakeven_sd", "power_at_rope"]
    arrays = {name: np.array([(known | figures).get(name, np.nan)]) for name in names}
    return Judged(**arrays, equivalent=(bool(figures.get("equal")),))


@pytest.mark.parametrize(
    ("figures", "kind", "size"),
    [
        ({}, Kind.BETTER, ""),
        ({"delta": 0.03}, Kind.WORSE, ""),
        ({"df": 2.9}, Kind.UNDECIDED, ""),
        ({"df": np.nan}, Kind.UNDECIDED, ""),
        ({"se": 0.0}, Kind.UNDECIDED, ""),
        ({"p_adj": 0.05}, Kind.UNDECIDED, ""),
        ({"p_adj": 0.05, "equal": 1}, Kind.SAME, ""),
        ({"equal": 1}, Kind.BETTER, ""),
        ({"ci_high": -0.021}, Kind.BETTER, " (beyond practical size)"),
        ({"ci_high": -0.02}, Kind.BETTER, ""),
        ({"delta": 0.03, "ci_low": 0.021, "ci_high": 0.05}, Kind.WORSE, " (beyond practical size)"),
        ({"delta": 0.03, "ci_low": 0.02, "ci_high": 0.05}, Kind.WORSE, ""),
        ({"ci_low": -0.019}, Kind.BETTER, " (below practical size)"),
        ({"ci_low": -0.02}, Kind.BETTER, ""),
        ({"ci_low": -0.01, "ci_high": 0.02}, Kind.BETTER, ""),
        ({"ci_low": -0.01, "ci_high": 0.019}, Kind.BETTER, " (below practical size)"),
    ],
)
def test_figures_at_their_limits_decide_what_is_said(figures, kind, size):
    given = Practical(0.02, Origin.CALL)
    (found,) = verdicts(judged(**figures), 0.05, given, higher_is_better=False)
    assert (found.kind, found.size) == (kind, size)
    undeclared = Practical(0.02, Origin.RUN_SD)
    (plain,) = verdicts(judged(**figures), 0.05, undeclared, higher_is_better=False)
    assert (plain.kind, plain.size) == (kind, Size.UNQUALIFIED)
    turned = {Kind.BETTER: Kind.WORSE, Kind.WORSE: Kind.BETTER}.get(kind, kind)
    (other,) = verdicts(judged(**figures), 0.05, given, higher_is_better=True)
    assert (other.kind, other.size) == (turned, size)


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (
            Verdict(Kind.BETTER, Size.BELOW, n=3, on_this_text=True),
            "better on this text (below practical size)",
        ),
        (Verdict(Kind.UNDECIDED, n=3, n_diverged=1), "undecided (1 of 4 diverged)"),
        (Verdict(Kind.UNDECIDED), "undecided"),
        (Verdict(Kind.UNDECIDED, n_diverged=2), "undecided (2 of 2 diverged)"),
        (Verdict(Kind.NO_RUN, n_diverged=2, why="2 diverged"), "no complete run (2 diverged)"),
        (Verdict(Kind.BASELINE, n=3), ""),
    ],
)
def test_a_verdict_says_what_it_is_of(verdict, text):
    assert str(verdict) == text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rope": 0.0}, "the practical size is 0: the practically relevant difference must be above 0"),
        ({"practical_size": np.nan}, "the practical size is nan: "),
        ({"size": 1, "apha": 2}, "unknown rule 'apha': allowed are baseline, metric, alpha, "),
        ({"alpha": 1.0}, "alpha is 1"),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_is_refused(changes, said):
    with pytest.raises(AnalysisError) as refused:
        check_rules(None, changes)
    assert str(refused.value).startswith(said)


def test_a_rule_is_the_call_s_else_what_all_plans_have():
    plans = {name: StudyPlan(study=name, rope=rope) for name, rope in (("s", 0.02), ("t", None))}
    assert agreed(None, plans, "rope") == 0.02
    assert agreed(0.01, plans, "rope") == 0.01
    assert agreed(None, {"t": plans["t"]}, "rope") is None
    assert check_rules(Rules(alpha=0.1), {"rope": 0.01}) == Rules(alpha=0.1, practical_size=0.01)
    plans["t"].rope = 0.03
    with pytest.raises(AnalysisError) as refused:
        agreed(None, plans, "rope")
    assert str(refused.value) == (
        "the plans of s, t declare different values of the practical size (0.02, 0.03): choose one "
        "with --practical-size"
    )


def test_a_table_of_one_s_own_may_have_columns_that_records_name_alike():
    arms = frame({BASELINE: (4, 0.0, 1.0), "a": (4, -0.1, 1.0)})
    theirs = arms.assign(version=range(8), code="x", recipe=range(8), changes=None)
    for given in (arms, theirs, arms.assign(folder="runs")):
        assert compare(given).warnings == ()


def test_other_rules_are_refused_where_the_one_plan_has_looks():
    plain = StudyPlan(study="s", alpha=0.05, rope=0.02)
    looked = StudyPlan(study="t", alpha=0.05, rope=0.02, looks=[2, 3])
    other, same = Rules(alpha=0.1, practical_size=0.02), Rules(alpha=0.05)
    for rules, plans in ((other, [plain]), (other, [plain, looked]), (same, [looked]), (other, [])):
        refuse_other_rules(rules, {plan.study: plan for plan in plans})
    for rules, words in ((other, "alpha is 0.1"), (Rules(practical_size=0.03), "size is 0.03")):
        with pytest.raises(AnalysisError, match=f"{words}, but the plan of t, which has looks, "):
            refuse_other_rules(rules, {"t": looked})
