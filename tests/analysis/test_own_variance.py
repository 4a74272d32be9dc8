import numpy as np
import pytest

from analysis.stats.linear import baseline_weights, fit_pooled
from analysis.stats.mixed import fit_mixed
from analysis.stats.moderated.own_variance import spread


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def blocks(rng, n_arms, n, sd=0.01):
    """Return complete blocks: loss, arm, seed."""
    loss = 3.7 + rng.normal(0, 0.02, n) + rng.normal(0, sd, (n_arms, n))
    arm, seed = np.indices(loss.shape)
    return loss.ravel(), arm.ravel(), seed.ravel()


def test_with_shared_seeds_the_own_variance_is_that_of_the_paired_differences(rng):
    loss, arm, seed = blocks(rng, 4, 6)
    fit = fit_mixed(loss, arm, seed)
    own = spread(loss, arm, seed).of(baseline_weights(4), fit)
    table = loss.reshape(4, 6)
    paired = (table[1:] - table[0]).var(axis=1, ddof=1) / 6
    assert own.ratio * fit.against_baseline().se ** 2 == pytest.approx(paired)
    assert own.df == pytest.approx([5, 5, 5])


def test_without_shared_seeds_the_own_variance_is_welch_s(rng):
    arm = np.repeat([0, 1, 2], [5, 4, 7])
    y = rng.normal(3.7, 0.01, len(arm))
    fit = fit_pooled(y, arm)
    own = spread(y, arm, np.arange(len(arm))).of(np.array([[-1.0, 1.0, 0.0]]), fit)
    welchs = y[arm == 1].var(ddof=1) / 4 + y[arm == 0].var(ddof=1) / 5
    assert own.ratio[0] == pytest.approx(welchs / (fit.var_resid * (1 / 4 + 1 / 5)))
    assert own.df[0] == pytest.approx((1 / 4 + 1 / 5) ** 2 / (1 / 4**2 / 3 + 1 / 5**2 / 4))


def test_the_own_variance_is_unbiased_under_the_model_in_any_design(rng):
    arm = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
    seed = np.array([0, 1, 2, 3, 3, 0, 1, 1, 4, 5, 0, 2])
    y = rng.normal(0, 1, len(arm)) + rng.normal(0, 1, 6)[seed]
    fit = fit_mixed(y, arm, seed)
    c = np.array([-1.0, 0.3, 0.7])
    n = np.bincount(arm)
    centred = np.eye(12) - (arm[:, None] == arm[None, :]) / n[arm][:, None]
    c_run = (c / n * np.sqrt(n / (n - 1)))[arm]
    B = ((seed[None, :] == np.arange(6)[:, None]) * c_run) @ centred
    V = fit.var_resid * np.eye(12) + fit.var_init * (seed[:, None] == seed[None, :])
    M = B @ V @ B.T
    own = spread(y, arm, seed).of(c, fit)
    assert own.ratio[0] == pytest.approx(((B @ y) ** 2).sum() / np.trace(M))
    assert own.df[0] == pytest.approx(np.trace(M) ** 2 / (M**2).sum())


def test_contrasts_of_unlike_designs_asked_together_are_as_each_alone(rng):
    arm = np.repeat([0, 1, 2, 3, 4], [5, 4, 4, 4, 7])
    seed = np.array([0, 1, 2, 3, 4, *range(4), *range(4), 0, 1, 8, 9, *range(7)])
    y = rng.normal(3.7, 0.01, len(arm)) + rng.normal(0, 0.01, 10)[seed]
    runs, fit = spread(y, arm, seed), fit_mixed(y, arm, seed)
    assert runs.design.tolist() == [0, 1, 1, 2, 3]
    together = runs.of(baseline_weights(5), fit)
    alone = [runs.of(c, fit) for c in baseline_weights(5)]
    assert together.ratio == pytest.approx(np.concatenate([own.ratio for own in alone]))
    assert together.df == pytest.approx(np.concatenate([own.df for own in alone]))


