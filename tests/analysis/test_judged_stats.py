"""The statistics behind judged verdicts, against other programs and by simulation."""

from __future__ import annotations

import evalica
import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats

from analysis.questions.measures import Effect, Measure, exchange
from analysis.stats.judging.bradley_terry import bradley_terry, ranks
from analysis.stats.judging.crossed import Estimated, by_group, crossed_mean
from analysis.stats.judging.prediction_powered import corrected_mean


def test_the_crossed_mean_is_that_of_a_mixed_model_by_reml() -> None:
    draw = np.random.default_rng(3)
    n_i, n_s = 12, 5
    y = (
        4
        + draw.normal(0, 3, (n_i, 1))
        + draw.normal(0, 3, (1, n_s))
        + draw.normal(0, 1, (n_i, n_s))
    )
    frame = pd.DataFrame(
        {"y": y.ravel(), "i": np.repeat(range(n_i), n_s), "s": np.tile(range(n_s), n_i), "one": 1}
    )
    fit = smf.mixedlm(
        "y ~ 1", frame, groups="one", re_formula="0",
        vc_formula={"i": "0 + C(i)", "s": "0 + C(s)"},
    ).fit(reml=True)  # fmt: skip
    found = crossed_mean(y)
    assert found.estimate == pytest.approx(fit.fe_params.iloc[0], abs=1e-6)
    assert found.se == pytest.approx(fit.bse_fe.iloc[0], rel=1e-3)
    assert found.var_seed == pytest.approx(fit.vcomp[1], rel=2e-3)
    # Satterthwaite (1946): the squared combination of mean squares over that of each by its df.
    residual = y - y.mean(axis=1, keepdims=True) - y.mean(axis=0) + y.mean()
    ms = {
        n_i - 1: n_s * y.mean(axis=1).var(ddof=1),
        n_s - 1: n_i * y.mean(axis=0).var(ddof=1),
        (n_i - 1) * (n_s - 1): (residual**2).sum() / ((n_i - 1) * (n_s - 1)),
    }
    items, seeds, rest = ms.values()
    expected = (items + seeds - rest) ** 2 / sum(x**2 / df for df, x in ms.items())
    assert found.df == pytest.approx(max(expected, n_s - 1))


def test_a_mean_needs_two_items() -> None:
    assert crossed_mean(np.array([[1.0], [3.0]])).se == pytest.approx(1.0)
    with pytest.raises(ValueError, match="1 items: a mean over them needs at least 2"):
        crossed_mean(np.array([[1.0, 3.0]]))


def test_one_seed_is_a_t_test_over_instructions() -> None:
    y = np.array([[1.0], [4.0], [2.5], [3.0]])
    found = crossed_mean(y)
    assert found.se == pytest.approx(y.std(ddof=1) / 2)
    assert found.df == 3
    assert np.isnan(found.var_seed)


@pytest.mark.parametrize("sd_seed", [0.0, 2.0, 4.0])
def test_intervals_over_instructions_and_seeds_cover(sd_seed: float) -> None:
    draw = np.random.default_rng(0)
    missed = 0
    for _ in range(1000):
        y = (
            draw.normal(0, 20, (60, 1))
            + draw.normal(0, sd_seed, (1, 3))
            + draw.normal(0, 20, (60, 3))
        )
        found = crossed_mean(y)
        missed += abs(found.estimate) > found.half_width(0.05)
    assert missed / 1000 < 0.075  # 3 seeds estimate their own variance badly


def test_strengths_are_evalicas() -> None:
    draw = np.random.default_rng(5)
    wins = draw.integers(1, 20, (5, 5)).astype(float)
    np.fill_diagonal(wins, 0)
    pairs = [(f"m{a}", f"m{b}", wins[a, b]) for a in range(5) for b in range(5) if a != b]
    xs, ys, weights = zip(*pairs, strict=True)
    theirs = evalica.bradley_terry(
        xs, ys, [evalica.Winner.X] * len(xs), weights=list(weights), tolerance=1e-12, limit=100_000
    ).scores
    ours = bradley_terry(wins, prior=0.0)
    log = np.log(np.array([theirs[f"m{k}"] for k in range(5)]))
    assert ours == pytest.approx(log - log.mean(), abs=1e-5)


def test_an_entry_that_never_loses_has_a_finite_strength() -> None:
    strength = bradley_terry(np.array([[0.0, 50.0, 50.0], [0, 0, 3], [0, 3, 0]]))
    assert np.isfinite(strength).all()
    assert strength.argmax() == 0
    won, lost = bradley_terry(np.array([[0.0, 3.0], [0, 0]]))
    assert won - lost == pytest.approx(np.log(3.5 / 0.5))


