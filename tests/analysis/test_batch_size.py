import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats
from studies import put, record

from analysis import AnalysisError, batch_size
from analysis.__main__ import main

BATCHES = np.repeat([12.0, 48, 96, 192, 768], 3)


def runs(batches, loss, **columns):
    return pd.DataFrame({"arm": "baseline", "batch_size": batches, "test_loss": loss, **columns})


def losses(best, curvature, sd, rng):
    return 3.69 + curvature * np.log(BATCHES / best) ** 2 + rng.normal(0, sd, len(BATCHES))


def test_an_exact_parabola_gives_its_lowest_point():
    fit = batch_size(runs(BATCHES, losses(97, 0.05, 0.0, np.random.default_rng(0))))
    assert fit.best == pytest.approx(97, rel=1e-6)
    assert (fit.ci_low, fit.ci_high) == pytest.approx((97, 97), rel=1e-4)


def reference(frame, formula):
    """Return statsmodels' fit of a formula, and a function: |t| of the slope at a batch."""
    frame = frame.assign(x=np.log(frame["batch_size"]))
    fit = smf.ols(formula, frame).fit()

    def t_of_slope(batch):
        return abs(fit.t_test(f"x + {2 * np.log(batch)} * I(x ** 2) = 0").tvalue.item())

    return fit, t_of_slope


@pytest.mark.parametrize("n_blocks", [0, 3])
def test_the_curve_and_its_interval_are_those_of_statsmodels_with_seeds_as_blocks(n_blocks):
    rng = np.random.default_rng(1)
    frame = runs(BATCHES, losses(97, 0.05, 0.01, rng))
    formula = "test_loss ~ x + I(x ** 2)"
    if n_blocks:
        seeds = np.tile([0, 1, 2], 5)
        frame = frame.assign(seed=seeds, init_seed=seeds)
        frame["test_loss"] += rng.normal(0, 0.1, 3)[seeds]
        formula += " + C(seed)"
    known, t_of_slope = reference(frame, formula)
    fit = batch_size(frame)
    assert (fit.n_blocks, fit.df) == (n_blocks, known.df_resid)
    assert fit.sd == pytest.approx(known.mse_resid**0.5)
    assert fit.best == pytest.approx(np.exp(-known.params["x"] / 2 / known.params["I(x ** 2)"]))
    t = stats.t.ppf(0.975, fit.df)
    assert [t_of_slope(fit.ci_low), t_of_slope(fit.ci_high)] == pytest.approx([t, t])
    means = frame.assign(fitted=known.fittedvalues).groupby("batch_size")["fitted"].mean()
    assert list(fit.points["fitted"]) == pytest.approx(list(means))


def test_every_seed_at_every_batch_counts():
    loss = [3.71, 3.69, 3.71, 3.72, 3.70, 3.72]  # equal at 48 and 192
    fit = batch_size(runs([48, 96, 192] * 2, loss, init_seed=[0, 0, 0, 1, 1, 1]))
    assert list(fit.points["n"]) == [2, 2, 2]
    assert (fit.n_blocks, fit.df) == (2, 2)
    assert "2 seeds as blocks" in fit.to_markdown()


def test_a_column_of_steps_makes_no_curve_of_a_sweep_over_batches():
    loss = [3.72, 3.69, 3.71, 3.73, 3.70, 3.72]
    frame = runs([192, 96, 48] * 2, loss, init_seed=[0, 0, 0, 1, 1, 1], step=[100, 200, 400] * 2)
    assert list(batch_size(frame).points["n"]) == [2, 2, 2]
    assert list(batch_size(frame.drop(columns="init_seed")).points["n"]) == [2, 2, 2]


def test_repeats_of_one_seed_at_one_batch_count_once():
    rng = np.random.default_rng(5)
    frame = runs(BATCHES, losses(97, 0.05, 0.01, rng), init_seed=np.tile([0, 1, 2], 5), loop_seed=0)
    again = frame.assign(loop_seed=1, test_loss=frame["test_loss"] + 0.002)
    once, twice = batch_size(frame), batch_size(pd.concat([frame, again]))
    assert (twice.best, twice.df) == (pytest.approx(once.best), once.df)
    assert twice.ci_high == pytest.approx(once.ci_high)
    assert list(twice.points["n"]) == [3] * 5


def test_repeats_at_one_initialisation_seed_are_refused():
    frame = runs([48, 48, 96, 96, 192, 192], [3.71, 3.72, 3.69, 3.70, 3.71, 3.72],
                 init_seed=0, loop_seed=[0, 1] * 3)  # fmt: skip
    with pytest.raises(AnalysisError, match="all repeats share one initialisation seed"):
        batch_size(frame)


def test_seeds_of_their_own_make_no_blocks():
    rng = np.random.default_rng(6)
    frame = runs(BATCHES, losses(97, 0.05, 0.01, rng))
    alone = batch_size(frame.assign(init_seed=range(15)))
    assert (alone.n_blocks, alone.ci_low) == (0, batch_size(frame).ci_low)


@pytest.mark.proof
def test_the_interval_of_runs_that_share_seeds_covers_nineteen_times_in_twenty():
    rng = np.random.default_rng(2)
    seeds = np.tile([0, 1, 2], 5)
    hits = []
    for _ in range(500):
        shared = rng.normal(0, 0.02 * 0.8**0.5, 3)[seeds]
        loss = losses(97, 0.02, 0.02 * 0.2**0.5, rng) + shared
        fit = batch_size(runs(BATCHES, loss, init_seed=seeds))
        hits.append(fit.ci_low <= 97 <= fit.ci_high)
    assert np.mean(hits) == pytest.approx(0.95, abs=0.03)


