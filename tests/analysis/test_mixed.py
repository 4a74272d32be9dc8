import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.stats.dunnett import two_sided_p
from analysis.stats.linear import clear_rounding, fit_pooled, least_squares
from analysis.stats.mixed import fit_mixed, fit_of_design, gather, reml_log_likelihood, seed_index


def columns(rows):
    names = ["baseline", *sorted({row["arm"] for row in rows} - {"baseline"})]
    return (
        [row["loss"] for row in rows],
        [names.index(row["arm"]) for row in rows],
        seed_index([row["seed"] for row in rows]),
    )


@pytest.mark.parametrize("design", ["partial", "unbalanced", "blocks", "boundary"])
def test_reml_and_kenward_roger_agree_with_lme4_and_pbkrtest(r_numbers, design):
    known = r_numbers[design]
    y, arm, seed = columns(known["data"])
    fit = fit_mixed(y, arm, seed)
    contrasts = fit.against_baseline()
    assert fit.var_init == pytest.approx(known["var_init"], rel=1e-6, abs=1e-12)
    assert fit.var_resid == pytest.approx(known["var_resid"], rel=1e-6)
    likelihood = reml_log_likelihood(gather(y, arm, seed), fit.var_init, fit.var_resid)
    assert likelihood == pytest.approx(known["logLik"], abs=1e-6)
    for name, values in (("delta", contrasts.estimate), ("se", contrasts.se), ("df", contrasts.df)):
        assert values == pytest.approx([row[name] for row in known["rows"]], rel=1e-6), name


def test_partial_pairing_gives_the_published_figures(r_numbers):
    fit = fit_mixed(*columns(r_numbers["partial"]["data"]))
    contrasts = fit.against_baseline()
    assert fit.var_init == pytest.approx(1.529740e-4, rel=1e-5)
    assert fit.var_resid == pytest.approx(3.57588e-6, rel=1e-5)
    assert contrasts.estimate == pytest.approx([-0.01383479, -0.04743479], abs=1e-8)
    assert contrasts.se == pytest.approx([0.0015474224] * 2, rel=1e-6)
    assert contrasts.df == pytest.approx([4.046235] * 2, rel=1e-6)
    p = two_sided_p(contrasts.estimate / contrasts.se, contrasts.df)
    assert p == pytest.approx([0.00082089, 6.05538e-6], rel=1e-5)


def test_dyestuff_gives_the_published_variances(r_numbers):
    rows = r_numbers["dyestuff"]["data"]
    y = [row["Yield"] for row in rows]
    seed = seed_index([row["Batch"] for row in rows])
    fit = fit_mixed(y, [0] * len(y), seed)
    assert fit.var_init == pytest.approx(1764.05, rel=1e-6)
    assert fit.var_resid == pytest.approx(2451.25, rel=1e-6)
    assert fit.rho == pytest.approx(0.41849, abs=1e-5)
    blocks = gather(y, [0] * len(y), seed)
    likelihood = reml_log_likelihood(blocks, fit.var_init, fit.var_resid)
    assert likelihood == pytest.approx(-159.8271384, abs=1e-6)


@pytest.mark.slow
def test_variances_agree_with_statsmodels(r_numbers):
    from statsmodels.regression.mixed_linear_model import MixedLM

    data = pd.DataFrame(r_numbers["unbalanced"]["data"])
    exog = pd.get_dummies(data["arm"], dtype=float).to_numpy()
    loss = (data["loss"] * 100).to_numpy()
    theirs = MixedLM(loss, exog, groups=data["seed"].to_numpy()).fit(reml=True)
    ours = fit_mixed(*columns(r_numbers["unbalanced"]["data"]))
    assert ours.var_resid * 1e4 == pytest.approx(theirs.scale, rel=1e-3)
    assert ours.var_init * 1e4 == pytest.approx(float(theirs.cov_re.item()), rel=1e-3)


def test_complete_blocks_are_blocked_analysis_of_variance():
    rng = np.random.default_rng(3)
    T, n = 4, 5
    loss = rng.normal(0, 0.02, n)[None, :] + rng.normal(0, 0.004, (T + 1, n))
    arm, seed = np.indices(loss.shape)
    fit = fit_mixed(loss.ravel(), arm.ravel(), seed.ravel())
    residual = loss - loss.mean(axis=0) - loss.mean(axis=1)[:, None] + loss.mean()
    ms = (residual**2).sum() / (T * (n - 1))
    contrasts = fit.against_baseline()
    assert contrasts.df == pytest.approx(T * (n - 1), rel=1e-9)
    assert fit.df_resid == (T + 1) * (n - 1)
    assert contrasts.se == pytest.approx(np.sqrt(2 * ms / n), rel=1e-7)
    assert contrasts.estimate == pytest.approx(loss[1:].mean(axis=1) - loss[0].mean(), abs=1e-12)