def test_strengths_of_a_ladder_are_the_log_odds_of_its_rungs() -> None:
    """The first step from far away is nine times longer than one that does not overshoot."""
    wins = 99.0 * np.eye(19, k=1) + np.eye(19, k=-1)
    strength = bradley_terry(wins, prior=0.0)
    assert np.diff(strength) == pytest.approx(-np.log(99), abs=1e-6)
    assert ranks(strength[::-1]).tolist() == [*range(19, 0, -1)]


def test_prediction_powered_intervals_cover_and_gain_from_a_good_judge() -> None:
    draw = np.random.default_rng(2)
    missed, widths, plain = 0, [], []
    for _ in range(1000):
        truth = draw.normal(5, 20, 120)
        judged = 8 + 0.9 * truth + draw.normal(0, 6, 120)
        found = corrected_mean(judged[:30], truth[:30], judged[30:])
        half = 2.045 * np.sqrt(found.variance)
        missed += abs(found.mean - 5) > half
        widths.append(half)
        plain.append(2.045 * truth[:30].std(ddof=1) / np.sqrt(30))
    assert 0.03 < missed / 1000 < 0.075
    assert np.mean(widths) < 0.65 * np.mean(plain)


def test_a_judge_is_listened_to_as_far_as_she_varies_with_the_labels() -> None:
    found = corrected_mean(np.array([0.0, 2.0]), np.array([0.0, 1.0]), np.array([1.0, 3.0]))
    assert found.weight == pytest.approx(1 / (2 * 5 / 3))  # covariance over twice the variance
    assert found.mean == pytest.approx(0.5 + 0.3 * (2 - 1))
    assert found.variance == pytest.approx((0.4**2 / 2) / 2 + 0.3**2 * 2 / 2)


def test_a_judge_that_knows_nothing_is_not_listened_to() -> None:
    draw = np.random.default_rng(4)
    labelled = draw.normal(5, 10, 40)
    found = corrected_mean(draw.normal(0, 30, 40), labelled, draw.normal(0, 30, 100))
    assert found.weight < 0.1
    assert found.mean == pytest.approx(labelled.mean(), abs=1.5)


def test_the_exchange_rate_says_what_a_lower_loss_was_worth() -> None:
    deltas = {"a": -0.1, "b": -0.05, "c": 0.1}
    loss = Measure("loss", "nats", False, {k: Effect(v, v, v) for k, v in deltas.items()}, 4)
    points = {k: Effect(-100 * v, 0, 0) for k, v in deltas.items()}
    found = exchange(loss, Measure("score", "points", True, points, 1))
    assert found.gain == pytest.approx(5)
    assert (found.low, found.high) == pytest.approx((5, 5))
    assert found.tau == pytest.approx(1)
    assert found.sentence().startswith("0.05 nats were worth +5.0 [+5.0, +5.0] points")


def test_the_exchange_rate_of_one_arm_is_one_sentence_without_an_interval() -> None:
    found = exchange(
        Measure("loss", "nats", False, {"a": Effect(-0.1, np.nan, np.nan)}, 4),
        Measure("score", "points", True, {"a": Effect(10.0, np.nan, np.nan)}, 1),
    )
    assert found.sentence() == (
        "0.05 nats were worth +5.0 points in this study, over 1 arm beside the baseline "
        "(no interval below 3 arms)."
    )


def test_a_corrected_mean_knows_what_it_rests_on() -> None:
    found = corrected_mean(np.array([0.0, 2.0]), np.array([0.0, 1.0]), np.array([1.0, 3.0]))
    assert (found.df, found.bias, found.n_labelled) == (1, 0.5, 2)
    with pytest.raises(ValueError, match="1 labelled instructions: a correction needs at least 2"):
        corrected_mean(np.zeros(1), np.zeros(1), np.zeros(5))


@pytest.mark.parametrize(
    ("judged", "unlabelled"),
    [
        ([0.0, 2.0, 1.0], [4.0]),  # one more judgement has no variance
        ([0.0, 2.0, 1.0], []),
        ([2.0, 2.0, 2.0], [2.0, 2.0]),  # nor has a judge that always says the same
        ([2.0, 0.0, 1.0], [4.0, 5.0, 6.0]),  # the labels' opposite
    ],
)
def test_where_the_judge_says_nothing_the_labels_alone_count(judged, unlabelled) -> None:
    labelled = np.array([0.0, 5.0, 1.0])
    found = corrected_mean(np.array(judged), labelled, np.array(unlabelled))
    assert found.weight == 0
    assert found.mean == labelled.mean()
    assert found.variance == pytest.approx(labelled.var(ddof=1) / 3)
    assert found.bias == pytest.approx(np.mean(judged) - 2)


