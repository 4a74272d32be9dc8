"""What own variances say of unequal noise: closed forms, limma, and a plain grid."""

import numpy as np
import pytest
from scipy import integrate, special

from analysis.stats.moderated.own_variance import OwnVariance
from analysis.stats.moderated.posterior import (
    BLOCK,
    Posterior,
    equally_noisy,
    fit_posterior,
    gauss_rule,
)


def plain_grid(R, d, z):
    """Return w and the averaged tails by sums over a plain grid of log d0 and log s0^2."""
    log_d0 = np.linspace(np.log(0.02), np.log(1e5), 250)[:, None]
    u = np.linspace(np.log(R.min()) - 60, np.log(R.max()) + 12, 1500)
    d0 = np.exp(log_d0)
    B = d0 / (d0 + np.median(d))
    log_f = np.log(B * (1 - B)) + np.log(log_d0[1] - log_d0[0]) + np.log(u[1] - u[0])
    for R_t, d_t in zip(R, d, strict=True):
        x = R_t * np.exp(-u)
        log_f = log_f + d_t / 2 * np.log(d_t * x / d0) - special.betaln(d_t / 2, d0 / 2)
        log_f -= (d_t + d0) / 2 * np.log1p(d_t * x / d0)
    log_c = np.linspace(-20, 20, 20_001)[:, None]
    log_equal = d / 2 * (np.log(d / 2 * R) - log_c) - d / 2 * R / np.exp(log_c)
    log_equal = (log_equal - special.gammaln(d / 2)).sum(axis=1)
    equal, unequal = np.exp(log_equal).sum() * 0.002, np.exp(log_f)
    weight = unequal / unequal.sum()
    tails = []
    for R_t, d_t in zip(R, d, strict=True):
        phi = (d_t * R_t + d0 * np.exp(u)) / (d_t + d0)
        tails.append((weight * 2 * special.stdtr(d_t + d0, -z / np.sqrt(phi))).sum())
    return equal / (equal + unequal.sum()), np.array(tails)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("R", "d"), [([0.01, 0.3, 9.0], [1.0] * 3), (np.linspace(0.45, 1.9, 24), [20.0] * 24)]
)
def test_the_quadrature_agrees_with_a_plain_grid(R, d):
    R, d = np.array(R), np.array(d)
    own = OwnVariance(R, d)
    posterior = fit_posterior(own)
    for z in (0.7, 2.5, 5.0):
        w, tails = plain_grid(R, d, z)
        assert posterior.equal == pytest.approx(w, abs=1e-4)
        assert posterior.tail(np.full(len(R), z), own) == pytest.approx(tails, abs=1e-4)


def exact(R, d, z):
    """Return w and the first tail by adaptive quadrature over B and log s0^2."""
    middle = np.median(d)

    def likelihood(u, B):
        d0 = middle * B / (1 - B)
        x = d * R * np.exp(-u) / d0
        log_f = d / 2 * np.log(x) - (d + d0) / 2 * np.log1p(x) - special.betaln(d / 2, d0 / 2)
        return np.exp(log_f.sum())

    def tail(u, B):
        d0 = middle * B / (1 - B)
        variance = (d[0] * R[0] + d0 * np.exp(u)) / (d[0] + d0)
        return likelihood(u, B) * 2 * special.stdtr(d[0] + d0, -z / variance**0.5)

    ends = np.log(R.min()) - 40, np.log(R.max()) + 25
    sums = [
        integrate.dblquad(f, 0.0, 1.0, *ends, epsabs=1e-10, epsrel=1e-6)[0]
        for f in (likelihood, tail)
    ]
    S = (d * R).sum()
    terms = d / 2 * np.log(d * R / S) - special.gammaln(d / 2)
    equal = np.exp(terms.sum() + special.gammaln(d.sum() / 2))
    return equal / (equal + sums[0]), sums[1] / sums[0]


@pytest.mark.parametrize(
    ("R", "d"),
    [
        ([0.4, 2.0, 0.9], [3.0, 3.0, 5.0]),
        ([0.04, 0.8, 0.5, 1.2, 2.1], [2.0] * 5),
        ([0.9, 1.1, 1.0], [2.0, 3.5, 9.0]),
        ([0.7, 1.6, 1.2, 0.9], [30.0] * 4),
        ([0.2, 0.9, 3.0], [9.0, 9.0, 20.0]),
    ],
)
def test_the_quadrature_agrees_with_adaptive_integrals_to_five_digits(R, d):
    R, d = np.array(R), np.array(d)
    own = OwnVariance(R, d)
    posterior = fit_posterior(own)
    w, tail = exact(R, d, 2.5)
    assert posterior.equal == pytest.approx(w, abs=5e-6)
    assert posterior.tail(np.full(len(R), 2.5), own)[0] == pytest.approx(tail, abs=5e-7)
    assert posterior.weight.sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("d", [1.0, 2.0, 7.5, 40.0])
def test_one_difference_says_nothing_of_unlikeness_and_is_judged_by_its_own_t(d):
    own = OwnVariance(np.array([0.6]), np.array([d]))
    posterior = fit_posterior(own)
    assert posterior.equal == pytest.approx(0.5, abs=1e-6)
    for z in (0.5, 2.0, 6.0):
        expected = 2 * special.stdtr(d, -z / 0.6**0.5)
        assert posterior.tail(np.array([z]), own) == pytest.approx([expected], abs=1e-4)


