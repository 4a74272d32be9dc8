import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import AnalysisError, compare
from analysis.comparison.estimate import estimate
from analysis.stats.linear import fit_pooled
from analysis.stats.mixed import fit_mixed
from analysis.stats.seed_correlation import pairing_df

LAYOUT = [[0, 1, 2, 3], [3, 4, 5, 6]]
BASE = [3.70422, 3.69169, 3.71466, 3.69534]
ARM = [3.54507, 3.53812, 3.55682, 3.54851]


def frame_of(seeds, loss):
    names = ["baseline", "a", "b", "c"]
    arms = [names[i] for i, row in enumerate(seeds) for _ in row]
    return pd.DataFrame({"arm": arms, "init_seed": np.concatenate(seeds), "test_loss": loss})


def test_one_shared_seed_does_not_hide_a_difference_of_ten_sd():
    frame = frame_of(LAYOUT, BASE + ARM)
    result = compare(frame)
    one, plain = (
        found.table.set_index("arm").loc["a"]
        for found in (result, compare(frame.drop(columns="init_seed")))
    )
    assert one.verdict == "better"
    assert result.why.startswith("no arm shares at least half of its initialisation seeds")
    assert any("a: fewer than half of the initialisation seeds" in w for w in result.warnings)
    for name in ("delta", "se", "df", "ci_low", "ci_high", "p_raw", "p_adj"):
        assert one[name] == plain[name]
    assert one.df == pytest.approx(6, abs=0.4)


def test_pairs_without_a_degree_of_freedom_are_not_used():
    result = compare(frame_of([[0, 1, 2, 3], [2, 3, 4, 5]], BASE + ARM))
    assert "2 initialisation seed(s) shared between arms leave 1 degree(s)" in result.why


def test_what_is_left_beyond_arms_and_seeds_is_a_rank():
    rng = np.random.default_rng(3)
    for _ in range(50):
        arm = rng.integers(0, 3, 12)
        arm[:3], seed = range(3), np.unique(rng.integers(0, 8, 12), return_inverse=True)[1]
        design = np.hstack([np.eye(3)[arm], np.eye(seed.max() + 1)[seed]])
        assert pairing_df(arm, seed) == 12 - np.linalg.matrix_rank(design)


@pytest.mark.parametrize(
    ("seeds", "mixed"),
    [
        ([[0, 1, 2], [0, 1, 2]], True),  # complete blocks: analysis of variance, df 2
        ([[0, 1, 2, 3], [0, 1, 2]], False),
        ([[0, 1, 2, 3, 4], [0, 1, 2, 3]], True),
        ([[0, 1, 2, 3], [2, 3, 4, 5], [2, 3, 8, 9]], False),
        ([[0, 0, 1, 1], [2, 3]], True),  # reruns are never independent
    ],
)
def test_pairing_is_used_where_it_can_be_estimated(seeds, mixed):
    count = sum(len(row) for row in seeds)
    frame = frame_of(seeds, np.random.default_rng(1).normal(3.7, 0.01, count))
    assert ("mixed" in compare(frame, allow_reruns=True).method) == mixed


@pytest.mark.proof
@pytest.mark.parametrize("rho", [0.0, 0.8])
@pytest.mark.parametrize(
    "seeds", [LAYOUT, [[0, 1, 2, 3], [3, 11, 12, 13], [3, 21, 22, 23]]], ids=["two", "three"]
)
def test_few_shared_seeds_keep_the_error_and_the_power(seeds, rho):
    rng = np.random.default_rng(5)
    frame = frame_of(seeds, 0.0)
    wrong, seen, studies = 0, 0, 300
    for _ in range(studies):
        shared = rng.normal(0, np.sqrt(rho), 24)[frame["init_seed"]]
        noise = shared + rng.normal(0, np.sqrt(1 - rho), len(frame))
        found = estimate(frame.assign(loss=3.7 + 0.015 * noise), "baseline").fit
        contrast = found.against_baseline()
        t = contrast.estimate / contrast.se
        wrong += int(abs(t[0]) > 2.5)
        seen += int((contrast.estimate[0] - 0.06) / contrast.se[0] < -2.5)
    assert wrong <= 0.07 * studies
    assert seen >= 0.95 * studies


@pytest.mark.proof
@given(
    seeds=st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=5), min_size=1, max_size=4),
    digits=st.sampled_from([2, 9]),
    variance=st.sampled_from(["moderated", "pooled"]),
    draw=st.integers(0, 10**6),
)
@settings(max_examples=150)
def test_no_layout_of_seeds_ends_in_a_traceback(seeds, digits, variance, draw):
    count = sum(len(row) for row in seeds)
    loss = np.random.default_rng(draw).normal(3.7, 0.01, count).round(digits)
    frame = frame_of(seeds, loss)
    frame["loop_seed"] = np.random.default_rng(draw).integers(0, 3, count)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            result = compare(frame, variance=variance, allow_reruns=True)
        except AnalysisError:
            return
        said, _ = result.to_markdown(), result.to_json()
    bounds = result.table[["ci_low", "ci_high"]].dropna()
    endless = bounds["ci_high"] == np.inf
    assert np.isfinite(bounds[~endless]).all(axis=None)
    assert (bounds.loc[endless, "ci_low"] == -np.inf).all()
    assert said.count("too wide") == endless.sum()


def test_runs_that_repeat_themselves_exactly_count_once():
    frame = frame_of(LAYOUT, BASE + ARM)
    again = pd.concat([frame, frame[frame["arm"] == "baseline"]])
    result, once = compare(again, allow_reruns=True), compare(frame)
    assert result.noise == once.noise
    assert result.table.equals(once.table)
    assert "4 rerun(s) repeat a run to the last digit" in (result.warnings[0])
    assert not any("rerun(s)" in text for text in once.warnings)


def test_equal_reruns_with_other_loop_seeds_leave_the_band_its_seeds():
    frame = pd.DataFrame({"arm": "baseline", "init_seed": [0, 1, 2, 3], "test_loss": BASE})
    again = pd.concat([frame.assign(loop_seed=i) for i in range(2)])
    once, twice = compare(frame).noise, compare(again).noise
    assert (twice.df, twice.half_width) == (3.0, pytest.approx(once.half_width))


def test_a_model_without_a_spare_run_would_have_run_to_the_boundary():
    arm, seed = np.repeat([0, 1], 4), np.array([0, 1, 2, 3, 3, 4, 5, 6])
    assert fit_mixed(BASE + ARM, arm, seed).against_baseline().df[0] < 0.1
    assert fit_pooled(BASE + ARM, arm).against_baseline().df[0] == 6


def test_adjusted_deltas_are_said_so_at_any_size_of_the_loss():
    seeds = [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3], [0, 1, 2, 3, 7, 8]]
    effect = np.random.default_rng(0).normal(0, 1, 16)
    small = [0.1 * x for x in effect]
    frame = frame_of(seeds, 0.0)
    for size in (3.7, 1e6):
        loss = size + 2 * effect[:9][frame["init_seed"]] + small
        assert "Delta is adjusted" in compare(frame.assign(test_loss=loss)).to_markdown()
    whole = frame_of([[0, 1, 2, 3]] * 4, 1e6 + effect)
    assert "Delta is adjusted" not in compare(whole).to_markdown()
