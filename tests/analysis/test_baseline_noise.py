import numpy as np
import pytest
from scipy import stats

from analysis.stats.baseline_noise import baseline_noise, residual


def test_without_shared_seeds_it_is_the_ratio_of_plain_variances():
    rng = np.random.default_rng(0)
    arm = np.repeat([0, 1, 2], [5, 4, 6])
    y = rng.normal(size=15)
    found = baseline_noise(y, arm, np.arange(15))
    within = sum(((y[arm == t] - y[arm == t].mean()) ** 2).sum() for t in (1, 2))
    assert pytest.approx(y[arm == 0].var(ddof=1) / (within / 8)) == found.F
    assert (found.df, found.df_arms) == (4, 8)
    assert found.p == pytest.approx(stats.f.sf(found.F, 4, 8))


def test_with_shared_seeds_the_seeds_effects_do_not_count():
    rng = np.random.default_rng(1)
    y = rng.normal(size=(5, 4))
    arm, seed = (index.ravel() for index in np.indices(y.shape))
    found = baseline_noise(y.ravel(), arm, seed)
    moved = baseline_noise((y + np.array([0.0, 5.0, -3.0, 90.0])).ravel(), arm, seed)
    apart = y[0] - y[1:].mean(axis=0)
    rest = y[1:] - y[1:].mean(axis=0)
    rest = rest - rest.mean(axis=1, keepdims=True)
    expected = apart.var(ddof=1) / (1 + 1 / 4) / ((rest**2).sum() / 9)
    assert pytest.approx(expected) == found.F
    assert pytest.approx(expected, rel=1e-6) == moved.F
    assert (found.df, found.df_arms) == (3, 9)


@pytest.mark.thorough
@pytest.mark.parametrize("shared", [True, False])
def test_it_keeps_its_level_and_sees_a_baseline_of_sixteen_times_the_variance(shared):
    rng = np.random.default_rng(2)
    arm, seed = (index.ravel() for index in np.indices((6, 5)))
    seed = seed if shared else np.arange(30)
    p = {1.0: [], 4.0: []}
    for sd in p:
        for _ in range(400):
            y = rng.normal(0, 3, 30)[seed] * shared + rng.normal(size=30) * np.where(arm, 1, sd)
            p[sd].append(baseline_noise(y, arm, seed).p)
    assert np.mean(np.array(p[1.0]) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(np.array(p[4.0]) < 0.05) > 0.9


def test_partly_shared_seeds_agree_with_least_squares():
    rng = np.random.default_rng(3)
    arm = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    seed = np.array([0, 1, 2, 3, 0, 1, 7, 1, 2, 0, 3])
    y = rng.normal(size=11)
    labels = np.unique(seed, return_inverse=True)[1]
    X = np.hstack([np.eye(3)[arm], np.eye(labels.max() + 1)[labels]])
    left = y - X @ np.linalg.lstsq(X, y)[0]
    ss, df = residual(y, arm, seed)
    assert ss == pytest.approx(left @ left)
    assert df == 11 - np.linalg.matrix_rank(X)


def test_two_runs_of_each_have_a_degree_of_freedom():
    found = baseline_noise([1.0, 5.0, 2.0, 2.5], [0, 0, 1, 1], range(4))
    assert (found.F, found.df, found.df_arms) == (pytest.approx(64), 1, 1)


def test_nothing_is_said_without_repeats():
    assert baseline_noise([1.0, 2.0, 3.0], [0, 1, 2], [0, 1, 2]) is None
    assert baseline_noise([1.0, 2.0], [0, 0], [0, 1]) is None


def test_the_rounding_of_arms_that_move_alike_is_no_noise_to_be_noisier_than():
    seeds = np.add.outer([3.7, 3.6, 3.5], [0.0, 0.1, 0.3, 0.4])
    seeds[0, 0] += 0.01
    assert baseline_noise(seeds.ravel(), np.repeat(range(3), 4), np.tile(range(4), 3)) is None
