import numpy as np
import pytest
from scipy import stats

from analysis.stats.dunnett import tail_probability
from analysis.stats.moderated.max_t import against_baseline, all_pairs

EQUAL = 0.5**0.5
FAMILIES = [[EQUAL], [EQUAL] * 8, [EQUAL] * 300, [0.05] * 5, [0.95] * 8, [0.3, 0.5, 0.8] * 4]


@pytest.mark.parametrize("loadings", FAMILIES, ids=lambda x: f"{len(x)} of {x[0]:.2f}")
def test_all_thresholds_at_once_agree_with_one_at_a_time(loadings):
    t = np.array([0.5, 1.7, 2.5, 3.3, 6.0])
    df = np.array([3.0, 14.0, 3.7, 200.0, 8.0])
    exact = [tail_probability(*pair) for pair in zip(t, [loadings] * 5, df, strict=True)]
    family = against_baseline(loadings)
    assert family.n_tests == len(loadings)
    assert family.tail(t, df) == pytest.approx(exact, rel=2e-4)


def test_an_infinite_df_is_a_known_sd():
    exact = tail_probability(2.4, [EQUAL] * 4, np.inf)
    assert against_baseline([EQUAL] * 4).tail([2.4, 2.4], [np.inf, 9.0])[0] == pytest.approx(exact)


def test_all_pairs_agree_with_r_and_scipy(r_numbers):
    cases = zip([2.5, 3.876777, 4.5], [3, 3, 8], [10, 10, 24], strict=True)
    ours = [all_pairs(k).tail([q / 2**0.5], [df])[0] for q, k, df in cases]
    assert ours == pytest.approx(r_numbers["tukey"], rel=1e-5)
    for k in (2, 12):
        p = stats.studentized_range.sf(4.1, k, 20)
        assert all_pairs(k).tail([4.1 / 2**0.5], [20]) == pytest.approx([p], rel=1e-6)


def test_two_arms_are_one_pair():
    t, df = np.array([0.3, 2.0, 7.0]), np.array([4.0, 9.0, 30.0])
    assert all_pairs(2).tail(t, df) == pytest.approx(2 * stats.t.sf(t, df), rel=1e-6)


def test_there_are_as_many_pairs_as_arms_choose_two():
    assert [all_pairs(k).n_tests for k in (2, 3, 6)] == [1, 3, 15]


@pytest.mark.parametrize("threshold", [7.9, 8.1, 30.0])
def test_with_a_known_sd_hardly_anything_lies_beyond_eight(threshold):
    assert 0 <= against_baseline([EQUAL] * 8).tail(threshold, np.inf) < 1e-13


def test_nearly_equal_arms_are_as_one_at_a_time_too():
    """Loadings near 1 need many nodes of the baseline's mean."""
    t = np.array([0.7, 2.2, 3.1])
    exact = [tail_probability(value, [0.99] * 3, 12.0) for value in t]
    assert against_baseline([0.99] * 3).tail(t, np.full(3, 12.0)) == pytest.approx(exact, rel=1e-4)
