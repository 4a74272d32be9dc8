"""The typical studies that planning rests on: limits in closed form, and simulated runs."""

import numpy as np
import pytest
from scipy import stats

from analysis.stats.mixed import fit_of_design
from analysis.stats.planning.design import _noise
from analysis.stats.planning.typical import (
    Layout,
    residuals,
    typical_paired,
    typical_unpaired,
)


def on_unit(n: int) -> np.ndarray:
    """Gauss and Legendre's nodes of the interval from 0 to 1."""
    return (np.polynomial.legendre.leggauss(n)[0] + 1) / 2


@pytest.mark.parametrize(("n_arms", "paired"), [(4, False), (4, True), (2, True)])
def test_beside_an_endless_baseline_an_own_variance_is_the_arm_s_own_chi_square(
    n_arms: int, paired: bool
):
    layout = Layout(n_arms, n=5, K=1e6, paired=paired)
    ratio, weight = typical_paired(layout, 0.0) if paired else typical_unpaired(layout)
    expected = np.repeat(stats.chi2.ppf(on_unit(4), 4) / 4, 6)
    assert np.sort(ratio[:, 0]) == pytest.approx(np.sort(expected), abs=0.01)
    shifted = np.add.outer(on_unit(2), range(n_arms - 1)) / (n_arms - 1)
    others = np.repeat(stats.chi2.ppf(shifted, 4) / 4, 12)
    assert np.sort(ratio[:, 1:].ravel()) == pytest.approx(np.sort(others), abs=0.01)
    assert weight.sum() == pytest.approx(1)
    assert len(weight) == len(ratio) == 3 * 4 * 2


@pytest.mark.parametrize("paired", [False, True])
def test_beside_endless_arms_it_is_the_baseline_s(paired: bool):
    layout = Layout(n_arms=3, n=1e4, K=6, paired=paired)
    ratio, weight = typical_paired(layout, 0.0) if paired else typical_unpaired(layout)
    expected = np.repeat(stats.chi2.ppf(on_unit(3), 5) / 5, 8)
    for arm in range(3):
        assert np.sort(ratio[:, arm]) == pytest.approx(np.sort(expected), abs=0.05)
    assert weight @ ratio[:, 0] == pytest.approx(1, abs=0.05)


def test_one_difference_of_complete_blocks_is_as_noisy_as_the_model_says():
    ratio, weight = typical_paired(Layout(1, 4, 4, paired=True), rho=0.3)
    assert ratio == pytest.approx(np.ones((24, 1)))
    assert weight.sum() == pytest.approx(1)


def test_differences_of_many_complete_blocks_share_the_baseline_s_noise():
    """Given that, half of an own variance is a noncentral chi-square; the residual is known."""
    ratio, _ = typical_paired(Layout(2000, 4, 4, paired=True), rho=0.3)
    base = stats.chi2.ppf(on_unit(3), 3)
    expected = [stats.ncx2.ppf(u, 3, shared) / 2 / 3 for shared in base for u in on_unit(4)]
    assert np.sort(ratio[:, 0]) == pytest.approx(np.sort(np.repeat(expected, 2)), rel=0.01)


@pytest.mark.parametrize(("n", "T"), [(6, 2), (12, 3), (20, 4)])
def test_own_variances_of_complete_blocks_are_the_model_s_on_average(n: int, T: int):
    ratio, weight = typical_paired(Layout(T, n, n, paired=True), rho=0.3)
    assert (weight @ ratio).mean() == pytest.approx(1, abs=0.05)


def variances(n: int, K: int, rho: float) -> np.ndarray:
    """Variance of what each seed adds to a difference of two arms, from the runs' covariance."""
    arm, seed = np.repeat([0, 1], [K, n]), np.array([*range(K), *range(n)])
    c = np.where(arm == 0, -(((K - 1) * K) ** -0.5), ((n - 1) * n) ** -0.5)
    at_seed = (seed == np.arange(max(n, K))[:, None]) * c
    together = (1 - rho) * np.eye(n + K) + rho * (seed[:, None] == seed)
    return np.diag(at_seed @ together @ at_seed.T)


