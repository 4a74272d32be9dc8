"""Which sources of noise the seeds of a design separate, and every figure of their table."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import AnalysisError
from analysis.stats.components import Components, mls_interval, variance_components
from analysis.stats.seed_correlation import arm_correlations


def found(loss: list[float], arm: str | list[str] = "a", **seeds: list[int]) -> Components:
    return variance_components(pd.DataFrame({"loss": loss, "arm": arm, **seeds}))


def names(of: Components) -> list[tuple[str, int]]:
    """Return each source with its levels."""
    return list(zip(of.table["source"], of.table["levels"], strict=True))


LOSS = [1.0, 2.0, 4.0, 3.0, 7.0, 5.0, 5.5, 9.0]
INIT, LOOP = [0, 0, 1, 1, 2, 2, 3, 3], [0, 1] * 4


def test_each_column_of_the_table_of_nested_repeats_is_that_of_its_two_mean_squares() -> None:
    loss = [y / 100 for y in LOSS]
    of = found(loss, init_seed=INIT, loop_seed=LOOP)
    pairs = np.reshape(loss, (4, 2))
    between, within = 2 * pairs.mean(axis=1).var(ddof=1), pairs.var(axis=1, ddof=1).mean()
    variance = np.array([(between - within) / 2, within])
    rows = of.table.set_index("source")
    assert list(rows["sd"] ** 2) == pytest.approx([*variance, variance.sum()])
    assert list(rows["share"]) == pytest.approx([*variance / variance.sum(), 1])
    total = variance.sum() ** 2 / ((between / 2) ** 2 / 3 + (within / 2) ** 2 / 4)
    assert list(rows["df"]) == pytest.approx([3, 4, total])
    loop = rows.loc["loop"]
    ends = 4 * within / stats.chi2.ppf([0.975, 0.025], 4)
    assert (loop["ci_low"] ** 2, loop["ci_high"] ** 2) == pytest.approx(tuple(ends))
    assert list(rows["levels"]) == [4, 8, 8]
    assert list(rows["note"]) == ["", "", ""]
    assert list(of.table.columns) == [
        "source", "sd", "ci_low", "ci_high", "levels", "df", "share", "note"
    ]  # fmt: skip
    assert (of.n, of.design) == (8, "init (4 levels), then loop")


def test_runs_that_are_all_equal_have_no_noise_and_all_of_the_degrees_of_freedom() -> None:
    table = found([3.5] * 8, init_seed=INIT, loop_seed=LOOP).table
    assert (table[["sd", "ci_low", "ci_high"]] == 0).all(axis=None)
    assert list(table["df"]) == [3, 4, 7]
    assert list(table["share"]) == [0, 0, 1]
    assert list(table["note"]) == ["", "", ""]


def test_a_negative_estimate_of_few_levels_has_both_notes_and_no_share() -> None:
    rows = found([1.0, 3.0, 1.1, 3.1, 1.0, 3.3], init_seed=INIT[:6], loop_seed=LOOP[:6]).table
    assert list(rows["note"]) == ["only 3 levels; estimate below 0", "", ""]
    assert list(rows["share"]) == [0, 1, 1]
    assert rows["sd"].iloc[0] == rows["ci_low"].iloc[0] == 0


@pytest.mark.parametrize("n", [1, 2])
def test_runs_without_a_repeat_are_told_how_to_repeat(n: int) -> None:
    with pytest.raises(AnalysisError) as refused:
        found(LOSS[:n], list("ab")[:n], init_seed=[0, 0][:n])
    assert str(refused.value) == (
        f"{n} complete run(s): repeats of one arm with other seeds are needed to see noise"
    )
    assert found([1.0, 3.0]).table["sd"].iloc[0] == pytest.approx(2**0.5)


@pytest.mark.parametrize(
    ("arm", "seeds", "sources", "design"),
    [
        ("a", {}, [("run to run", 8)], "the seeds separate nothing: only run to run as a whole"),
        (
            "a",
            {"init_seed": [*range(8)]},
            [("init", 8)],
            "the seeds separate nothing: only init as a whole",
        ),
        (
            "a",
            {name: [*range(8)] for name in ("init_seed", "data_seed", "loop_seed")},
            [("init + data order + loop", 8)],
            "the seeds separate nothing: only init + data order + loop as a whole",
        ),
        (
            "a",
            {"init_seed": INIT, "data_seed": LOOP, "loop_seed": LOOP},
            [("init", 4), ("data order + loop", 8)],
            "init (4 levels), then data order + loop",
        ),
        (
            "a",
            {"init_seed": INIT, "data_seed": [5] * 8},
            [("init", 4), ("not explained by seeds", 8)],
            "init (4 levels), then not explained by seeds",
        ),
        (
            ["a"] * 4 + ["b"] * 4,
            {"init_seed": [0, 1, 2, 3] * 2},
            [("init", 4), ("not explained by seeds", 8)],
            "init (4 levels), then not explained by seeds",
        ),
        (
            ["a"] * 4 + ["b"] * 4,
            {"init_seed": [*range(8)]},
            [("init", 8)],
            "the seeds separate nothing: only init as a whole",
        ),
        (
            ["a"] * 4 + ["b"] * 4,  # the data seed is the arm's: it varies within none
            {"init_seed": [0, 0, 1, 1] * 2, "data_seed": [0] * 4 + [1] * 4},
            [("init", 2), ("not explained by seeds", 8)],
            "init (2 levels), then not explained by seeds",
        ),
        (
            "a",
            {"init_seed": INIT, "data_seed": [0, 1, 1, 2, 2, 3, 3, 0]},
            [("init", 4), ("data order", 4), ("not explained by seeds", 8)],
            "init (4 levels), data order (4 levels), then not explained by seeds",
        ),
    ],
)
def test_the_sources_are_those_that_the_seeds_tell_apart(
    arm: str | list[str], seeds: dict[str, list[int]], sources: list[tuple[str, int]], design: str
) -> None:
    of = found(LOSS, arm, **seeds)
    assert (names(of), of.design) == ([*sources, ("total", 8)], design)
    assert of.table["note"].iloc[-1] == ""


def test_where_nothing_is_repeated_below_the_last_source_the_rest_is_in_it() -> None:
    of = found([1.0, 2.0, 4.0], init_seed=[0, 0, 1], data_seed=[0, 1, 1])
    assert names(of) == [("init", 2), ("data order", 3), ("total", 3)]
    assert list(of.table["df"])[:2] == [1, 1]
    assert of.table["note"].iloc[-1] == ""


def test_one_run_in_four_hundred_is_enough_to_tell_two_seeds_apart() -> None:
    init = np.repeat([0, 1], 200)
    data = np.append([1], init[1:])
    loss = np.random.default_rng(5).normal(size=400)
    rows = found(list(loss), init_seed=list(init), data_seed=list(data)).table
    assert list(rows["source"][:2]) == ["init", "data order"]
    assert list(rows["df"][:3]) == [1, 1, 397]


def test_crossed_seeds_of_uneven_repeats_have_the_mean_squares_of_nested_least_squares() -> None:
    """Henderson's: each sum of squares after those before it is what its own runs make of it."""
    init, data = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2]), np.array([0, 1, 1, 0, 2, 0, 1, 2, 2])
    arm = np.array(list("aabababba"))
    loss = np.random.default_rng(6).normal(size=9)
    X = [np.eye(2)[(arm == "b") * 1], np.eye(3)[init], np.eye(3)[data]]
    spaces = [np.hstack(X[: k + 1]) for k in range(3)]
    left = [np.eye(9) - space @ np.linalg.pinv(space) for space in spaces]
    parts = [left[0] - left[1], left[1] - left[2], left[2]]
    df = [np.trace(part) for part in parts]
    covariances = [X[1] @ X[1].T, X[2] @ X[2].T, np.eye(9)]
    expected = [[np.trace(part @ V) for V in covariances] for part in parts]
    components = np.linalg.solve(expected, [loss @ part @ loss for part in parts])
    rows = found(list(loss), list(arm), init_seed=list(init), data_seed=list(data)).table
    assert list(rows["df"][:3]) == pytest.approx(df)
    assert list(rows["sd"][:3] ** 2) == pytest.approx(list(np.maximum(components, 0)))


