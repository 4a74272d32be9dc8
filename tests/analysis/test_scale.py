"""Effects against scale: the meta-regression's known answers, the table, the refusals; ranks."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import analysis
from analysis.comparison.ranking import ranking
from analysis.comparison.rules import Rules
from analysis.errors import AnalysisError
from analysis.questions.scale import scale
from analysis.report.chart_compute import scale_chart
from analysis.stats.meta import fit_line
from tests.analysis.studies import study

BCG = np.array([
    [4, 119, 11, 128, 44], [6, 300, 29, 274, 55], [3, 228, 11, 209, 42],
    [62, 13536, 248, 12619, 52], [33, 5036, 47, 5761, 13], [180, 1361, 372, 1079, 44],
    [8, 2537, 10, 619, 19], [505, 87886, 499, 87892, 13], [29, 7470, 45, 7232, 27],
    [17, 1699, 65, 1600, 42], [186, 50448, 141, 27197, 18], [5, 2493, 3, 2338, 33],
    [27, 16886, 29, 17825, 33],
], dtype=float)  # fmt: skip
"""Colditz et al. 1994: cases and others, vaccinated and not, and the latitude of each trial."""


def bcg() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a, b, c, d, latitude = BCG.T
    y = np.log((a / (a + b)) / (c / (c + d)))
    return latitude, y, 1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)


def test_the_bcg_trials_give_what_metafor_prints() -> None:
    """R's metafor, rma(yi, vi, mods = ~ ablat): tau2 .0764, intercept .2515, slope -.0291."""
    latitude, y, variance = bcg()
    line = fit_line(latitude, y, variance)
    assert line.tau2 == pytest.approx(0.0764, abs=1e-4)  # its search ends there
    assert line.at(0.0) == pytest.approx(0.2515, abs=5e-5)
    assert line.slope == pytest.approx(-0.0291, abs=5e-5)
    assert line.df == 11


def test_the_errors_are_knapp_and_hartungs() -> None:
    """The least-squares errors of the weighted data, whose residual variance is estimated."""
    latitude, y, variance = bcg()
    line = fit_line(latitude, y, variance)
    w = np.sqrt(1 / (variance + line.tau2))
    X = np.stack([np.ones_like(y), latitude], axis=1) * w[:, None]
    beta, (rss,), *_ = np.linalg.lstsq(X, y * w, rcond=None)
    covariance = rss / 11 * np.linalg.inv(X.T @ X)
    assert line.slope == pytest.approx(beta[1])
    assert line.slope_se == pytest.approx(covariance[1, 1] ** 0.5)
    at = np.array([1.0, 60.0])
    half = stats.t.ppf(0.975, 11) * (at @ covariance @ at) ** 0.5
    assert line.half_width(60.0) == pytest.approx(half)
    new = stats.t.ppf(0.975, 11) * (at @ covariance @ at + line.tau2) ** 0.5
    assert line.half_width(60.0, new=True) == pytest.approx(new)


def test_estimates_on_a_line_leave_nothing_between_them() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0])
    line = fit_line(x, 2 - 0.5 * x, np.full(4, 0.1))
    assert line.tau2 == pytest.approx(0, abs=1e-9)
    assert line.at(10.0) == pytest.approx(-3.0)


def test_intervals_of_a_new_study_cover() -> None:
    rng, hits = np.random.default_rng(1), []
    x = np.array([15.0, 16.0, 17.0, 18.0, 19.0])
    for _ in range(400):
        y = 0.3 - 0.02 * x + rng.normal(0, 0.02, 5) + rng.normal(0, 0.01, 5)
        line = fit_line(x, y, np.full(5, 1e-4))
        new = 0.3 - 0.02 * 20 + rng.normal(0, 0.02)
        hits.append(abs(new - line.at(20.0)) <= line.half_width(20.0, new=True))
    assert 0.92 <= np.mean(hits) <= 0.985


def sizes(effects: dict[str, list[float]], flops: list[float]) -> pd.DataFrame:
    """One table with several studies of the same arms."""
    parts = []
    for i, cost in enumerate(flops):
        at_size = {arm: deltas[i] for arm, deltas in effects.items()}
        part = study(at_size, 4, sd=0.002, rng=np.random.default_rng(i))
        parts.append(part.assign(study=f"size{i}", flops=cost))
    return pd.concat(parts, ignore_index=True)


