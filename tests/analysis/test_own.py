import numpy as np
import pandas as pd
import pytest
from studies import study

from analysis import compare
from analysis.stats.linear import fit_pooled
from analysis.stats.mixed import fit_mixed
from analysis.stats.own import GUESS_POWER, MOST_WEIGHT, PRIOR_DF, UNHEARD_DF, _weight, guard

RNG = np.random.default_rng(20)


def blocks(n_arms, n, sd=0.01):
    """Return complete blocks: loss, arm, seed."""
    loss = 3.7 + RNG.normal(0, 0.02, n) + RNG.normal(0, sd, (n_arms, n))
    arm, seed = np.indices(loss.shape)
    return loss.ravel(), arm.ravel(), seed.ravel()


def test_with_shared_seeds_the_own_variance_is_that_of_the_paired_differences():
    loss, arm, seed = blocks(4, 6)
    fit = fit_mixed(loss, arm, seed)
    plain = fit.against_baseline()
    found = guard(fit, loss, arm, seed).against_baseline()
    table = loss.reshape(4, 6)
    ratio = (table[1:] - table[0]).var(axis=1, ddof=1) / (2 * fit.var_resid)
    apart = fit.var_resid / (fit.var_init + fit.var_resid)
    heard = 5 - UNHEARD_DF
    h = min(heard / (heard + PRIOR_DF * apart**1.5), MOST_WEIGHT)
    u = (1 - h) * h
    wanted = h * ratio + u * ratio.mean() + (1 - h - u)
    assert (found.se / plain.se) ** 2 == pytest.approx(wanted, rel=1e-9)
    shared = 1 - 0.5 / max(ratio.mean(), 1)
    spread = 5 / (1 / 3 + shared**2 * 2 / 3)
    guess = ((1 - apart) ** GUESS_POWER * (1 - h - u)) ** 2
    df = 1 / (h**2 / 5 + (2 * h * u + u**2) / spread + (1 - (h + u) ** 2) / 15 + guess)
    assert found.df == pytest.approx(df, rel=1e-6)
    assert found.estimate == pytest.approx(plain.estimate)


def test_without_shared_seeds_the_own_variance_is_welch_s():
    arm = np.repeat([0, 1, 2], [5, 4, 7])
    y = RNG.normal(3.7, 0.01, len(arm))
    fit = guard(fit_pooled(y, arm), y, arm, np.arange(len(arm)))
    ratio, df = fit.own._own(np.array([-1.0, 1.0, 0.0]), fit)
    welchs = y[arm == 1].var(ddof=1) / 4 + y[arm == 0].var(ddof=1) / 5
    assert ratio == pytest.approx(welchs / (fit.var_resid * (1 / 4 + 1 / 5)))
    assert df == pytest.approx((1 / 4 + 1 / 5) ** 2 / (1 / 4**2 / 3 + 1 / 5**2 / 4))


def test_the_own_variance_is_unbiased_under_the_model_in_any_design():
    arm = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
    seed = np.array([0, 1, 2, 3, 3, 0, 1, 1, 4, 5, 0, 2])
    y = RNG.normal(0, 1, len(arm)) + RNG.normal(0, 1, 6)[seed]
    fit = guard(fit_mixed(y, arm, seed), y, arm, seed)
    c = np.array([-1.0, 0.3, 0.7])
    n = np.bincount(arm)
    centred = np.eye(12) - (arm[:, None] == arm[None, :]) / n[arm][:, None]
    c_run = (c / n * np.sqrt(n / (n - 1)))[arm]
    B = ((seed[None, :] == np.arange(6)[:, None]) * c_run) @ centred
    V = fit.var_resid * np.eye(12) + fit.var_init * (seed[:, None] == seed[None, :])
    M = B @ V @ B.T
    ratio, df = fit.own._own(c, fit)
    assert ratio == pytest.approx(((B @ y) ** 2).sum() / np.trace(M))
    assert df == pytest.approx(np.trace(M) ** 2 / (M**2).sum())


def test_two_seeds_are_heard_where_pairing_leaves_little_noise_but_never_below_3_df():
    loss, arm, seed = blocks(5, 2)
    fit = fit_mixed(loss, arm, seed)
    found, plain = guard(fit, loss, arm, seed).against_baseline(), fit.against_baseline()
    differences = np.abs(np.diff(loss.reshape(5, 2) - loss.reshape(5, 2)[0], axis=1)[1:, 0])
    assert list(np.argsort(found.se)) == list(np.argsort(differences))
    assert np.all((found.df >= 3) & (found.df < plain.df))


def test_two_seeds_of_which_pairing_leaves_little_noise_give_few_df():
    loss, arm, seed = blocks(9, 2)
    found = [
        guard(fit_mixed(y, arm, seed), y, arm, seed).against_baseline().df.max()
        for y in (loss, loss + np.array([0.0, 0.06])[seed])
    ]
    assert found[0] > 6
    assert found[1] < 4


def test_the_own_variance_has_no_more_weight_than_leaves_the_df_of_a_verdict():
    own, model = np.array([1.2, 1.65, 2.9, 3.5]), np.array([8.0, 3.5, 3.1, 3.2])
    h = _weight(own, model, apart=0.01)
    df = 1 / (h**2 / own + (1 - h**2) / model)
    assert df[:3] == pytest.approx(3.0)
    assert h[3] == MOST_WEIGHT


def test_noise_of_all_differences_at_once_is_the_baseline_s_and_has_few_df():
    arm, seed = np.repeat(np.arange(9), 8), np.arange(72)
    even = 3.7 + RNG.normal(0, 0.01, 72)
    noisy = np.where(arm == 0, 3.7 + 4 * (even - 3.7), even)
    df = [guard(fit_pooled(y, arm), y, arm, seed).against_baseline().df for y in (even, noisy)]
    assert df[1].max() < 0.9 * df[0].min()


@pytest.mark.parametrize("shared", [True, False])
def test_a_wild_arm_no_longer_borrows_the_quietness_of_the_others(shared):
    frame = study({f"quiet{i}": 0.0 for i in range(5)} | {"wild": 0.0}, n=12, shared=shared)
    wild = frame["arm"] == "wild"
    frame.loc[wild, "test_loss"] = 3.69 + 4 * (frame.loc[wild, "test_loss"] - 3.69)
    ours, pooled = (
        compare(frame, variance=name).table.set_index("arm")["se"] for name in ("guarded", "pooled")
    )
    assert ours["wild"] > 1.3 * pooled["wild"]
    assert ours["quiet1"] < pooled["quiet1"]


def test_the_default_says_so_and_the_plain_model_stays_available():
    frame = study({"a": -0.01, "b": 0.0}, n=4)
    assert compare(frame).method.endswith("guarded by each difference's own variance")
    pooled = compare(frame, variance="pooled")
    assert "guarded" not in pooled.method
    assert pooled.table["df"].max() == pytest.approx(6.0)


def test_an_arm_of_one_run_is_judged_beside_repeated_ones():
    frame = study({"a": -0.01, "b": 0.0}, n=4)
    lone = pd.DataFrame({"arm": ["once"], "init_seed": [0], "test_loss": [3.6]})
    table = compare(pd.concat([frame, lone])).table.set_index("arm")
    assert np.isfinite(table.loc["once", ["se", "df", "p_adj"]].to_numpy(dtype=float)).all()