@pytest.mark.parametrize(
    ("shuffled", "counts"),
    [
        ([False] * 8, False),
        ([False] + [None] * 7, False),
        ([True, False] * 4, True),
        ([None] * 8, True),
    ],
)
def test_a_data_seed_counts_unless_all_that_is_known_is_that_nothing_was_shuffled(
    shuffled: list[bool | None], counts: bool
) -> None:
    runs = {"loss": LOSS, "arm": "a", "init_seed": INIT, "data_seed": [0, 1, 1, 2, 2, 3, 3, 0]}
    of = variance_components(pd.DataFrame({**runs, "data_shuffled": shuffled}))
    assert ("data order" in list(of.table["source"])) == counts
    assert "init" in list(of.table["source"])


@pytest.mark.parametrize("known", [0, 1])
def test_the_interval_of_a_difference_from_a_known_variance_is_the_chi_squares(known: int) -> None:
    """Of two mean squares one has a hundred million df: its value is as good as given."""
    df, ms, weights = np.array([6.0, 6.0]), np.array([5.0, 4.0]), np.array([1.0, -1.0])
    df[known] = 1e8
    own = np.sort(6 * ms[1 - known] / stats.chi2.ppf([0.975, 0.025], 6))
    expected = own - 4 if known else 5 - own[::-1]
    assert mls_interval(weights, ms, df) == pytest.approx(tuple(expected), abs=2e-3)


def test_the_correlations_of_arms_name_their_seeds_and_have_intervals_from_four_on() -> None:
    base, seeds = [1.0, 2.0, 4.0, 3.0, 6.0], [0, 1, 2, 3, 4]
    arms = {"baseline": base, "four": [2.0, 1.0, 5.0, 4.0], "three": [1.0, 5.0, 2.0], "two": [1, 2],
            "same": base}  # fmt: skip
    rows = [
        (arm, seed, y) for arm, own in arms.items() for seed, y in zip(seeds, own, strict=False)
    ]
    table = arm_correlations(pd.DataFrame(rows, columns=["arm", "init_seed", "loss"]), "baseline")
    assert list(zip(table["arm"], table["n_shared"], strict=True)) == [
        ("four", 4), ("same", 5), ("three", 3)
    ]  # fmt: skip
    r = [stats.pearsonr(base[: len(arms[arm])], arms[arm]) for arm in ("four", "three")]
    four, same, three = (row for _, row in table.iterrows())
    assert four["correlation"] == pytest.approx(r[0].statistic)
    interval = r[0].confidence_interval(0.95)
    assert (four["ci_low"], four["ci_high"]) == pytest.approx((interval.low, interval.high))
    assert three["correlation"] == pytest.approx(r[1].statistic)
    assert np.isnan([three["ci_low"], three["ci_high"], same["ci_low"], same["ci_high"]]).all()
    nothing = arm_correlations(pd.DataFrame({"arm": ["a"], "loss": [1.0]}), "baseline")
    assert list(nothing.columns) == list(table.columns)
    assert list(table.columns) == ["arm", "n_shared", "correlation", "ci_low", "ci_high"]
    assert nothing.empty
