import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.stats.dunnett import (
    MAX_DISTINCT,
    critical_value,
    distinct,
    one_factor_loadings,
    sd_nodes,
    step_down,
    tail_probability,
    two_sided_p,
    z_nodes,
)

EQUAL = 0.5**0.5


@pytest.mark.parametrize(
    ("n_arms", "df", "expected"),
    [(3, 20, 2.54031), (8, 16, 2.97358), (8, 8, 3.35405), (8, 24, 2.86024)],
)
def test_critical_values_of_equal_groups_are_the_published_ones(n_arms, df, expected):
    assert critical_value([EQUAL] * n_arms, df) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("n_arms", "expected"), [(8, 3.65673), (9, 3.72821)])
def test_single_runs_against_eight_baselines_have_their_own_critical_value(n_arms, expected):
    loadings = [(1 / 9) ** 0.5] * n_arms
    assert critical_value(loadings, 7) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("threshold", "n_arms", "df", "correlation", "expected"),
    [
        (2.54031, 3, 20, 0.5, 0.050004070777),
        (2.97358, 8, 16, 0.5, 0.050005159857),
        (3.65673, 8, 7, 1 / 9, 0.050000205637),
        (1.77, 2, 27, 0.5, 0.154048630608),
    ],
)
def test_tail_agrees_with_adaptive_quadrature_to_ten_digits(
    threshold, n_arms, df, correlation, expected
):
    # The expected figures: scipy.integrate.quad in both dimensions at 1e-11.
    tail = tail_probability(threshold, [correlation**0.5] * n_arms, df)
    assert tail == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("df", [2, 3, 7, 40, 1e5])
@pytest.mark.parametrize("t", [0.1, 1.0, 3.0, 8.0])
def test_one_arm_is_an_ordinary_t_test(t, df):
    assert tail_probability(t, [0.3], df) == pytest.approx(float(two_sided_p(t, df)), rel=1e-6)


def test_plant_growth_agrees_with_multcomp(r_numbers):
    known = r_numbers["plant_growth"]
    t = np.array(known["estimate"]) / np.array(known["se"])
    assert t == pytest.approx([-1.330791, 1.771996], abs=1e-6)
    single = [tail_probability(abs(x), [EQUAL] * 2, 27) for x in t]
    assert single == pytest.approx(known["p"], abs=1e-5)
    assert single == pytest.approx([0.322694, 0.153483], abs=1e-5)
    assert critical_value([EQUAL] * 2, 27) == pytest.approx(2.33338, abs=1e-4)


def test_unequal_groups_and_step_down_agree_with_multcomp(r_numbers):
    known = r_numbers["oneway"]
    n = np.array([3, 4, 2, 6])
    loadings = np.sqrt(n / (n + 8))
    single = [tail_probability(abs(t), loadings, 18) for t in known["t"]]
    assert single == pytest.approx(known["p_single"], abs=2e-5)
    assert step_down(known["t"], loadings, 18) == pytest.approx(known["p_step_down"], abs=2e-5)


def test_known_sd_agrees_with_simulation_of_correlated_normals():
    rng = np.random.default_rng(1)
    loadings = np.array([0.2, 0.5, 0.9])
    shared, own = rng.normal(size=(400_000, 1)), rng.normal(size=(400_000, 3))
    z = loadings * shared + np.sqrt(1 - loadings**2) * own
    simulated = (np.abs(z).max(axis=1) > 2.2).mean()
    assert tail_probability(2.2, loadings, np.inf) == pytest.approx(simulated, abs=0.001)


def test_correlations_without_product_form_are_approximated_closely(r_numbers):
    from analysis.stats.linear import baseline_weights
    from analysis.stats.mixed import fit_mixed, seed_index

    rows = r_numbers["unbalanced"]["data"]
    names = ["baseline", "a", "b", "c"]
    fit = fit_mixed(
        [r["loss"] for r in rows],
        [names.index(r["arm"]) for r in rows],
        seed_index([r["seed"] for r in rows]),
    )
    R = fit.contrast(baseline_weights(4)).correlation
    loadings = one_factor_loadings(R)
    rng = np.random.default_rng(2)
    z = rng.multivariate_normal(np.zeros(3), R, 400_000)
    s = np.sqrt(rng.chisquare(10, 400_000) / 10)
    simulated = np.quantile(np.abs(z).max(axis=1) / s, 0.95)
    assert critical_value(loadings, 10) == pytest.approx(simulated, abs=0.02)


@given(
    t=st.lists(st.floats(-8, 8), min_size=1, max_size=6),
    loading=st.floats(0.0, 0.95),
    df=st.floats(3, 200),
)
@settings(max_examples=40)
def test_step_down_lies_between_raw_and_bonferroni_and_keeps_their_order(t, loading, df):
    raw = two_sided_p(t, df)
    adjusted = step_down(t, [loading] * len(t), df)
    assert (adjusted >= raw - 1e-9).all()
    assert (adjusted <= np.minimum(raw * len(t), 1) + 1e-7).all()
    assert (np.diff(adjusted[np.argsort(raw, kind="stable")]) >= -1e-12).all()


@given(
    t=st.lists(st.floats(0, 8), min_size=2, max_size=6),
    df=st.lists(st.floats(3, 60), min_size=6, max_size=6),
)
@example(t=[1 / 128, 1 / 128], df=[3.0] * 6)
@settings(max_examples=40)
def test_an_arm_whose_interval_leaves_out_zero_is_below_alpha_whatever_the_df(t, df):
    df, loadings = np.array(df[: len(t)]), [0.7] * len(t)
    single = [tail_probability(value, loadings, own) for value, own in zip(t, df, strict=True)]
    assert (step_down(t, loadings, df) <= np.array(single) + 1e-9).all()