def test_the_general_search_and_the_closed_form_of_complete_blocks_agree():
    from analysis.stats import mixed

    rng = np.random.default_rng(4)
    loss = rng.normal(0, 0.02, 6)[None, :] + rng.normal(0, 0.01, (3, 6))
    arm, seed = np.indices(loss.shape)
    blocks = gather(loss.ravel(), arm.ravel(), seed.ravel())
    exact = mixed._complete_ratio(blocks)
    around = [exact * f for f in (0.9, 0.999, 1.0, 1.001, 1.1)]
    likelihoods = []
    for ratio in around:
        residual = mixed._solve(blocks, ratio).rss / 15
        likelihoods.append(reml_log_likelihood(blocks, ratio * residual, residual))
    assert np.argmax(likelihoods) == 2


def test_distinct_seeds_give_the_one_way_analysis():
    rng = np.random.default_rng(5)
    arm = np.array([0] * 5 + [1] * 3 + [2] * 4)
    y = rng.normal(3.7, 0.01, len(arm))
    mixed, pooled = fit_mixed(y, arm, np.arange(len(arm))), fit_pooled(y, arm)
    assert mixed.means == pytest.approx(pooled.means)
    assert mixed.sd_total == pytest.approx(pooled.sd_total, rel=1e-6)


def test_seeds_that_part_their_runs_have_no_variance_of_their_own():
    loss, arm, seed = (
        [1.0, 2.0, 3.0, 5.1, 4.0, 3.0, 3.5],
        [0, 0, 0, 1, 1, 1, 1],
        [0, 1, 2, 0, 1, 2, 3],
    )
    assert fit_mixed(loss, arm, seed).var_init == 0


def test_the_rounding_of_equal_losses_is_no_noise():
    fit = fit_pooled([0.1 + 0.2, 0.3, 0.5, 0.5], [0, 0, 1, 1])
    assert fit.var_resid == 0
    assert fit.against_baseline().df == 0
    assert fit_pooled([1e6, np.nextafter(1e6, 2e6)], [0, 0]).var_resid == 0
    assert fit_pooled([0.3, 0.3 + 1e-9], [0, 0]).var_resid > 0


def test_a_design_of_the_variances_that_runs_show_has_the_errors_of_their_fit(r_numbers):
    y, arm, seed = columns(r_numbers["unbalanced"]["data"])
    runs = fit_mixed(y, arm, seed)
    design = fit_of_design(arm, seed, runs.var_init, runs.var_resid)
    ours, theirs = (fit.against_baseline() for fit in (design, runs))
    assert ours.se == pytest.approx(theirs.se)
    assert ours.df == pytest.approx(theirs.df)


def test_one_run_of_each_arm_shows_no_variance():
    fit = fit_pooled([1.0, 2.0], [0, 1])
    assert (fit.var_resid, fit.df_resid, fit.cov.tolist()) == (0, 0, [[0, 0], [0, 0]])


def test_pooled_fit_has_textbook_standard_errors():
    y = [1.0, 2.0, 3.0, 5.0, 9.0, 1.0]
    contrasts = fit_pooled(y, [0, 0, 0, 1, 1, 2]).against_baseline()
    ms = (2.0 + 8.0) / 3
    assert contrasts.se == pytest.approx(np.sqrt(ms * np.array([1 / 3 + 1 / 2, 1 / 3 + 1])))
    assert contrasts.df == pytest.approx([3.0, 3.0])


@given(
    shift=st.floats(-100, 100),
    scale=st.floats(1e-3, 1e3),
    order=st.permutations(range(12)),
)
@settings(max_examples=25)
def test_shift_scale_and_order_of_the_rows_do_not_matter(shift, scale, order):
    y = np.array([3.70, 3.69, 3.71, 3.68, 3.69, 3.66, 3.70, 3.66, 3.65, 3.64, 3.66, 3.63])
    arm = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    seed = np.array([0, 1, 2, 3, 0, 1, 2, 4, 0, 1, 5, 6])
    base = fit_mixed(y, arm, seed).against_baseline()
    i = np.array(order)
    moved = fit_mixed((shift + scale * y)[i], arm[i], seed[i]).against_baseline()
    assert moved.estimate == pytest.approx(scale * base.estimate, rel=1e-5, abs=1e-9 * scale)
    assert moved.se == pytest.approx(scale * base.se, rel=1e-5)
    assert moved.df == pytest.approx(base.df, rel=1e-5)