def test_at_fixed_prior_it_is_limma_s_moderated_t(r_numbers):
    known = r_numbers["limma"]
    y = np.array(known["differences"])
    own = OwnVariance(y.var(axis=1, ddof=1) / 4, np.full(8, 3.0))
    prior = [np.array([known[name]]) for name in ("d0", "s2_prior")]
    posterior = Posterior(np.array(0.0), prior[0], prior[1] / 4, np.ones(1))
    variance, df = posterior.moderated(own.ratio, own.df)
    assert 4 * variance[:, 0] == pytest.approx(np.array(known["squeezed"]), rel=1e-9)
    assert df[:, 0] == pytest.approx(known["df"], rel=1e-9)
    assert posterior.tail(np.abs(y.mean(axis=1)), own) == pytest.approx(known["p"], rel=1e-8)


@pytest.mark.parametrize(("d0", "df", "variance"), [(1e9, 1e9, 1.3), (1e-9, 4.0, 0.2)])
def test_a_firm_prior_replaces_the_own_variance_and_a_vague_one_leaves_it(d0, df, variance):
    own = OwnVariance(np.array([0.2]), np.array([4.0]))
    one = np.ones(1)
    tail = Posterior(np.array(0.0), one * d0, one * 1.3, one).tail(one * 2.0, own)
    assert tail == pytest.approx([2 * special.stdtr(df, -2 / variance**0.5)], rel=1e-6)


def test_many_equally_noisy_arms_are_found_so_and_unequal_ones_are_not():
    rng = np.random.default_rng(0)
    d = np.full(40, 7.0)
    chance = rng.chisquare(7, 40) / 7
    even = fit_posterior(OwnVariance(chance, d))
    uneven = fit_posterior(OwnVariance(chance * np.exp(rng.normal(0, 1, 40)), d))
    assert even.equal > 0.8
    assert uneven.equal < 1e-6
    own = OwnVariance(np.ones(1), np.array([7.0]))
    assert even.tail(np.array([2.0]), own)[0] == pytest.approx(2 * special.ndtr(-2.0), abs=0.005)


def test_studies_of_one_design_can_be_judged_at_once():
    rng = np.random.default_rng(1)
    R, d = rng.chisquare(3, (6, 4)) / 3, np.full(4, 3.0)
    together = fit_posterior(OwnVariance(R, d))
    z = np.full((6, 4), 2.0)
    for i, row in enumerate(R):
        own = OwnVariance(row, d)
        alone = fit_posterior(own)
        assert together.equal[i] == pytest.approx(alone.equal, rel=1e-9)
        tails = together.tail(z, OwnVariance(R, d))[i]
        assert tails == pytest.approx(alone.tail(z[i], own), rel=1e-9)


def test_more_arms_than_a_block_are_the_sum_of_all():
    rng = np.random.default_rng(2)
    R = rng.chisquare(4, BLOCK + 9) / 4
    own = OwnVariance(R, np.full(len(R), 4.0))
    turned = OwnVariance(R[::-1], own.df)
    assert fit_posterior(own).equal == pytest.approx(fit_posterior(turned).equal, rel=1e-9)
    z = np.full(len(R), 2.0)
    tails = fit_posterior(own).tail(z, own)
    assert tails == pytest.approx(fit_posterior(turned).tail(z, turned)[::-1], rel=1e-7)


def test_a_reduced_rule_has_the_moments_of_its_measure():
    x, weight = np.linspace(-2, 3, 50), np.full(50, 0.02)
    nodes, weights = gauss_rule(x, weight, 5)
    for power in range(10):
        assert weights @ nodes**power == pytest.approx(weight @ x**power, rel=1e-9)


def test_nothing_known_of_any_difference_leaves_the_model_alone():
    posterior = fit_posterior(OwnVariance(np.ones(3), np.zeros(3)))
    assert posterior.equal == equally_noisy().equal == 1


def test_differences_without_an_own_variance_do_not_count_in_the_posterior():
    known = OwnVariance(np.array([0.4, 2.0, 0.9]), np.array([3.0, 3.0, 5.0]))
    more = OwnVariance(np.array([0.4, 7.0, 2.0, 0.9]), np.array([3.0, 0.0, 3.0, 5.0]))
    alone, with_it = fit_posterior(known), fit_posterior(more)
    assert with_it.equal == alone.equal
    assert (with_it.s2 == alone.s2).all()
    tails = with_it.tail(np.full(4, 2.0), more)
    assert tails[[0, 2, 3]] == pytest.approx(alone.tail(np.full(3, 2.0), known))


def test_studies_of_equally_noisy_differences_have_a_posterior_each():
    posterior = fit_posterior(OwnVariance(np.ones((5, 3)), np.zeros(3)))
    assert posterior.equal.tolist() == [1] * 5
    assert posterior.d0.shape == posterior.s2.shape == posterior.weight.shape == (5, 1)


def test_no_contrast_has_no_tail():
    nothing = OwnVariance(np.empty(0), np.empty(0))
    assert fit_posterior(OwnVariance(np.ones(2), np.ones(2))).tail(np.empty(0), nothing).size == 0


@pytest.mark.parametrize("spread", [1e-9, 1e-3, 1e3])
def test_own_variances_however_far_apart_leave_numbers(spread):
    R = np.array([1.0, spread, 0.3])
    own = OwnVariance(R, np.full(3, 2.0))
    posterior = fit_posterior(own)
    assert 0 <= posterior.equal < 0.5
    assert np.isfinite(posterior.tail(np.full(3, 2.0), own)).all()
    scaled = fit_posterior(OwnVariance(R * 100, own.df))
    assert scaled.equal == pytest.approx(posterior.equal, abs=1e-6)
    assert scaled.s2 @ scaled.weight == pytest.approx(100 * (posterior.s2 @ posterior.weight))
