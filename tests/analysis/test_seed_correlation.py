"""The correlation of same-seed runs: closed forms of balanced designs, and where there is none."""

import numpy as np
import pytest
from scipy import stats

from analysis.stats.seed_correlation import (
    MOST_SEEDS,
    Correlation,
    pair_correlation,
    paired_arms,
    pairing_df,
    seed_correlation,
)


def blocks(n_arms: int, n: int, rho: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return losses of complete blocks, their arms and seeds."""
    rng = np.random.default_rng(8)
    y = (1 - rho) ** 0.5 * rng.normal(size=(n_arms, n)) + rho**0.5 * rng.normal(size=n)
    arm, seed = np.indices(y.shape)
    return y.ravel(), arm.ravel(), seed.ravel()


@pytest.mark.parametrize(("n_arms", "n", "rho"), [(3, 6, 0.8), (4, 5, 0.1), (2, 9, 0.5)])
def test_of_complete_blocks_it_is_the_intraclass_correlation_with_its_f_interval(n_arms, n, rho):
    """Fleiss (1986): (F - 1) / (F - 1 + k), of F and of F over its quantiles."""
    y, arm, seed = blocks(n_arms, n, rho)
    table = y.reshape(n_arms, n)
    rest = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    df = n - 1, (n_arms - 1) * (n - 1)
    F = n_arms * table.mean(axis=0).var(ddof=1) / ((rest**2).sum() / df[1])
    ends = F / np.array([1, stats.f.ppf(0.975, *df), stats.f.ppf(0.025, *df)])
    expected = (ends - 1) / (ends - 1 + n_arms)
    found = seed_correlation(y, arm, seed)
    assert (found.estimate, found.ci_low, found.ci_high) == pytest.approx(tuple(expected), abs=1e-7)
    assert (found.F, found.p) == (pytest.approx(F), pytest.approx(stats.f.sf(F, *df)))
    assert (found.n_seeds, found.n_runs, found.n_pairs) == (n, n_arms * n, (n_arms - 1) * n)


@pytest.mark.parametrize("n_arms", [2, 3])
def test_seeds_without_any_effect_have_the_lowest_correlation_that_is_possible(n_arms):
    """Of k runs that sum to nothing any two have -1 / (k - 1)."""
    rows = (
        [[0.0, 1, 2, 3], [3.0, 2, 1, 0]] if n_arms == 2 else [[0.0, 1, 2], [1.0, 2, 0], [2.0, 0, 1]]
    )
    arm, seed = np.indices(np.shape(rows))
    found = seed_correlation(np.ravel(rows), arm.ravel(), seed.ravel())
    lowest = -1 / (n_arms - 1)
    assert (found.estimate, found.ci_low) == pytest.approx((lowest, lowest), abs=1e-6)
    assert (found.F, found.p) == pytest.approx((0, 1), abs=1e-9)


def test_it_is_no_less_than_minus_one() -> None:
    """Three arms of two seeds each, in a ring: what fits the losses best is a ratio of -2 / 3."""
    arm, seed = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 2, 2, 0])
    found = seed_correlation([1.0, -1.0, 1.0, -1.0, 1.0, -1.0], arm, seed)
    assert (found.estimate, found.ci_low, found.n_pairs) == (-1, -1, 2)


@pytest.mark.parametrize(
    ("arm", "seed", "loss"),
    [
        ([0, 0, 1, 1], [0, 1, 2, 3], [1.0, 2.0, 3.0, 5.0]),  # no seed has two runs
        ([0, 0, 1, 1], [0, 0, 1, 1], [1.0, 2.0, 3.0, 5.0]),  # the seeds are the arms
        ([0, 0, 1], [0, 1, 1], [1.0, 2.0, 5.0]),  # nothing is left for the residual
        ([0, 0, 0, 1, 1, 1], [0, 1, 2] * 2, [1.0, 2.0, 4.0, 3.0, 4.0, 6.0]),  # nor has it noise
        ([0, 0, 0, 1, 1, 1], [0, 1, 2] * 2, [1.0] * 3 + [2.0] * 3),  # all runs are equal
    ],
)
def test_where_the_seeds_cannot_be_told_from_the_rest_there_is_none(arm, seed, loss):
    assert seed_correlation(loss, arm, seed) is None


def test_one_degree_of_freedom_of_the_seeds_and_of_the_rest_is_enough() -> None:
    found = seed_correlation([1.0, 2.0, 3.0, 5.0], [0, 0, 1, 1], [0, 1, 0, 1])
    assert pytest.approx(1.5**2 / 0.5**2) == found.F
    assert found.p == pytest.approx(stats.f.sf(9, 1, 1))


def test_it_is_said_from_how_many_pairs_it_is_known() -> None:
    given = {"ci_low": 0.1, "ci_high": 0.8, "F": 3.0, "p": 0.1, "n_seeds": 4, "n_runs": 9}
    assert str(Correlation(estimate=0.456, n_pairs=5, **given)) == "0.46 (from 5 pairs)"
    alone = Correlation(estimate=-0.2, n_pairs=0, **given)
    assert str(alone) == "-0.20 (from reruns of a seed, no pairs)"


def test_pairs_are_runs_whose_seed_the_baseline_has_too() -> None:
    """An arm's seeds that the baseline lacks, and a seed that it has alone, say nothing."""
    y = np.random.default_rng(9).normal(size=13)
    arm = np.repeat([0, 1, 2], [5, 4, 4])
    seed = np.array([0, 1, 2, 3, 9, 0, 1, 2, 7, 0, 1, 3, 7])
    found = pair_correlation(y, arm, seed)
    kept = np.isin(seed, [0, 1, 2, 3])
    assert found == seed_correlation(y[kept], arm[kept], seed[kept])
    assert (found.n_pairs, found.n_seeds, found.n_runs) == (6, 4, 10)


def test_reruns_are_of_one_arm_and_one_seed_where_no_arm_is_paired() -> None:
    """Arms without the baseline's seeds share two with each other: these are no reruns."""
    arm = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2])
    seed = np.array([0, 0, 1, 1, 5, 6, 5, 6, 6])
    y = np.array([1.0, 1.2, 3.0, 3.1, 4.0, 9.0, 2.0, 5.0, 5.3])
    found = pair_correlation(y, arm, seed)
    apart = np.array([0, 0, 1, 1, 2, 3, 4, 5, 5])
    assert found == seed_correlation(y, arm, apart)
    assert found.n_pairs == 0


def test_half_of_the_seeds_make_an_arm_paired() -> None:
    arm, seed = np.repeat([0, 1, 2], [2, 4, 5]), np.array([0, 1, 0, 1, 5, 6, 0, 1, 5, 6, 7])
    assert paired_arms(arm, seed).tolist() == [True, True, False]


def test_reruns_of_a_shared_seed_add_a_degree_of_freedom_each() -> None:
    arm, seed = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert pairing_df(arm, seed) == 1
    assert pairing_df(np.append(arm, [0, 1]), np.append(seed, [0, 2])) == 2


def test_of_more_than_fifteen_hundred_seeds_it_is_not_computed() -> None:
    arm, seed = np.indices((2, MOST_SEEDS + 1))
    loss = np.random.default_rng(10).normal(size=arm.size)
    assert seed_correlation(loss, arm.ravel(), seed.ravel()) is None
