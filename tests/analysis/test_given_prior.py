"""What is said of differences at a given prior and a given chance of equal noise: closed forms."""

import numpy as np
import pytest
from scipy import stats

from analysis.stats.dunnett import step_down, tail_probability
from analysis.stats.holm import holm
from analysis.stats.linear import Contrasts, fit_pooled
from analysis.stats.moderated.max_t import against_baseline
from analysis.stats.moderated.model import Averaged, Differences, moderate
from analysis.stats.moderated.own_variance import OwnVariance
from analysis.stats.moderated.posterior import Posterior

ESTIMATE = np.array([-0.03, 0.01, 0.02])
SE = np.array([0.010, 0.010, 0.008])
RATIO, DF_OWN = np.array([0.5, 2.0, 1.0]), np.array([3.0, 3.0, 0.0])
D0, S2 = 4.0, 0.9
VARIANCE = (DF_OWN * RATIO + D0 * S2) / (DF_OWN + D0)
ROUND = 1e-4


def differences(equal: float) -> Differences:
    """Return three differences on 12 df, whose prior is known."""
    correlation = np.full((3, 3), 0.5) + 0.5 * np.eye(3)
    found = Contrasts(ESTIMATE, SE, np.full(3, 12.0), correlation)
    prior = Posterior(np.array(equal), np.array([D0]), np.array([S2]), np.ones(1))
    return Differences(found, OwnVariance(RATIO, DF_OWN), prior)


def unequal(z: np.ndarray) -> np.ndarray:
    """Return the two-sided tail of the moderated t."""
    return 2 * stats.t.sf(z / VARIANCE**0.5, DF_OWN + D0)


@pytest.mark.parametrize("equal", [0.0, 0.3, 1.0])
def test_p_is_the_mean_of_both_answers_by_their_chance(equal: float) -> None:
    of, z = differences(equal), np.abs(ESTIMATE) / SE
    alone = equal * 2 * stats.t.sf(z, 12) + (1 - equal) * unequal(z)
    assert of.p_raw == pytest.approx(alone)
    family = equal * step_down(z, [0.5**0.5] * 3, 12) + (1 - equal) * holm(unequal(z))
    assert of.p_adj == pytest.approx(family, rel=ROUND)
    assert of.equal == equal


@pytest.mark.parametrize("equal", [0.0, 0.3, 1.0])
def test_intervals_end_where_the_mean_tail_comes_to_alpha(equal: float) -> None:
    of = differences(equal)
    each = of.half_width_each([0.2, 0.05, 0.9]) / SE
    tail = equal * 2 * stats.t.sf(each, 12) + (1 - equal) * unequal(each)
    assert tail == pytest.approx([0.2, 0.05, 0.9], rel=1e-6)
    together = of.half_width(0.05) / SE
    dunnett = [tail_probability(z, [0.5**0.5] * 3, 12) for z in together]
    whole = equal * np.array(dunnett) + (1 - equal) * np.minimum(3 * unequal(together), 1)
    assert whole == pytest.approx([0.05] * 3, rel=1e-3)


@pytest.mark.parametrize("equal", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("delta", [0.04, -0.04])
def test_power_is_that_of_the_noncentral_t_of_each_answer(equal: float, delta: float) -> None:
    half = np.array([0.03, 0.025, 0.02])
    model = stats.nct.sf(half / SE, 12, 0.04 / SE)
    scale = SE * VARIANCE**0.5
    moderated = stats.nct.sf(half / scale, DF_OWN + D0, 0.04 / scale)
    expected = equal * model + (1 - equal) * moderated
    assert differences(equal).power(delta, half) == pytest.approx(expected, abs=1e-6)


def test_equivalence_is_decided_at_each_difference_s_step_of_holm() -> None:
    """The largest gap comes first: alpha over 3, over 2, over 1; outside of it p is above half."""
    found = differences(1.0).equivalence(0.035, 0.05)
    gap = 0.035 - np.abs(ESTIMATE)
    one_sided = stats.t.sf(gap / SE, 12)
    assert list(np.argsort(one_sided)) == [1, 2, 0]
    assert found.p_adj == pytest.approx([one_sided[0], 3 * one_sided[1], 2 * one_sided[2]])
    expected = stats.t.isf(0.05 / np.array([1, 3, 2]), 12) * SE
    assert found.half_width == pytest.approx(expected, rel=1e-6)
    outside = differences(1.0).equivalence(0.025, 0.05).p_adj
    assert outside[0] == pytest.approx(stats.t.sf(-0.5, 12))


def test_the_own_noise_of_each_difference_is_known_where_its_runs_show_some() -> None:
    of = differences(0.3)
    assert of.se_own[:2] == pytest.approx(SE[:2] * RATIO[:2] ** 0.5)
    expected = 2 * stats.t.sf(np.abs(ESTIMATE / SE)[:2] / RATIO[:2] ** 0.5, 3)
    assert of.p_own[:2] == pytest.approx(expected)
    assert np.isnan([of.se_own[2], of.p_own[2]]).all()


def test_a_tail_that_hardly_ever_comes_to_alpha_has_no_threshold() -> None:
    """A prior of a hundredth of a df: its t is beyond a trillion more often than alpha."""
    vague = Posterior(np.array(0.0), np.array([0.01]), np.ones(1), np.ones(1))
    nothing = OwnVariance(np.ones(2), np.array([0.0, 9.0]))
    of = Averaged(np.full(2, 9.0), nothing, vague)
    endless, ended = of.threshold(0.05)
    assert endless == np.inf
    assert 2 * stats.t.sf(ended, 9.01) == pytest.approx(0.05, rel=1e-3)


def test_the_bound_of_a_family_is_at_most_certain() -> None:
    own = OwnVariance(np.ones(2), np.full(2, 5.0))
    prior = Posterior(np.array(0.0), np.ones(1), np.ones(1), np.ones(1))
    family = against_baseline([0.5] * 40)
    z = np.array([0.5, 6.0])
    found = Averaged(np.full(2, 9.0), own, prior).any(z, family)
    assert found[0] == 1
    assert found[1] == pytest.approx(40 * 2 * stats.t.sf(6.0, 6))


def test_a_baseline_alone_has_nothing_that_could_be_unequally_noisy() -> None:
    runs = np.array([3.0, 3.1, 3.3]), np.zeros(3, dtype=int)
    model = moderate(fit_pooled(*runs), *runs, np.arange(3))
    assert model.posterior.equal == 1
    assert len(model.against_baseline().found.estimate) == 0


def test_one_difference_is_as_likely_to_be_equally_noisy_as_not() -> None:
    y, arm = np.array([3.0, 3.1, 3.4, 2.0, 2.7, 2.1, 2.9]), np.array([0, 0, 0, 1, 1, 1, 1])
    model = moderate(fit_pooled(y, arm), y, arm, np.arange(7))
    assert model.posterior.equal == pytest.approx(0.5, abs=1e-6)
