"""The default judgement of differences: known answers, limits and invariances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from analysis.stats.linear import baseline_weights, fit_pooled
from analysis.stats.mixed import fit_mixed
from analysis.stats.moderated.model import moderate
from analysis.stats.moderated.own_variance import OwnVariance
from analysis.stats.moderated.posterior import fit_posterior

DEMO = [
    [2.6316, 2.6643, 2.6498],  # baseline
    [2.6247, 2.6538, 2.6454],  # clipping
    [2.3772, 2.3891, 2.4026],  # higher lr
    [2.5920, 2.6074, 2.6145],  # no dropout
    [2.6316, 2.6687, 2.6483],  # qkv bias
    [2.6128, 2.6206, 2.6401],  # scheduled lr
    [2.6276, 2.6610, 2.6460],  # weight decay
    [3.0110, 3.0082, 2.9850],  # tying
]


def demo():
    loss = np.array(DEMO)
    arm, seed = np.indices(loss.shape).reshape(2, -1)
    return loss.ravel(), arm, seed


def judged(loss, arm, seed, **options):
    return moderate(fit_mixed(loss, arm, seed), loss, arm, seed, **options).against_baseline()


def test_the_demo_study_has_the_known_answer():
    found = judged(*demo())
    assert found.found.se == pytest.approx([0.00924134] * 7, rel=1e-5)
    assert found.found.df == pytest.approx([14] * 7, rel=1e-6)
    assert found.equal == pytest.approx(0.335, abs=5e-4)
    p = [0.512, 0.0003, 0.0130, 0.809, 0.158, 0.664, 0.0004]
    assert found.p_adj == pytest.approx(p, abs=6e-4)
    half = [0.0242, 0.0375, 0.0320, 0.0242, 0.0440, 0.0238, 0.0572]
    assert found.half_width(0.05) == pytest.approx(half, abs=6e-5)


def test_equal_noise_taken_for_granted_is_dunnett_alone():
    runs = demo()
    found, plain = judged(*runs, pooled=True), fit_mixed(*runs).against_baseline()
    assert found.equal == 1
    t = plain.estimate / plain.se
    assert found.p_raw == pytest.approx(2 * special.stdtr(plain.df, -np.abs(t)), abs=1e-12)


def test_other_contrasts_do_not_move_the_figures_of_these():
    loss, arm, seed = demo()
    model = moderate(fit_mixed(loss, arm, seed), loss, arm, seed)
    weights = baseline_weights(8)
    stack = np.array([[1.0, -1.0, -1.0, 1.0, 0, 0, 0, 0]])
    alone, beside = model.contrast(weights), model.contrast(np.vstack([weights, stack]))
    assert beside.p_raw[:7] == pytest.approx(alone.p_raw, rel=1e-12)
    assert model.contrast(stack).p_raw == pytest.approx(beside.p_raw[7:], rel=1e-12)


@settings(deadline=None, max_examples=20)
@given(shift=st.floats(-5, 5), scale=st.floats(0.01, 100), order=st.permutations(range(24)))
def test_shift_scale_and_order_of_the_runs_change_nothing_but_the_unit(shift, scale, order):
    loss, arm, seed = demo()
    order = np.array(order)
    found = judged(*demo())
    moved = judged(shift + scale * loss[order], arm[order], seed[order])
    assert moved.p_adj == pytest.approx(found.p_adj, rel=1e-4, abs=1e-9)
    assert moved.half_width(0.05) == pytest.approx(scale * found.half_width(0.05), rel=1e-4)


def test_the_moderated_tail_at_a_fixed_prior_is_that_of_smyth():
    """Smyth (2004): t with (d0 s0^2 + d R) / (d0 + d) for the variance and d0 + d df."""
    own = OwnVariance(np.array([0.2, 3.0, 1.0]), np.array([2.0, 4.0, 0.0]))
    posterior = fit_posterior(own)
    variance, df = posterior.moderated(own.ratio, own.df)
    assert posterior.weight.sum() == pytest.approx(1)
    z = np.array([1.0, 2.0, 3.0])
    by_hand = 2 * special.stdtr(df, -z[:, None] / np.sqrt(variance)) @ posterior.weight
    assert posterior.tail(z, own) == pytest.approx(by_hand, abs=2e-4)
    spare = df[0] - 2  # d0 of each node of the quadrature
    assert df[1] - 4 == pytest.approx(spare)
    assert df[2] == pytest.approx(spare)
    s0 = variance[2]
    assert variance[0] == pytest.approx((spare * s0 + 2 * 0.2) / (spare + 2))


def test_a_wild_arm_answers_for_its_own_noise_and_leaves_the_calm_ones_theirs():
    rng = np.random.default_rng(0)
    loss = np.concatenate([rng.normal(0, 0.01, 32), rng.normal(0, 0.5, 8)])
    arm = np.repeat(np.arange(5), 8)
    runs = loss, arm, np.arange(40)
    moderated = moderate(fit_pooled(*runs[:2]), *runs).against_baseline()
    pooled = moderate(fit_pooled(*runs[:2]), *runs, pooled=True).against_baseline()
    narrower = moderated.half_width(0.05) / pooled.half_width(0.05)
    assert moderated.equal < 0.01
    assert (narrower[:3] < 0.2).all()
    assert narrower[3] > 1


def test_an_arm_of_one_run_is_marked_and_gets_the_prior():
    loss = np.array([3.70, 3.71, 3.69, 3.70, 3.60, 3.61, 3.59, 3.60, 3.65])
    arm = np.array([0] * 4 + [1] * 4 + [2])
    found = moderate(fit_pooled(loss, arm), loss, arm, np.arange(9)).against_baseline()
    assert found.own_unknown == (False, True)
    assert np.isfinite(found.p_adj).all()
    assert np.isnan(found.p_own[1])


@pytest.mark.slow
def test_family_error_holds_where_differences_are_unequally_noisy():
    """400 null studies of four arms whose differences' sds are log-uniform over a factor of 67."""
    rng, wrong, studies = np.random.default_rng(3), 0, 400
    for _ in range(studies):
        sd = 0.01 * 67 ** rng.uniform(-0.5, 0.5, 4)
        base = rng.normal(0, 0.01, 4)
        loss = np.vstack([base, base + rng.normal(0, 1, (4, 4)) * sd[:, None]])
        arm, seed = np.indices(loss.shape).reshape(2, -1)
        wrong += bool((judged(loss.ravel(), arm, seed).p_adj < 0.05).any())
    assert wrong / studies < 0.05 + 2.5 * (0.05 * 0.95 / studies) ** 0.5


def test_a_plain_grid_over_the_priors_gives_the_same_answer():
    """The prior df over their range and the prior variance, summed point by point."""
    found = judged(*demo())
    R, d = found.own.ratio, found.own.df
    log_d0 = np.linspace(np.log(0.05), np.log(2000), 240)
    log_s2 = np.linspace(np.log(R).min() - 6, np.log(R).max() + 6, 500)
    d0, s2 = (x[..., None] for x in np.meshgrid(np.exp(log_d0), np.exp(log_s2), indexing="ij"))
    log_f = stats.f.logpdf(R / s2, d, d0) - np.log(s2)
    B = d0[..., 0] / (d0[..., 0] + np.median(d))
    log_weight = log_f.sum(axis=2) + np.log(B * (1 - B))
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    t = np.abs(found.found.estimate) / found.found.se
    tail = 2 * special.stdtr(d + d0, -t / np.sqrt((d * R + d0 * s2) / (d + d0)))
    by_grid = (tail * weight[..., None]).sum(axis=(0, 1))
    assert found.posterior.tail(t, found.own) == pytest.approx(by_grid, abs=5e-4)
