import numpy as np
import pandas as pd
import pytest
from studies import put, record

from analysis import AnalysisError, batch_size
from analysis.__main__ import main
from analysis.questions.batch_size import fit_batch_size

BATCHES = np.repeat([12.0, 48, 96, 192, 768], 3)


def losses(best, curvature, sd, rng):
    return 3.69 + curvature * np.log(BATCHES / best) ** 2 + rng.normal(0, sd, len(BATCHES))


def test_an_exact_parabola_gives_its_lowest_point():
    fit = fit_batch_size(BATCHES, losses(97, 0.05, 0.0, np.random.default_rng(0)))
    assert fit.best == pytest.approx(97, rel=1e-6)
    assert (fit.ci_low, fit.ci_high) == pytest.approx((97, 97), rel=1e-4)


def test_the_coefficients_are_least_squares():
    y = losses(97, 0.05, 0.01, np.random.default_rng(1))
    fit = fit_batch_size(BATCHES, y)
    expected = np.polynomial.polynomial.polyfit(np.log(BATCHES / fit.centre), y, 2)
    assert fit.coefficients == pytest.approx(tuple(expected))
    assert fit.df == 12


@pytest.mark.slow
def test_the_interval_covers_the_best_batch_nineteen_times_in_twenty():
    rng = np.random.default_rng(2)
    hits = []
    for _ in range(800):
        fit = fit_batch_size(BATCHES, losses(97, 0.02, 0.02, rng))
        hits.append(fit.ci_low <= 97 <= fit.ci_high)
    assert np.mean(hits) == pytest.approx(0.95, abs=0.025)


def test_a_flat_curve_has_an_unbounded_interval():
    rng = np.random.default_rng(3)
    fit = fit_batch_size(BATCHES, 3.69 + rng.normal(0, 0.01, len(BATCHES)))
    assert fit.ci_high == np.inf
    assert "do not bound it" in fit.to_markdown() or "no minimum" in fit.to_markdown()


def test_a_cubic_shows_lack_of_fit():
    rng = np.random.default_rng(4)
    y = losses(97, 0.05, 0.001, rng) + 0.03 * np.log(BATCHES / 97) ** 3
    assert fit_batch_size(BATCHES, y).lack_of_fit_p < 0.001


@pytest.mark.parametrize("confidence", [0.0, 95.0])
def test_a_confidence_is_a_share(confidence: float):
    frame = pd.DataFrame({"arm": "baseline", "batch_size": [8, 16, 32], "test_loss": [3.0, 2.9, 3]})
    with pytest.raises(AnalysisError, match=r"the confidence is .*: allowed is between 0 and 1"):
        batch_size(frame, confidence=confidence)


def test_two_batches_are_not_enough():
    with pytest.raises(AnalysisError, match="2 batch size"):
        fit_batch_size([1, 1, 2, 2], [1.0, 2.0, 3.0, 4.0])


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
    up, down = fit_batch_size(BATCHES, -y, higher_is_better=True), fit_batch_size(BATCHES, y)
    assert (up.best, up.ci_low, up.ci_high) == pytest.approx((down.best, down.ci_low, down.ci_high))
    assert "no maximum" in fit_batch_size(BATCHES, y, higher_is_better=True).to_markdown()
