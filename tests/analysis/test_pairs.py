import numpy as np
import pandas as pd
import pytest
from studies import study

from analysis import compare
from analysis.questions.noise import noise
from analysis.questions.plan import pilot_of, plan
from analysis.stats.mixed import fit_mixed
from analysis.stats.seed_correlation import pair_correlation, paired_arms, seed_correlation


def test_a_few_quiet_pairs_among_noisy_unpaired_arms_are_not_called_nearly_equal():
    rng = np.random.default_rng(0)
    modelled, measured = [], []
    for _ in range(60):
        seeds = [np.arange(5), np.arange(5), np.arange(4), *np.arange(5, 45).reshape(8, 5)]
        arm = np.repeat(np.arange(11), [len(s) for s in seeds])
        seed = np.concatenate(seeds)
        sd = np.where(arm < 3, 0.005, 0.016)
        y = sd * (0.47**0.5 * rng.normal(size=45)[seed] + 0.53**0.5 * rng.normal(size=len(arm)))
        modelled.append(fit_mixed(y, arm, seed).rho)
        found = pair_correlation(y, arm, seed)
        measured.append(found.estimate)
    assert found.n_pairs == 9
    assert np.median(modelled) > 0.9
    assert np.median(measured) == pytest.approx(0.47, abs=0.15)


def test_complete_blocks_are_all_pairs():
    rng = np.random.default_rng(1)
    y = rng.normal(size=(4, 5)) + rng.normal(size=5)
    arm, seed = (index.ravel() for index in np.indices(y.shape))
    found = pair_correlation(y.ravel(), arm, seed)
    assert found == seed_correlation(y.ravel(), arm, seed)
    assert found.n_pairs == 15


def test_arms_that_share_fewer_than_half_of_their_seeds_are_not_paired():
    seeds = [[0, 1, 2, 3, 4, 5], [0, 1, 2], [4, 5, 6, 7], [5, 6, 7], [8, 9]]
    arm = np.repeat(np.arange(5), [len(s) for s in seeds])
    assert paired_arms(arm, np.concatenate(seeds)).tolist() == [True, True, True, False, False]


def test_no_pair_has_no_correlation():
    arm, seed = np.repeat([0, 1], 3), np.arange(6)
    assert pair_correlation(np.arange(6.0), arm, seed) is None


def test_reruns_of_a_seed_are_measured_where_there_is_no_pair():
    found = pair_correlation([1.0, 1.2, 3.0, 3.1], [0, 0, 0, 0], [0, 0, 1, 1])
    assert found.estimate == pytest.approx(1.805 / (1.805 + 0.0125), abs=0.01)
    assert found.origin == "from reruns of a seed, no pairs"


def uneven_study():
    """Return five paired runs of a, and b with one of six seeds in common with the baseline."""
    rng = np.random.default_rng(4)
    seeds = {"baseline": range(6), "a": range(5), "b": range(5, 11)}
    rows = [(arm, seed) for arm, own in seeds.items() for seed in own]
    frame = pd.DataFrame(rows, columns=["arm", "init_seed"])
    frame["test_loss"] = 3.7 + 0.02 * rng.normal(size=11)[frame["init_seed"]]
    return frame.assign(test_loss=frame["test_loss"] + 0.01 * rng.normal(size=len(frame)))


def test_an_arm_with_few_of_the_baselines_seeds_is_fitted_as_unpaired():
    frame = uneven_study()
    result = compare(frame)
    own = frame["arm"] == "b"
    apart = compare(frame.assign(init_seed=frame["init_seed"] + 100 * own))
    ours, theirs = (found.table.drop(columns="n_shared_init") for found in (result, apart))
    pd.testing.assert_frame_equal(ours, theirs)
    assert result.estimate.n_shared == (6, 5, 1)
    assert [w for w in result.warnings if "fewer than half" in w] == [
        "b: fewer than half of the initialisation seeds are the baseline's, so these runs are not "
        "paired with it: use the same seeds"
    ]
    assert not [w for w in apart.warnings if "fewer than half" in w]


def test_the_printed_correlation_is_of_the_pairs_and_says_how_many_they_are():
    frame = uneven_study()
    pairs = frame[(frame["arm"] != "b") & (frame["init_seed"] < 5)]
    arm = pairs["arm"].map({"baseline": 0, "a": 1})
    measured = seed_correlation(pairs["test_loss"], arm, pairs["init_seed"])
    words = f"correlation of same-seed runs {measured.estimate:.2f} (from 5 pairs)"
    result, pilot = compare(frame), pilot_of(frame)
    assert result.rho == pytest.approx(measured.estimate)
    for text in (result.to_markdown(), plan(0.03, pilot, 2).to_markdown()):
        assert words in " ".join(text.split())
    assert "(from 5 pairs)" in noise(frame).to_markdown()


@pytest.mark.parametrize(("share", "paired"), [(np.nan, True), (0.6, True), (0.1, False)])
def test_runs_are_paired_unless_most_of_their_weights_are_known_to_begin_apart(share, paired):
    frame = study({"a": 0.0, "b": 0.0}, n=4).assign(init_shared=1.0)
    frame.loc[frame["arm"] == "a", "init_shared"] = share
    result = compare(frame)
    assert dict(zip(result.estimate.arms, result.estimate.n_shared, strict=True)) == {
        "baseline": 4, "a": 4 * paired, "b": 4}  # fmt: skip
    told = any("the initial weights differ from the baseline's" in text for text in result.warnings)
    assert told != paired


def test_seeds_that_arms_share_without_the_baseline_are_no_pairs():
    arm, seed = np.repeat([0, 1, 2], [4, 5, 5]), np.array([*range(4), *range(5), *range(5)])
    loss = np.random.default_rng(5).normal(3.7, 0.01, len(arm))
    base = seed < 4
    assert pair_correlation(loss, arm, seed) == pair_correlation(loss[base], arm[base], seed[base])
