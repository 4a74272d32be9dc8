import numpy as np
import pytest

from analysis.stats.mixed import fit_mixed
from analysis.stats.moderated.model import moderate
from analysis.stats.ranks import rank_intervals


def model(table, *, pooled=False):
    arm, seed = (index.ravel() for index in np.indices(table.shape))
    runs = table.ravel(), arm, seed
    return moderate(fit_mixed(*runs), *runs, pooled=pooled)


def table_of(means, rng, n=4, sd=0.005):
    return np.array(means)[:, None] + rng.normal(0, 0.01, n) + rng.normal(0, sd, (len(means), n))


def test_arms_far_apart_have_one_rank_each_and_equal_ones_share_all():
    rng = np.random.default_rng(0)
    found = rank_intervals(model(table_of([3.7, 3.1, 3.3, 3.2], rng)), [1, 2, 3], 0.05)
    assert list(found.best) == list(found.worst) == [1, 3, 2]
    same = rank_intervals(model(table_of([3.7] * 4, rng)), [1, 2, 3], 0.05)
    assert (list(same.best), list(same.worst)) == ([1, 1, 1], [3, 3, 3])


def test_the_best_accuracy_is_the_largest():
    rng = np.random.default_rng(1)
    found = rank_intervals(
        model(table_of([0.5, 0.9, 0.7], rng)), [0, 1, 2], 0.05, higher_is_better=True
    )
    assert list(found.best) == [3, 1, 2]


def test_equally_noisy_pairs_have_tukey_s_p():
    from scipy import stats

    rng = np.random.default_rng(2)
    table = table_of([3.7, 3.69, 3.70, 3.71], rng)
    pooled = model(table, pooled=True)
    found = rank_intervals(pooled, [1, 2, 3], 0.05)
    apart = pooled.contrast([0, 1, -1, 0]).found
    q = abs(apart.estimate[0]) / apart.se[0] * 2**0.5
    expected = stats.studentized_range.sf(q, 3, apart.df[0])
    assert found.p[0, 1] == found.p[1, 0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.thorough
def test_all_true_ranks_are_covered_together():
    rng = np.random.default_rng(3)
    means = np.array([3.70, 3.69, 3.692, 3.694, 3.68])
    truth = 1 + np.array([(means[1:] < mean).sum() for mean in means[1:]])
    covered, sharp = 0, 0
    for _ in range(200):
        found = rank_intervals(model(table_of(means, rng)), [1, 2, 3, 4], 0.05)
        covered += bool(((found.best <= truth) & (truth <= found.worst)).all())
        sharp += int(found.worst[3] == 1)
    assert covered >= 185
    assert sharp > 20


def test_one_arm_is_the_first():
    rng = np.random.default_rng(4)
    found = rank_intervals(model(table_of([3.7, 3.6], rng)), [1], 0.05)
    assert (list(found.best), list(found.worst)) == ([1], [1])