def test_a_flat_curve_has_an_unbounded_interval():
    rng = np.random.default_rng(3)
    fit = batch_size(runs(BATCHES, 3.69 + rng.normal(0, 0.01, len(BATCHES))))
    assert fit.ci_high == np.inf
    assert ("no minimum" if fit.best is None else "do not bound it") in fit.to_markdown()


@pytest.mark.parametrize("shared", [True, False])
def test_a_cubic_shows_lack_of_fit(shared):
    rng = np.random.default_rng(4)
    y = losses(97, 0.05, 0.001, rng) + 0.03 * np.log(BATCHES / 97) ** 3
    frame = runs(BATCHES, y, init_seed=np.tile([0, 1, 2], 5) if shared else None)
    assert batch_size(frame).lack_of_fit_p < 0.001


@pytest.mark.parametrize("shared", [True, False])
def test_lack_of_fit_is_the_f_test_of_statsmodels(shared):
    import statsmodels.api as sm

    y = losses(97, 0.05, 0.01, np.random.default_rng(8)) + 0.004 * np.log(BATCHES / 97) ** 3
    seed = np.tile([0, 1, 2], 5)
    fit = batch_size(runs(BATCHES, y, init_seed=seed if shared else None))
    x = np.log(BATCHES / 97)
    blocks = pd.get_dummies(seed, dtype=float) if shared else np.ones((len(x), 1))
    levels = pd.get_dummies(BATCHES, dtype=float).iloc[:, 1:]
    parabola = sm.OLS(y, np.column_stack([x, x**2, blocks])).fit()
    free = sm.OLS(y, np.column_stack([levels, blocks])).fit()
    _, p, n_more = free.compare_f_test(parabola)
    assert n_more == 2
    assert fit.lack_of_fit_p == pytest.approx(p, rel=1e-6)
    assert 0.001 < p < 0.999


@pytest.mark.parametrize("confidence", [0.0, 95.0])
def test_a_confidence_is_a_share(confidence: float):
    with pytest.raises(AnalysisError, match=r"the confidence is .*: allowed is between 0 and 1"):
        batch_size(runs([8, 16, 32], [3.0, 2.9, 3]), confidence=confidence)


def test_two_batches_are_not_enough():
    with pytest.raises(AnalysisError, match="2 batch size"):
        batch_size(runs([1, 1, 2, 2], [1.0, 2.0, 3.0, 4.0]))


def test_records_know_their_batch_size_and_other_changes_are_left_out(tmp_path, capsys):
    folder = tmp_path / "runs"
    for seed in range(2):
        put(folder, record("baseline", seed, 3.69 + 0.002 * seed))
        for name, size, loss in (("half", 48, 3.71), ("double", 192, 3.70)):
            change = {"train.batch_size": [96, size]}
            put(folder, record(name, seed, loss + 0.003 * seed, changes=change))
        other = {"train.batch_size": [96, 6], "optim.lr": [4e-4, 1e-3]}
        put(folder, record("both", seed, 3.0, changes=other))
    fit = batch_size(folder)
    assert list(fit.points["batch_size"]) == [48, 96, 192]
    assert 48 < fit.best < 192
    assert main(["batch-size", str(folder)]) == 0
    assert "Best batch" in capsys.readouterr().out


def sized(arm, size, loss):
    return [{"arm": arm, "batch_size": size, "test_loss": loss + i / 200} for i in range(2)]


ARMS = [("baseline", 96, 3.69), ("half", 48, 3.75), ("double", 192, 3.75)]


def test_an_arm_that_changes_something_else_is_left_out_of_a_table_and_said():
    rows = [row for given in ARMS for row in sized(*given)]
    alone = batch_size(pd.DataFrame(rows))
    more = batch_size(pd.DataFrame(rows + sized("no_dropout", 96, 3.2)))
    assert more.best == pytest.approx(alone.best)
    assert "Left out: no_dropout; only the baseline and arms" in more.to_markdown()
    assert "eft out" not in alone.to_markdown()


def test_a_baseline_of_many_batches_is_fitted_alone():
    rows = [row for _, size, loss in ARMS for row in sized("baseline", size, loss)]
    fit = batch_size(pd.DataFrame(rows + sized("a", 384, 3.0)))
    assert fit.left_out == ("a",)
    assert list(fit.points["batch_size"]) == [48, 96, 192]


def test_too_few_batches_of_one_recipe_name_what_was_left_out():
    rows = [row for given in ARMS[:2] for row in sized(*given)] + sized("no_dropout", 96, 3.2)
    with pytest.raises(AnalysisError, match=r"4 run.s. at 2 batch size.*left out: no_dropout"):
        batch_size(pd.DataFrame(rows))


def test_records_without_an_arm_that_changes_the_batch_are_told_so(tmp_path):
    for seed in range(2):
        put(tmp_path, record("baseline", seed, 3.7))
    with pytest.raises(AnalysisError, match="none of the 2 complete runs has a known batch size"):
        batch_size(tmp_path)


def test_of_an_accuracy_the_highest_point_is_the_best_batch():
    y = losses(97, 0.05, 0.01, np.random.default_rng(1))
    up, down = batch_size(runs(BATCHES, -y), higher_is_better=True), batch_size(runs(BATCHES, y))
    assert (up.best, up.ci_low, up.ci_high) == pytest.approx((down.best, down.ci_low, down.ci_high))
    wrong = batch_size(runs(BATCHES, y), higher_is_better=True)
    assert "no maximum" in wrong.to_markdown()
