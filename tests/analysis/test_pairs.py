import numpy as np
import pytest

from analysis.stats.mixed import fit_mixed
from analysis.stats.seed_correlation import pair_correlation, paired_arms, seed_correlation


def test_a_few_quiet_pairs_among_noisy_unpaired_arms_are_not_called_nearly_equal():
    rng = np.random.default_rng(0)
    modelled, measured = [], []
    for _ in range(60):
        seeds = [np.arange(5), np.arange(5), np.arange(4), *np.arange(5, 45).reshape(8, 5)]
        arm = np.repeat(np.arange(11), [len(s) for s in seeds])
        seed = np.concatenate(seeds)
        sd = np.where(arm < 3, 0.005, 0.016)
        y = sd * (0.47**0.5 * rng.normal(size=45)[seed] + 0.53**0.5 * rng.normal(size=len(arm)))
        modelled.append(fit_mixed(y, arm, seed).rho)
        found = pair_correlation(y, arm, seed)
        measured.append(found.estimate)
    assert found.n_pairs == 9
    assert np.median(modelled) > 0.9
    assert np.median(measured) == pytest.approx(0.47, abs=0.15)


def test_complete_blocks_are_all_pairs():
    rng = np.random.default_rng(1)
    y = rng.normal(size=(4, 5)) + rng.normal(size=5)
    arm, seed = (index.ravel() for index in np.indices(y.shape))
    found = pair_correlation(y.ravel(), arm, seed)
    assert found == seed_correlation(y.ravel(), arm, seed)
    assert found.n_pairs == 15


def test_arms_that_share_fewer_than_half_of_their_seeds_are_not_paired():
    seeds = [[0, 1, 2, 3, 4, 5], [0, 1, 2], [4, 5, 6, 7], [5, 6, 7], [8, 9]]
    arm = np.repeat(np.arange(5), [len(s) for s in seeds])
    assert paired_arms(arm, np.concatenate(seeds)).tolist() == [True, True, True, False, False]


def test_no_pair_has_no_correlation():
    arm, seed = np.repeat([0, 1], 3), np.arange(6)
    assert pair_correlation(np.arange(6.0), arm, seed) is None