def test_two_more_judgements_are_listened_to_and_a_timid_judge_at_most_as_she_speaks() -> None:
    judged, labelled = np.array([0.0, 1.0, 2.0]), np.array([0.0, 10.0, 20.0])
    found = corrected_mean(judged, labelled, np.array([1.0, 3.0]))
    assert found.weight == 1
    assert found.mean == pytest.approx(10 - 1 + 2)
    assert found.variance == pytest.approx((labelled - judged).var(ddof=1) / 3 + 2 / 2)


def test_a_figure_without_noise_is_not_significant_and_another_is_by_student_s_t() -> None:
    found = Estimated(-3.0, 1.5, 4.0)
    assert found.p == pytest.approx(2 * stats.t.sf(2, 4))
    assert found.half_width(0.1) == pytest.approx(1.5 * stats.t.ppf(0.95, 4))
    assert Estimated(3.0, 0.0, 4.0).p == 1


def test_seeds_that_differ_less_than_the_rest_leave_the_items_alone() -> None:
    y = np.array([[1.0, 3.0, 2.0], [6.0, 4.0, 5.0], [9.0, 9.0, 9.0], [2.0, 3.0, 4.0]])
    found, means = crossed_mean(y), y.mean(axis=1)
    assert found.var_seed == 0
    assert found.variance == pytest.approx(means.var(ddof=1) / 4)
    assert (found.estimate, found.df) == (pytest.approx(means.mean()), pytest.approx(3))
    assert (found.n_items, found.n_seeds) == (4, 3)
    assert found.se == pytest.approx(found.variance**0.5)


def test_items_and_seeds_that_never_vary_have_the_items_degrees_of_freedom() -> None:
    found = crossed_mean(np.full((4, 2), 7.0))
    assert (found.estimate, found.se, found.var_seed, found.df, found.p) == (7, 0, 0, 3, 1)


def test_items_alike_at_every_seed_leave_the_seeds_degrees_of_freedom() -> None:
    """What all items share is the seed's alone: one of two seeds counts, whatever the items."""
    found = crossed_mean(np.tile([1.0, 4.0], (9, 1)))
    assert found.variance == pytest.approx(np.var([1.0, 4.0], ddof=1) / 2)
    assert found.df == 1


def test_a_group_weighs_as_many_items_as_it_has() -> None:
    """The clustered variance: the groups' sums around the mean, as statsmodels has it."""
    y, group = np.array([1.0, 3.0, 8.0, 8.0, 2.0, 6.0]), np.array([0, 0, 1, 1, 1, 2])
    found = crossed_mean(by_group(y[:, None], group))
    fit = smf.ols("y ~ 1", pd.DataFrame({"y": y})).fit(
        cov_type="cluster", cov_kwds={"groups": group, "use_correction": False}
    )
    assert found.estimate == pytest.approx(y.mean())
    assert found.variance == pytest.approx(fit.bse.iloc[0] ** 2 * 3 / 2)
    assert found.n_items == 3


def test_several_tables_of_wins_are_judged_at_once_and_who_never_played_is_in_the_middle() -> None:
    tables = np.array([[[0.0, 3, 0], [1, 0, 0], [0, 0, 0]], [[0, 5, 1], [2, 0, 4], [3, 1, 0]]])
    found = bradley_terry(tables)
    for table, strength in zip(tables, found, strict=True):
        assert strength == pytest.approx(bradley_terry(table))
        assert strength.sum() == pytest.approx(0)
    assert found[0, 2] == pytest.approx(0)
    assert ranks(found).tolist() == [[1, 3, 2], ranks(found[1]).tolist()]
    assert ranks(np.array([2.0, 5.0, 2.0])).tolist() == [2, 1, 3]


def test_strengths_give_each_entry_as_many_wins_as_it_has() -> None:
    """What maximum likelihood means here, half a win and half a loss to each pair added."""
    wins = np.array([[0.0, 9, 2], [1, 0, 7], [4, 2, 0]])
    strength = bradley_terry(wins)
    chance = 1 / (1 + np.exp(strength[None, :] - strength[:, None]))
    games = (wins + wins.T + 1) * (1 - np.eye(3))
    assert (games * chance).sum(axis=1) == pytest.approx(wins.sum(axis=1) + 1)
