import numpy as np
import pytest
from scipy import stats

from analysis.stats.textbook_tests import holm, paired, welch


def test_the_t_tests_agree_with_r_on_its_sleep_data(r_numbers):
    known = r_numbers["sleep"]
    x, y = known["x"], known["y"]
    assert welch(x, y)[2] == pytest.approx(known["welch_p"], rel=1e-9)
    t, df, p = paired(x, y)
    assert (t, df) == (pytest.approx(known["paired_t"], rel=1e-9), 9)
    assert p == pytest.approx(known["paired_p"], rel=1e-9)


def test_adjusted_p_values_agree_with_r(r_numbers):
    known = r_numbers["adjust"]
    assert holm(known["p"]) == pytest.approx(known["holm"], rel=1e-9)


def test_the_t_tests_agree_with_scipy():
    rng = np.random.default_rng(6)
    x, y = rng.normal(0, 1, 7), rng.normal(0.5, 2, 7)
    assert welch(x, y)[2] == pytest.approx(stats.ttest_ind(x, y, equal_var=False).pvalue)
    assert paired(x, y)[2] == pytest.approx(stats.ttest_rel(x, y).pvalue)