def test_one_run_or_runs_without_any_spread_say_nothing_of_their_noise(rng):
    loss, arm, seed = blocks(rng, 4, 3)
    loss[3:6] = loss[:3] + 0.01  # arm 1 moves with the baseline, to the last digit
    keep = (arm != 3) | (seed == 0)
    runs = loss[keep], arm[keep], seed[keep]
    own = spread(*runs).of(baseline_weights(4), fit_mixed(*runs))
    assert own.df[[0, 2]] == pytest.approx([0, 0])
    assert own.df[1] == pytest.approx(2, rel=0.01)


def test_reruns_of_a_single_seed_say_nothing_either(rng):
    arm, seed = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 1, 1])
    y = rng.normal(size=5)
    assert spread(y, arm, seed).of(np.array([0.0, 1.0]), fit_pooled(y, arm)).df[0] == 0


def test_a_hundred_thousand_seeds_need_no_matrix_of_their_size(rng):
    arm = np.repeat([0, 1], 50_000)
    y = rng.normal(3.7, 0.01, len(arm))
    own = spread(y, arm, np.arange(len(arm))).of(baseline_weights(2), fit_pooled(y, arm))
    assert own.df[0] == pytest.approx(2 * 49_999)


def test_the_covariance_that_is_expected_of_all_seeds_is_summed_without_forming_it(rng):
    arm, seed = np.array([0, 0, 0, 1, 1, 2, 2, 2]), np.array([0, 1, 2, 0, 3, 1, 1, 2])
    y = rng.normal(size=8) + rng.normal(size=4)[seed]
    fit = fit_mixed(y, arm, seed)
    c, n = np.array([-1.0, 0.0, 1.0]), np.bincount(arm)
    centred = np.eye(8) - (arm[:, None] == arm) / n[arm][:, None]
    each = (seed == np.arange(4)[:, None]) * (c / n * np.sqrt(n / (n - 1)))[arm] @ centred
    V = fit.var_resid * np.eye(8) + fit.var_init * (seed[:, None] == seed)
    M = each @ V @ each.T
    found = spread(y, arm, seed).expected(c, fit)
    assert found == pytest.approx((np.trace(M), (M**2).sum()))


def test_two_runs_have_a_noise_of_their_own_and_a_fit_without_a_residual_has_none(rng):
    y, arm = rng.normal(size=4), np.array([0, 0, 1, 1])
    own = spread(y, arm, np.arange(4)).of(baseline_weights(2), fit_pooled(y, arm))
    assert own.df == pytest.approx([2])
    assert own.ratio == pytest.approx([1])
    same = np.array([1.0, 1.0, 2.0, 2.0])
    nothing = spread(same, arm, np.arange(4)).of(baseline_weights(2), fit_pooled(same, arm))
    assert (nothing.ratio.tolist(), nothing.df.tolist()) == ([1], [0])
    arms, seeds = np.array([0, 0, 0, 0, 1, 1, 1]), np.array([0, 1, 2, 3, 0, 1, 2])
    explained = np.array([0.0, 0.3, -0.2, 0.1])[seeds] + arms
    runs = explained, arms, seeds
    noiseless = spread(*runs).of(baseline_weights(2), fit_mixed(*runs))
    assert (noiseless.ratio.tolist(), noiseless.df.tolist()) == ([1], [0])


def test_what_the_runs_add_to_their_arm_s_mean_is_gathered_by_seed():
    found = spread([1.0, 2.0, 6.0, 5.0], [0, 0, 0, 1], [0, 2, 2, 1])
    assert found.n.tolist() == [3, 1]
    assert found.share == pytest.approx(np.array([[1 / 3, 0, 2 / 3], [0, 1, 0]]))
    assert found.deviation == pytest.approx(np.array([[-2 / 3, 0, 2 / 3], [0, 0, 0]]))
    assert found.design.tolist() == [0, 1]
