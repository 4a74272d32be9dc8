"""The default judgement of differences: known answers, limits and invariances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from analysis.stats.dunnett import step_down, two_sided_p
from analysis.stats.linear import baseline_weights, fit_pooled
from analysis.stats.mixed import fit_mixed
from analysis.stats.moderated.model import moderate
from analysis.stats.moderated.own_variance import OwnVariance

DEMO = [
    [2.6316, 2.6643, 2.6498],  # baseline
    [2.6247, 2.6538, 2.6454],
    [2.3772, 2.3891, 2.4026],
    [2.5920, 2.6074, 2.6145],
    [2.6316, 2.6687, 2.6483],
    [2.6128, 2.6206, 2.6401],
    [2.6276, 2.6610, 2.6460],
    [3.0110, 3.0082, 2.9850],
]


def model(table, *, keep=None, pooled=False):
    """Return the moderated mixed model of an (A, n) table, or of some of its runs."""
    table = np.asarray(table, dtype=float)
    arm, seed = (index.ravel() for index in np.indices(table.shape))
    keep = np.ones(len(arm), dtype=bool) if keep is None else np.asarray(keep).ravel()
    runs = table.ravel()[keep], arm[keep], seed[keep]
    return moderate(fit_mixed(*runs), *runs, pooled=pooled)


def noisy(rng, n_arms, n, spread=1.0):
    own = np.exp(rng.uniform(-spread, spread, (n_arms, 1)))
    return 3.7 + rng.normal(0, 0.01, n) + 0.005 * own * rng.normal(size=(n_arms, n))


def test_the_demo_study_has_the_published_figures():
    found = model(DEMO).against_baseline()
    assert found.found.se == pytest.approx(np.full(7, 0.00924134), abs=5e-9)
    assert found.found.df == pytest.approx(np.full(7, 14.0))
    assert found.equal == pytest.approx(0.335, abs=5e-4)
    p = [0.512, 0.0003, 0.0130, 0.809, 0.158, 0.664, 0.0004]
    assert found.p_adj == pytest.approx(p, abs=5e-4)
    assert found.p_adj[[1, 2, 6]] == pytest.approx([0.00029, 0.01301, 0.00037], abs=5e-6)
    half = [0.0242, 0.0375, 0.0320, 0.0242, 0.0440, 0.0238, 0.0572]
    assert found.half_width(0.05) == pytest.approx(half, abs=6e-5)


def test_a_single_pair_of_arms_has_the_paired_t_and_unpaired_the_two_sample_t():
    table = np.array(DEMO)[[0, 3]]
    found = model(table).against_baseline()
    assert found.p_adj == pytest.approx(stats.ttest_rel(table[1], table[0]).pvalue, abs=1e-4)
    y, arm = np.append(table[0], table[1]), np.repeat([0, 1], 3)
    found = moderate(fit_pooled(y, arm), y, arm, np.arange(6)).against_baseline()
    expected = two_sided_p(found.found.estimate / found.found.se, 4)
    assert found.p_own == pytest.approx(expected)
    assert found.p_adj == pytest.approx(expected, abs=1e-4)


def test_an_arm_of_one_run_has_the_prior_s_noise_and_is_marked():
    keep = np.ones((8, 3), dtype=bool)
    keep[2, 1:] = False
    found = model(DEMO, keep=keep).against_baseline()
    assert list(found.own.df == 0) == [False, True, *[False] * 5]
    posterior = found.posterior
    own = OwnVariance(np.array([123.0]), np.zeros(1))
    expected = 2 * special.stdtr(posterior.d0, -2 / np.sqrt(posterior.s2)) @ posterior.weight
    assert posterior.tail(np.array([2.0]), own) == pytest.approx([expected])
    assert found.half_width(0.05)[1] > 5 * found.half_width(0.05)[0]
    assert np.isnan(found.p_own[1])


def test_arms_of_one_run_each_are_judged_by_the_model_alone():
    y, arm = np.array([3.70, 3.71, 3.69, 3.72, 3.60, 3.66]), np.array([0, 0, 0, 0, 1, 2])
    fit = fit_pooled(y, arm)
    found = moderate(fit, y, arm, np.arange(6)).against_baseline()
    assert found.equal == 1
    t = found.found.estimate / found.found.se
    loadings = np.full(2, (1 / 5) ** 0.5)
    assert found.p_adj == pytest.approx(step_down(t, loadings, 3), rel=1e-6)


def test_pooled_is_the_model_alone_whatever_the_own_variances_say():
    found = model(DEMO, pooled=True).against_baseline()
    t = found.found.estimate / found.found.se
    assert found.p_adj == pytest.approx(step_down(t, np.full(7, 0.5**0.5), 14), rel=1e-6)
    assert found.half_width(0.05) == pytest.approx(np.full(7, found.half_width(0.05)[0]))
    assert found.p_raw == pytest.approx(2 * special.stdtr(14.0, -np.abs(t)))
    assert found.p_own[1] == pytest.approx(stats.ttest_rel(DEMO[2], DEMO[0]).pvalue)


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


def test_no_figure_depends_on_what_else_is_asked():
    whole = model(DEMO)
    L = baseline_weights(8)
    alone = [whole.contrast(row) for row in L]
    together = whole.contrast(np.vstack([L, np.eye(8)[1] - np.eye(8)[2]]))
    assert [one.p_raw[0] for one in alone] == pytest.approx(together.p_raw[:7], rel=1e-12)
    each = [one.half_width_each(0.05)[0] for one in alone]
    assert each == pytest.approx(together.half_width_each(0.05)[:7], rel=1e-7)


@given(
    draw=st.integers(0, 10**6),
    n_arms=st.integers(3, 6),
    n=st.integers(2, 4),
    shift=st.floats(-5, 5),
    scale=st.floats(0.01, 100),
)
@settings(max_examples=25)
def test_order_shift_and_scale_change_nothing(draw, n_arms, n, shift, scale):
    rng = np.random.default_rng(draw)
    table = noisy(rng, n_arms, n)
    found = model(table).against_baseline()
    order = rng.permutation(n_arms - 1)
    moved = scale * (table[np.append(0, 1 + order)][:, rng.permutation(n)] + shift)
    other = model(moved).against_baseline()
    assert other.equal == pytest.approx(found.equal, abs=1e-6)
    assert other.p_adj == pytest.approx(found.p_adj[order], abs=1e-6)
    half = found.half_width(0.05)[order]
    assert other.half_width(0.05) / scale == pytest.approx(half, rel=1e-4)


@given(
    draw=st.integers(0, 10**6),
    n_arms=st.integers(2, 7),
    n=st.integers(2, 5),
    alpha=st.sampled_from([0.2, 0.05, 0.001]),
    rope=st.floats(1e-4, 0.05),
)
@settings(max_examples=40)
def test_p_intervals_and_equivalence_agree_with_each_other(draw, n_arms, n, alpha, rope):
    rng = np.random.default_rng(draw)
    table = noisy(rng, n_arms, n, spread=3.0)
    table[1] -= 0.02
    found = model(table, keep=[[True] * n, [True] * n, *[rng.random(n) < 0.8] * (n_arms - 2)])
    found = found.against_baseline()
    if not (found.found.df > 1.5).all():
        return
    p, size = found.p_adj, np.abs(found.found.estimate)
    assert (found.p_raw <= p * 1.001 + 1e-6).all()
    assert (p <= 1 + 1e-9).all()
    half, each = found.half_width(alpha), found.half_width_each(alpha)
    assert (each <= half * 1.001).all()
    assert (p[size > half * 1.001] < alpha).all()
    clear = np.abs(size / each - 1) > 1e-4
    assert np.array_equal((found.p_raw < alpha)[clear], (size > each)[clear])
    same = found.equivalence(rope, alpha)
    inside = same.p_adj < alpha * (1 - 1e-6)
    assert (size + same.half_width < rope * (1 + 1e-5))[inside].all()
    assert (same.p_adj[size >= rope] >= 0.5).all()


def test_equivalence_is_two_one_sided_tests_adjusted_by_holm():
    found = model(DEMO, pooled=True).against_baseline()
    gap = 0.04 - np.abs(found.found.estimate)
    one_sided = special.stdtr(14.0, -gap / found.found.se)
    ranked = np.sort(one_sided)
    holm = np.minimum(np.maximum.accumulate(ranked * np.arange(7, 0, -1)), 1)
    assert np.sort(found.equivalence(0.04, 0.05).p_adj) == pytest.approx(holm)


def test_power_is_half_where_the_difference_is_the_half_width_of_a_certain_noise():
    rng = np.random.default_rng(3)
    found = model(noisy(rng, 5, 60, spread=0.0)).against_baseline()
    half = found.half_width(0.05)
    assert found.power(float(half[0]), half)[0] == pytest.approx(0.5, abs=0.01)
    assert (found.power(0.0, half) < 0.025).all()
    assert (found.power(10 * float(half.max()), half) > 0.999).all()


def test_an_interval_from_the_prior_s_tail_alone_ends_where_differences_can_lie_or_nowhere():
    losses = np.array([[2.5, 2.512, 2.507], [2.451, 2.463, 2.456], [2.49, 2.515, 2.48], [2.4] * 3])
    keep = np.array([[True] * 3] * 3 + [[True, False, False]])
    loud, quiet = model(losses, keep=keep), model(losses + 1e5, keep=keep)
    half, raised = (found.against_baseline().half_width(0.05) for found in (loud, quiet))
    assert np.isinf(half[2])
    assert 5 < raised[2] < np.inf, "the same spread, among larger losses"
    assert half[:2] == pytest.approx(raised[:2], rel=1e-6)
    stack = np.array([[1.0, -1.0, -1.0, 1.0]])
    assert np.isinf(loud.contrast(stack).half_width_each(1e-3))
    assert loud.against_baseline().power(0.01, half)[2] == 0
