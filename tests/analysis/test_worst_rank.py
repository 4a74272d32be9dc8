from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.stats.worst_rank import MOST_EXACT, worst_rank


def by_enumeration(x, y):
    ranks = stats.rankdata(np.append(x, y))
    all_sums = np.array([ranks[list(c)].sum() for c in combinations(range(len(ranks)), len(x))])
    far = np.abs(all_sums - len(x) * ranks.mean())
    return (far >= abs(ranks[: len(x)].sum() - len(x) * ranks.mean()) - 1e-9).mean()


@given(
    arm=st.lists(st.integers(0, 5), max_size=4),
    baseline=st.lists(st.integers(0, 5), max_size=4),
    lost=st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
@settings(max_examples=60)
def test_p_is_that_of_all_ways_to_deal_out_the_ranks(arm, baseline, lost):
    x, y = arm + [9] * lost[0], baseline + [9] * lost[1]
    if not x or not y:
        with pytest.raises(ValueError, match="both arms need one"):
            worst_rank(arm, baseline, lost)
        return
    found = worst_rank(arm, baseline, lost)
    assert found.p == pytest.approx(by_enumeration(x, y))
    pairs = np.subtract.outer(y, x)
    assert found.lead == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)
    turned = worst_rank([-v for v in arm], [-v for v in baseline], lost, higher_is_better=True)
    assert turned == found


def test_without_ties_it_is_the_exact_rank_sum_test():
    x, y = [3.1, 3.2, 3.35, 3.6], [3.3, 3.4, 3.5, 3.7, 3.8]
    expected = stats.mannwhitneyu(x, y, method="exact").pvalue
    assert worst_rank(x, y, (0, 0)).p == pytest.approx(expected)


def test_an_arm_that_loses_two_of_five_runs_is_not_better():
    quick, base = [3.50, 3.51, 3.52], [3.60, 3.61, 3.62, 3.63, 3.64]
    assert worst_rank([*quick, 3.53, 3.54], base, (0, 0)).p < 0.01
    assert worst_rank(quick, base, (2, 0)).p > 0.5


def test_many_runs_are_judged_by_the_normal_distribution():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.4, 1, 57).round(1), rng.normal(0, 1, 60).round(1)
    assert len(x) + len(y) + 3 == MOST_EXACT
    exact, normal = (worst_rank(x, np.append(y, more), (2, 1)).p for more in ([], [0.3]))
    expected = stats.mannwhitneyu(
        np.append(x, [9.0, 9.0]),
        np.append(y, [0.3, 9.0]),
        method="asymptotic",
        use_continuity=False,
    ).pvalue
    assert normal == pytest.approx(expected)
    assert exact == pytest.approx(normal, rel=0.15)


def test_equal_runs_throughout_decide_nothing():
    assert worst_rank([3.5] * 3, [3.5] * 4, (0, 0)).p == pytest.approx(1.0)
    assert worst_rank([], [], (80, 80)).p == 1.0
