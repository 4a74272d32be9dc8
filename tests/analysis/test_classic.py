import numpy as np
import pytest

from analysis.stats.holm import holm
from analysis.stats.linear import fit_pooled
from analysis.stats.mixed import fit_mixed
from analysis.stats.moderated.model import moderate


def test_adjusted_p_values_agree_with_r(r_numbers):
    known = r_numbers["adjust"]
    assert holm(known["p"]) == pytest.approx(known["holm"], rel=1e-9)


def test_p_by_its_own_noise_is_r_s_paired_t_where_seeds_are_shared(r_numbers):
    known = r_numbers["sleep"]
    loss, arm = np.concatenate([known["x"], known["y"]]), np.repeat([0, 1], 10)
    seed = np.tile(np.arange(10), 2)
    found = moderate(fit_mixed(loss, arm, seed), loss, arm, seed).against_baseline()
    assert found.p_own[0] == pytest.approx(known["paired_p"], rel=1e-6)


def test_p_by_its_own_noise_is_nearly_r_s_welch_where_they_are_not(r_numbers):
    """The same t; the df are those of equal variances, 18 instead of 17.8."""
    known = r_numbers["sleep"]
    loss, arm = np.concatenate([known["x"], known["y"]]), np.repeat([0, 1], 10)
    found = moderate(fit_pooled(loss, arm), loss, arm, np.arange(20)).against_baseline()
    assert found.own.df[0] == pytest.approx(18)
    assert found.p_own[0] == pytest.approx(known["welch_p"], rel=4e-3)