def test_little_df_beside_much_does_not_raise_the_other_s_p():
    t, loadings, df = [3.72, 3.01, *[0.0] * 6], [0.63] * 8, [6.3, *[15.1] * 7]
    assert step_down(t, loadings, df)[0] <= tail_probability(t[0], loadings, df[0])


@given(st.lists(st.floats(0.05, 0.95), min_size=3, max_size=7))
@settings(max_examples=40)
def test_loadings_are_recovered_from_their_own_correlations(loadings):
    known = np.array(loadings)
    R = np.outer(known, known)
    np.fill_diagonal(R, 1)
    found = one_factor_loadings(R)
    products = np.outer(found, found)
    np.fill_diagonal(products, 1)
    assert products == pytest.approx(R, abs=2e-3)


def test_hundreds_of_distinct_loadings_are_rounded_to_the_safe_side():
    rng = np.random.default_rng(0)
    loadings = rng.uniform(0.4, 0.8, 200)
    coarse = critical_value(loadings, 500)
    exact = critical_value(np.repeat(np.sort(loadings)[::5], 5), 500)
    assert coarse == pytest.approx(exact, rel=2e-3)
    assert coarse >= critical_value([0.8] * 200, 500)


def test_loadings_are_rounded_only_where_there_are_too_many_of_them():
    few = np.linspace(0.1, 0.9, MAX_DISTINCT)
    assert distinct(few)[0] == pytest.approx(few, abs=1e-8)
    many, counts = distinct(np.linspace(0.1, 0.9, 3 * MAX_DISTINCT))
    assert len(many) <= MAX_DISTINCT
    assert counts.sum() == 3 * MAX_DISTINCT


@pytest.mark.parametrize("df", [1.0, 3.0, 30.0])
def test_the_ratio_of_an_estimated_sd_to_the_true_one_has_a_chi_square_s_moments(df):
    ratio, weights = sd_nodes(df)
    assert weights.sum() == pytest.approx(1, abs=1e-7)
    assert weights @ ratio**2 == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("loadings", [[EQUAL] * 3, [0.2, 0.5, 0.9], [0.99] * 3])
def test_the_tail_of_a_known_sd_is_that_of_a_multivariate_normal(loadings):
    R = np.outer(loadings, loadings)
    np.fill_diagonal(R, 1)
    for c in (0.7, 2.2, 3.1):
        inside = stats.multivariate_normal(np.zeros(3), R).cdf([c] * 3, lower_limit=[-c] * 3)
        assert tail_probability(c, loadings, np.inf) == pytest.approx(1 - inside, abs=2e-5)
    found = critical_value(loadings, np.inf, 0.1)
    assert tail_probability(found, loadings, np.inf) == pytest.approx(0.1, rel=1e-6)
    assert tail_probability(found, loadings, 1e8) == pytest.approx(0.1, rel=1e-6)


@pytest.mark.parametrize("df", [5.0, np.inf])
def test_one_arm_has_the_critical_value_of_student_s_t(df):
    assert critical_value([0.4], df, 0.1) == pytest.approx(stats.t.ppf(0.95, df))
    assert critical_value(0.4, df) == pytest.approx(stats.t.ppf(0.975, df))


@pytest.mark.parametrize("threshold", [0.0, -1.0])
def test_every_study_is_beyond_no_threshold(threshold):
    assert tail_probability(threshold, [EQUAL] * 2, 5) == 1


def test_one_arm_alone_needs_no_loading_and_correlations_below_zero_have_none():
    assert one_factor_loadings([[1.0]]).tolist() == [0.0]
    assert one_factor_loadings([[1.0, -0.4], [-0.4, 1.0]]) == pytest.approx([0, 0], abs=1e-9)
    same = one_factor_loadings(np.ones((3, 3)))
    assert same == pytest.approx([0.9999] * 3)


def test_step_down_gives_each_arm_the_tail_of_the_arms_no_more_extreme():
    t, loadings, df = np.array([0.5, -3.0, 2.4]), np.array([0.7, 0.6, 0.5]), 9
    expected = [
        tail_probability(0.5, [0.7], df),
        tail_probability(3.0, [0.7, 0.6, 0.5], df),
        tail_probability(2.4, [0.7, 0.5], df),
    ]
    assert step_down(t, loadings, df) == pytest.approx(expected, rel=1e-9)
    assert step_down([0.0, 0.0], [EQUAL] * 2, df).tolist() == [1, 1]


def test_with_unequal_df_the_first_arm_is_that_of_the_least_tail_of_all():
    """The larger t has 2 df: its tail is larger than the other's."""
    t, loadings, df = [4.0, 3.5], [0.5, 0.5], [2.0, 50.0]
    first = tail_probability(3.5, loadings, 50.0)
    assert step_down(t, loadings, df) == pytest.approx([tail_probability(4.0, [0.5], 2.0), first])


def test_the_nodes_of_a_normal_are_half_of_its_moments():
    z, weights = z_nodes(40)
    for power, moment in ((0, 1), (2, 1), (4, 3)):
        assert weights @ z**power == pytest.approx(moment, abs=1e-9)
    assert (z > 0).all()


@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_independent_arms_of_a_known_sd_have_sidak_s_critical_value(alpha):
    """It is hardly below Bonferroni's, from which the search begins."""
    expected = stats.norm.isf((1 - (1 - alpha) ** 0.5) / 2)
    assert critical_value([0.0, 0.0], np.inf, alpha) == pytest.approx(expected, abs=1e-9)