def test_runs_that_arm_and_seed_explain_whole_give_the_arms_true_differences():
    arms, seeds = np.array([3.7, 3.4, 3.9]), np.array([0.0, 0.3, -0.2, 0.1])
    arm, seed = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2]), np.array([0, 1, 2, 3, 0, 1, 2, 2, 3])
    found = fit_mixed(arms[arm] + seeds[seed], arm, seed)
    assert found.var_resid == 0
    assert found.against_baseline().estimate == pytest.approx(arms[1:] - arms[0], abs=1e-8)


@pytest.mark.parametrize("complete", [True, False])
def test_losses_that_seeds_alone_explain_have_all_of_their_variance_from_seeds(complete):
    effect, shift = np.array([0.0, 0.3, -0.2, 0.5]), np.array([3.7, 3.4, 3.9])
    keep = np.ones((3, 4), dtype=bool)
    keep[2, 0] = complete
    arm, seed = (index[keep] for index in np.indices((3, 4)))
    fit = fit_mixed(shift[arm] + effect[seed], arm, seed)
    centred = [effect[row] - effect[row].mean() for row in keep]
    df = len(arm) - 3
    assert fit.var_init == pytest.approx(sum((x**2).sum() for x in centred) / df)
    assert (fit.method, fit.var_resid, fit.rho, fit.df_resid) == ("mixed", 0, 1, df)
    assert fit.sd_total == pytest.approx(fit.var_init**0.5)
    assert fit.n.tolist() == keep.sum(axis=1).tolist()
    assert fit.means[:2] == pytest.approx(shift[:2] + effect.mean(), abs=1e-6)
    found = fit.against_baseline()
    assert (found.se.tolist(), found.df.tolist()) == ([0, 0], [0, 0])
    assert found.correlation == pytest.approx(np.full((2, 2), 0.5))


@pytest.mark.parametrize("runs", [12, 11])
def test_equal_losses_at_every_seed_have_no_variance_at_all(runs):
    arm, seed = (index.ravel()[:runs] for index in np.indices((3, 4)))
    fit = fit_mixed(np.array([3.7, 3.4, 3.9])[arm], arm, seed)
    assert (fit.var_init, fit.var_resid, fit.rho, fit.sd_total) == (0, 0, 0, 0)


@pytest.mark.parametrize("n_arms", [1, 2])
def test_as_many_runs_as_arms_are_refused(n_arms):
    arms = range(n_arms)
    with pytest.raises(ValueError, match=f"^{n_arms} runs in {n_arms} arms leave no residual$"):
        fit_mixed([1.0, 2.0][:n_arms], arms, arms)


def test_a_variance_counts_from_a_trillionth_of_the_losses_size_on():
    assert clear_rounding(1.01e-24, -1.0) == 1.01e-24
    assert clear_rounding(0.99e-24, -1.0) == 0
    assert clear_rounding(0.99e-24, 0.9) == 0.99e-24
    assert clear_rounding(0.0, 0.0) == 0


def test_a_pooled_fit_knows_all_of_its_figures():
    fit = fit_pooled([1.0, 2.0, 3.0, 5.0, 9.0, 1.0], [0, 0, 0, 1, 1, 2])
    ms = (2.0 + 8.0) / 3
    assert fit.method == "pooled"
    assert fit.n.tolist() == [3, 2, 1]
    assert fit.means == pytest.approx([2, 7, 1])
    assert fit.cov == pytest.approx(np.diag([ms / 3, ms / 2, ms]))
    assert (fit.var_init, fit.rho, fit.df_resid) == (0, 0, 3)
    assert fit.var_resid == pytest.approx(ms)
    assert fit.sd_total == pytest.approx(ms**0.5)
    correlation = fit.against_baseline().correlation
    assert correlation[0, 1] == pytest.approx((1 / 3) / ((1 / 3 + 1 / 2) * (1 / 3 + 1)) ** 0.5)
    one = fit.contrast([0.5, 0.5, -1.0])
    assert one.estimate == pytest.approx([3.5])
    assert one.se == pytest.approx([(ms * (1 / 12 + 1 / 8 + 1)) ** 0.5])


def test_least_squares_has_the_coefficients_and_errors_of_statsmodels():
    import statsmodels.api as sm

    rng = np.random.default_rng(7)
    X, y = sm.add_constant(rng.normal(size=(9, 2))), rng.normal(size=9)
    c, inverse, variance, df = least_squares(X, y)
    theirs = sm.OLS(y, X).fit()
    assert c == pytest.approx(theirs.params)
    assert inverse * variance == pytest.approx(theirs.cov_params())
    assert (variance, df) == (pytest.approx(theirs.mse_resid), 6)