def test_an_effect_that_shrinks_is_seen_and_one_that_stays_stays() -> None:
    table = sizes(
        {"shrinks": [-0.08, -0.06, -0.04, -0.02], "stays": [-0.05] * 4, "worse": [0.05] * 4},
        [1e15, 1e16, 1e17, 1e18],
    )
    found = scale([table], at=1e19)
    trends = {trend.arm: trend.line for trend in found.trends}
    assert trends["shrinks"].slope == pytest.approx(0.02, abs=0.003)
    assert trends["stays"].slope == pytest.approx(0, abs=0.003)
    rows = {row[0].text: row for row in found.to_table().rows}
    assert [rows[arm][-1].text for arm in ("stays", "worse", "shrinks")] == [
        "better", "worse", "open",
    ]  # fmt: skip
    assert len(scale_chart(found).datasets["target"]) == 3
    assert found.agreement()[-1] > 0.3


def test_two_sizes_have_no_trend_and_say_so() -> None:
    found = scale([sizes({"a": [-0.05, -0.05]}, [1e15, 1e16])])
    assert found.to_table().rows[0][-1].text == "fewer than 3 sizes"
    assert "a trend with an interval needs 3 or more" in found.to_markdown()


def test_one_size_and_unknown_compute_are_refused() -> None:
    table = sizes({"a": [-0.05]}, [1e15])
    with pytest.raises(AnalysisError, match="1 study of one size"):
        scale([table])
    with pytest.raises(AnalysisError, match="compute of size0 is not known"):
        scale([table.drop(columns="flops")])


def test_of_accuracies_the_higher_one_is_better_along_the_sizes_too() -> None:
    table = sizes({"a": [-0.05] * 3, "b": [0.05] * 3}, [1e15, 1e16, 1e17])
    accuracies = table.assign(acc=1 - table["test_loss"]).drop(columns="test_loss")
    found = scale([accuracies], Rules(metric="acc", higher_is_better=True))
    said = [(row[0].text, row[-1].text) for row in found.to_table().rows]
    assert said == [("a", "better"), ("b", "worse")]


def test_a_study_named_twice_is_refused_rather_than_counted_twice() -> None:
    table = sizes({"a": [-0.05, -0.04]}, [1e15, 1e16])
    with pytest.raises(AnalysisError, match="size0 and size0 are of one size, 1e"):
        scale([table, table[table["study"] == "size0"]])


def test_compute_may_come_from_tokens_and_parameters() -> None:
    table = sizes({"a": [-0.05, -0.04]}, [1, 2]).drop(columns="flops")
    table["tokens"] = np.where(table["study"] == "size0", 1e6, 1e7)
    found = scale([table.assign(n_params=1e6)])
    assert [s.flops for s in found.studies] == [6e12, 6e13]


def test_the_better_arms_are_ranked_as_far_as_they_differ() -> None:
    result = analysis.compare(
        study({"best": -0.2, "second": -0.1, "third": -0.101, "none": 0.0}, 5, sd=0.003)
    )
    ranks = ranking(result)
    against_next = [row[2].value for row in ranks.to_table().rows]
    p = ranks.found.p
    assert against_next[:-1] == [p[i, i + 1] for i in range(len(p) - 1)]
    assert ranks.arms[0] == "best"
    assert [ranks.rank(i) for i in range(3)] == ["1", "2 to 3", "2 to 3"]
    assert "ranks of the better arms: best 1, " in result.to_markdown()
    assert ranking(analysis.compare(study({"only": -0.1}, 5, sd=0.003))) is None


def test_the_variance_between_estimates_is_that_of_least_squares_where_all_are_as_precise() -> None:
    """Equal variances v: REML's tau2 is the residual mean square minus v, or 0."""
    x, y = np.array([1.0, 2.0, 4.0, 7.0, 8.0]), np.array([3.0, 1.0, 2.0, 5.0, 2.0])
    X = np.stack([np.ones(5), x], axis=1)
    beta, (rss,), *_ = np.linalg.lstsq(X, y, rcond=None)
    line = fit_line(x, y, np.full(5, 0.5))
    assert line.tau2 == pytest.approx(rss / 3 - 0.5, rel=1e-6)
    assert (line.intercept, line.centre) == (pytest.approx(y.mean()), pytest.approx(x.mean()))
    assert (line.slope, line.at(0.0)) == pytest.approx((beta[1], beta[0]))
    assert line.covariance == pytest.approx(
        np.diag([rss / 3 / 5, rss / 3 / ((x - x.mean()) ** 2).sum()])
    )
    assert (line.df, line.quantile) == (3, pytest.approx(stats.t.ppf(0.975, 3)))
    assert fit_line(x, y, np.full(5, rss / 3 * 1.01)).tau2 == 0
    assert fit_line(x, y, np.full(5, rss / 3 * 0.99)).tau2 == pytest.approx(rss / 300, rel=1e-3)