@pytest.mark.parametrize(("n", "K", "rho"), [(3, 7, 0.4), (3, 12, 0.1), (7, 3, 0.4), (5, 3, 0.4)])
def test_seeds_of_one_arm_alone_take_their_share_of_an_own_variance_at_its_mean(n, K, rho):
    """What is left spreads as that of the shared seeds: compared with a design of hardly more."""
    each = variances(n, K, rho)
    share = each[:3].sum() / each.sum()
    few = typical_paired(Layout(2, n, K, paired=True), rho)
    alone = (0.4, 3 + 1e-9, 3) if n > K else (0.4, 3, 3 + 1e-9)
    whole = typical_paired(Layout(2, *alone[1:], paired=True), alone[0])
    spread = [weight @ (ratio[:, 0] - weight @ ratio[:, 0]) ** 2 for ratio, weight in (few, whole)]
    assert spread[0] / spread[1] == pytest.approx(share**2, rel=0.1)
    assert few[1] @ few[0][:, 0] == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize(("n", "T", "rho"), [(3, 2, 0.4), (4, 5, 0.2)])
def test_the_residual_that_reml_finds_is_that_of_simulated_runs(n: int, T: int, rho: float):
    rng = np.random.default_rng(6)
    y = (1 - rho) ** 0.5 * rng.normal(size=(100_000, T + 1, n))
    y += rho**0.5 * rng.normal(size=(100_000, 1, n))
    y -= y.mean(axis=2, keepdims=True)
    seeds = (T + 1) * (y.mean(axis=1) ** 2).sum(axis=1)
    own = (y**2).sum(axis=(1, 2)) - seeds
    over_own = np.minimum(1, (own + seeds) / own * T / (T + 1))
    within = over_own * own / (T * (n - 1)) / (1 - rho)
    found = residuals(Layout(T, n, n, paired=True), rho, 99)
    assert found.df == (T + 1) * (n - 1)
    assert found.weight.sum() == pytest.approx(1)
    for k in (1, 2):
        assert found.weight @ found.over_own**k == pytest.approx((over_own**k).mean(), rel=0.002)
        chi_square = (1.0, 1 + 2 / found.df)[k - 1]
        expected = chi_square * found.weight @ found.scale ** (2 * k)
        assert expected == pytest.approx((within**k).mean(), rel=0.01)


@pytest.mark.parametrize(("K", "paired"), [(3, False), (5, False), (5, True)])
def test_other_layouts_have_the_residual_of_the_model(K: int, paired: bool):
    found = residuals(Layout(2, 3, K, paired), 0.4, 7.5)
    assert found.df == 7.5
    assert found.over_own.tolist() == found.scale.tolist() == found.weight.tolist() == [1]


def test_the_noise_of_a_design_is_that_of_its_closed_form():
    blocks = _noise(Layout(3, 4, 4, paired=True), 0.4)
    assert (blocks.se, blocks.df, blocks.df_own) == (pytest.approx((2 * 0.6 / 4) ** 0.5), 9, 3)
    assert blocks.loading**2 == pytest.approx(0.5)
    apart = _noise(Layout(3, 4, 7, paired=False), 0.0)
    assert (apart.se, apart.df) == (pytest.approx((1 / 4 + 1 / 7) ** 0.5), 3 * 3 + 6)
    assert apart.loading**2 == pytest.approx(4 / 11)
    assert [_noise(Layout(3, *runs, paired=False), 0.0).df_own for runs in ((1, 7), (4, 1))] == [
        0,
        0,
    ]


@pytest.mark.parametrize(("T", "n", "K"), [(2, 4, 7), (3, 7, 4), (3, 2, 3)])
def test_the_noise_of_partly_paired_runs_is_that_of_the_model_s_fit(T: int, n: int, K: int):
    """Its standard error lies between those before and after Kenward and Roger's adjustment."""
    rho = 0.5
    runs = [K, *[n] * T]
    arm, seed = np.repeat(np.arange(T + 1), runs), np.concatenate([np.arange(k) for k in runs])
    fit = fit_of_design(arm, seed, rho, 1 - rho)
    c = np.eye(T + 1)[1] - np.eye(T + 1)[0]
    found, known = _noise(Layout(T, n, K, paired=True), rho), fit.against_baseline()
    assert c @ fit.cov_model @ c < found.se**2 < c @ fit.cov @ c
    assert found.df == known.df[0]
    assert found.loading**2 == pytest.approx(known.correlation[0, 1])
    assert 0 < found.df_own < n + K - 2
    for one in ((1, 5), (5, 1)):
        assert _noise(Layout(T, *one, paired=True), rho).df_own == 0
