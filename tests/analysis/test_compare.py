import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import SEEDS, study

from analysis import compare
from analysis.comparison.estimate import estimate
from analysis.comparison.noise_band import noise_band
from analysis.comparison.ranking import ranking
from analysis.comparison.result import footnote
from analysis.comparison.rules import Origin
from analysis.comparison.verdict import Kind
from analysis.text import DASH
from harness.records import BASELINE


def row(result, arm):
    return result.table.set_index("arm").loc[arm]


def test_a_clear_improvement_is_better_and_a_clear_harm_is_worse():
    result = compare(study({"good": -0.05, "bad": 0.05, "null": 0.0}, n=5), rope=0.01)
    assert row(result, "good").verdict == "better (beyond practical size)"
    assert row(result, "bad").verdict == "worse (beyond practical size)"
    assert next(iter(result.table["arm"])) == "good"
    assert list(result.table["arm"])[-1] == "bad"


def test_higher_is_better_turns_the_verdicts_round():
    frame = study({"good": -0.05, "bad": 0.05}, n=5)
    result = compare(frame, rope=0.01, higher_is_better=True)
    assert row(result, "good").verdict == "worse (beyond practical size)"
    assert row(result, "bad").verdict == "better (beyond practical size)"
    assert result.table["arm"].iloc[0] == "bad"


def test_equal_within_the_practical_size_is_said_so():
    result = compare(study({"null": 0.0}, n=20), rope=0.02)
    assert row(result, "null").verdict == "no practical difference"


def test_an_equivalence_test_s_interval_is_said_to_be_one():
    equal = compare(study({"a": 0.0001}, n=8), practical_size=0.02)
    assert equal.verdicts["a"].kind is Kind.SAME
    assert "stands the equivalence test's interval." in equal.to_markdown()
    clear = compare(study({"a": -0.1}, n=8), practical_size=0.02)
    assert "equivalence test's interval" not in clear.to_markdown()


def test_real_but_small_is_both():
    result = compare(study({"tiny": -0.004}, n=40, sd=0.002), rope=0.02)
    assert row(result, "tiny").verdict == "better (below practical size)"


@pytest.mark.parametrize("delta", [-0.018, -0.024])
def test_an_interval_that_holds_the_practical_size_calls_a_difference_neither_large_nor_small(
    delta,
):
    one = row(compare(study({"a": delta}, n=6, sd=0.006), rope=0.02), "a")
    assert one.ci_low < -0.02 < one.ci_high < 0
    assert (one.delta < -0.02) == (delta < -0.02)
    assert one.verdict == "better"


def test_shared_seeds_choose_the_mixed_model_and_distinct_ones_the_pooled_t():
    deltas = {"a": -0.01, "b": 0.0}
    assert "mixed model" in compare(study(deltas)).method
    unshared = compare(study(deltas, shared=False))
    assert "pooled variance" in unshared.method
    assert unshared.why == "no two runs share an initialisation seed"
    without = compare(study(deltas).drop(columns=["init_seed", "data_seed", "loop_seed"]))
    assert "no init_seed is given" in without.why


def test_the_pooled_variance_is_one_for_all_and_the_moderated_one_is_not():
    rng = np.random.default_rng(0)
    frame = study({"calm": 0.0, "wild": 0.0}, n=6, shared=False)
    frame.loc[frame["arm"] == "wild", "test_loss"] += rng.normal(0, 0.3, 6)
    width = {}
    for variance in ("pooled", "moderated"):
        table = compare(frame, variance=variance).table.set_index("arm")
        width[variance] = table["ci_high"] - table["ci_low"]
    assert width["pooled"]["calm"] == pytest.approx(width["pooled"]["wild"])
    assert width["moderated"]["calm"] < width["moderated"]["wild"] / 2


def test_single_runs_against_eight_baselines_use_the_prediction_interval():
    frame = study({f"arm{i}": 0.0 for i in range(8)}, n=1, n_baseline=8)
    result = compare(frame)
    base = frame[frame["arm"] == BASELINE]["test_loss"]
    one = row(result, "arm3")
    assert result.method == "t prediction interval of one run from K = 8 baselines, df 7"
    assert one.se == pytest.approx(base.std() * np.sqrt(1 + 1 / 8))
    assert one.df == pytest.approx(7)
    assert (one.ci_high - one.ci_low) / 2 / one.se == pytest.approx(3.65673, abs=1e-4)
    assert result.noise.half_width_arms == pytest.approx(3.65673 * one.se, rel=1e-4)
    assert result.noise.half_width == pytest.approx(2.364624 * one.se, rel=1e-6)


def test_one_run_of_each_gives_only_the_break_even_sd():
    frame = pd.DataFrame({"arm": [BASELINE, "no_dropout"], "test_loss": [3.692, 3.641]})
    result = compare(frame)
    one = row(result, "no_dropout")
    assert one.verdict == "undecided"
    assert np.isnan(one.se)
    assert one.breakeven_sd == pytest.approx(0.051 / (1.959964 * np.sqrt(2)), rel=1e-6)
    assert any("at least 4 initialisation seeds" in step for step in result.next_steps)
    text = result.to_markdown()
    assert "break-even sd" in text.splitlines()[2]
    assert f"{one.breakeven_sd:.4f}" in text


def test_noise_at_the_break_even_sd_puts_p_on_alpha():
    frame = study({"a": -0.02}, n=4)
    first = compare(frame, alpha=0.05)
    factor = row(first, "a").breakeven_sd / first.sd
    base = frame.groupby("arm")["test_loss"].transform("mean")
    frame["test_loss"] = base + (frame["test_loss"] - base) * factor
    assert row(compare(frame), "a").p_adj == pytest.approx(0.05, abs=1e-4)


def test_repeats_of_one_initialisation_are_a_loop_only_band_without_verdicts():
    frame = study({"a": -0.5}, n=1, n_baseline=8)
    frame["init_seed"] = 0
    result = compare(frame)
    assert result.estimate.obstacle == "loop-only band"
    assert row(result, "a").verdict == "undecided"
    assert np.isnan(row(result, "a").p_adj)
    assert result.warnings[0].startswith("loop-only band")
    assert result.noise is None
    assert result.rope is None
    assert "**Noise:**" not in result.to_markdown()
    assert not any("practical size" in text for text in compare(frame, rope=1e-5).warnings)


def test_fewer_than_three_residual_degrees_of_freedom_leave_everything_undecided():
    result = compare(study({"a": -5.0}, n=2))
    assert row(result, "a").verdict == "undecided"
    assert any("residual degrees of freedom" in text for text in result.warnings)


@pytest.mark.parametrize(("n_arms", "n_seeds"), [(1, 4), (2, 3), (3, 2)])
def test_the_seeds_that_are_asked_for_are_enough(n_arms: int, n_seeds: int):
    arms = {f"a{i}": 0.0 for i in range(n_arms)}
    assert f"at least {n_seeds} initialisation seeds" in compare(study(arms, n=1)).next_steps[0]
    assert compare(study(arms, n=n_seeds)).table["df"].min() >= 3 - 1e-6


@pytest.mark.parametrize("n", [1, 2, 5])
def test_identical_losses_are_undecided_and_never_p_zero(n):
    frame = study({"a": -0.1}, n=n, sd=0.0, n_baseline=5)
    result = compare(frame)
    assert row(result, "a").verdict == "undecided"
    assert np.isnan(row(result, "a").p_adj)
    assert any("identical losses" in text for text in result.warnings)


def test_constant_differences_at_every_seed_are_not_evidence():
    frame = study({"a": 0.0}, n=4)
    base = frame.loc[frame["arm"] == BASELINE, "test_loss"].to_numpy()
    frame.loc[frame["arm"] == "a", "test_loss"] = base - 0.001
    result = compare(frame)
    assert row(result, "a").verdict == "undecided"
    assert any("no residual noise is left" in text for text in result.warnings)
    assert not result.next_steps  # more runs of this kind would show no noise either


@pytest.mark.thorough
@settings(max_examples=6)
@given(shift=st.floats(-50, 50), scale=st.floats(0.01, 100), seed=st.integers(0, 5))
def test_verdicts_follow_shift_scale_and_any_order(shift, scale, seed):
    frame = study({"a": -0.03, "b": 0.002}, n=4)
    moved = frame.sample(frac=1, random_state=seed)
    moved["test_loss"] = shift + scale * moved["test_loss"]
    before = compare(frame, rope=0.01).table.set_index("arm")
    after = compare(moved, rope=0.01 * scale).table.set_index("arm")
    assert list(before["verdict"]) == list(after["verdict"])
    assert after["p_adj"].to_numpy() == pytest.approx(
        before["p_adj"].to_numpy(), rel=1e-4, abs=1e-9, nan_ok=True
    )
    assert after["delta"].to_numpy() == pytest.approx(
        scale * before["delta"].to_numpy(), rel=1e-5, abs=1e-9 * scale
    )


@pytest.mark.proof
def test_arms_that_change_nothing_are_called_real_at_most_at_the_nominal_rate():
    rng = np.random.default_rng(11)
    studies = 60
    wrong = 0
    for _ in range(studies):
        table = compare(study({f"aa{i}": 0.0 for i in range(4)}, n=4, rng=rng)).table
        wrong += table["verdict"].str.startswith(("better", "worse")).any()
    assert wrong <= 8  # the 99.5% quantile at 0.05


def test_without_a_declared_practical_size_nothing_is_called_equal_or_large():
    frame = study({"good": -0.2, "null": 0.0}, n=20)
    result = compare(frame)
    assert not result.practical.declared
    assert row(result, "good").verdict == "better"
    assert row(result, "null").verdict == "undecided"
    assert row(compare(frame, rope=0.02), "null").verdict == "no practical difference"


@pytest.mark.proof
def test_an_arm_with_the_baseline_s_losses_of_which_runs_diverge_is_not_better():
    rng = np.random.default_rng(4)
    wrong = 0
    for _ in range(60):
        frame = study({"a": 0.0}, n=10, rng=rng, shared=False).assign(status="complete")
        worst = frame[frame["arm"] == "a"].nlargest(4, "test_loss").index
        frame.loc[worst, ["status", "test_loss"]] = ["diverged", np.nan]
        wrong += compare(frame).verdicts["a"].kind is Kind.BETTER
    assert wrong == 0


def test_an_arm_that_stays_far_better_with_its_lost_runs_ranked_last_is_better():
    frame = study({"a": -0.2}, n=12, shared=False).assign(status="complete")
    lost = frame[frame["arm"] == "a"].index[:1]
    frame.loc[lost, ["status", "test_loss"]] = ["diverged", np.nan]
    assert str(compare(frame).verdicts["a"]) == "better (1 of 12 diverged)"


@pytest.mark.proof
def test_no_interval_leaves_the_practical_size_beside_no_practical_difference():
    rng, n_same = np.random.default_rng(7), 0
    for _ in range(20):
        frame = study(dict.fromkeys("abcdef", 0.0), n=5, rho=0.8, rng=rng)
        table = compare(frame, rope=0.015).table
        same = table[table["verdict"] == "no practical difference"]
        n_same += len(same)
        assert ((same["ci_low"] > -0.015) & (same["ci_high"] < 0.015)).all()
    assert n_same > 20


def test_two_baseline_runs_have_a_band_and_the_practical_size_is_one_sd_of_all_runs():
    result = compare(study({"a": 0.0, "b": 0.0}, n=5, n_baseline=2))
    assert result.noise.K == 2
    assert result.practical.size == pytest.approx(result.estimate.fit.sd_total)
    assert result.practical.origin == Origin.RUN_SD


def test_a_baseline_without_noise_is_no_measure_of_a_practical_size():
    frame = study({"a": 0.0, "b": 0.0}, n=4, shared=False)
    frame.loc[frame["arm"] == BASELINE, "test_loss"] = 3.69
    result = compare(frame)
    assert (result.noise.K, result.noise.sd) == (4, 0)
    assert result.practical.origin == Origin.RUN_SD
    noisy = compare(study({"a": 0.0, "b": 0.0}, n=4, shared=False))
    assert (noisy.practical.origin, noisy.rope) == (Origin.BASELINE_SD, noisy.noise.sd)
    assert noisy.rope_source.startswith("1 x sd of the 4 baseline runs")


def test_a_baseline_alone_has_a_mean_and_no_prediction_of_others():
    assert compare(study({}, n=4)).method.startswith("one-way means, pooled variance, df 3")


def test_runs_whose_seeds_are_not_known_are_of_different_seeds():
    frame = study({"a": 0.0}, n=4)
    known, unknown = (compare(f).noise for f in (frame, frame.drop(columns=[*SEEDS])))
    none = compare(frame.assign(**dict.fromkeys(SEEDS, np.nan)))
    assert none.estimate.obstacle is None
    assert none.noise.half_width == unknown.half_width == known.half_width


def test_reruns_that_repeat_their_seed_s_loss_are_worth_one_run_in_the_noise_band():
    once = study({}, n=3).rename(columns={"test_loss": "loss"})
    twice = pd.concat([once, once], ignore_index=True)
    one, two = (noise_band(runs, estimate(runs, BASELINE)) for runs in (once, twice))
    assert (one.df, two.df) == (2, 2)
    assert two.half_width == pytest.approx(one.half_width)
    still = noise_band(twice.assign(loss=3.7), estimate(twice.assign(loss=3.7), BASELINE))
    assert (still.mean, still.sd, still.half_width) == (3.7, 0, 0)


def test_json_holds_every_figure_under_its_name():
    result = compare(study({"a": -0.1}, n=2))
    found = json.loads(result.to_json())
    names = ("alpha", "rope", "rope_source", "method", "why", "sd", "rho")
    assert {name: found[name] for name in names} == {name: getattr(result, name) for name in names}
    assert found["noise"]["half_width"] == result.noise.half_width
    assert found["warnings"] == [*result.warnings]
    assert "too few residual degrees of freedom" in found["warnings"][0]


@pytest.mark.parametrize("higher", [False, True])
def test_what_a_dollar_gains_is_the_mean_gain_over_the_mean_price(higher):
    frame = study({"a": -0.1}, n=4).assign(usd=[1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0])
    found = row(compare(frame, higher_is_better=higher), "a")
    assert found.usd == 2.5
    assert found.nats_per_usd == pytest.approx((found.delta if higher else -found.delta) / 2.5)


@pytest.mark.parametrize("higher", [False, True])
def test_the_best_arms_are_named_first(higher):
    sign = 1 if higher else -1
    frame = study({"good": sign * 0.2, "best": sign * 0.5}, n=4)
    result = compare(frame, higher_is_better=higher)
    assert "ranks of the better arms: best 1, good 2 (" in result.to_markdown()
    best, good = ranking(result).to_table().rows
    assert [item.text for item in best] == ["best", "1", "<0.001", "1"]
    assert [item.text for item in good] == ["good", "2", DASH, "1"]


@pytest.mark.parametrize(
    ("n_arms", "n", "several", "wide"),
    [(1, 3, False, True), (2, 3, True, True), (2, 4, True, False)],
)
def test_the_noise_band_is_told_for_as_many_runs_as_there_are_arms(n_arms, n, several, wide):
    arms = dict.fromkeys("ab"[:n_arms], 0.0)
    text = compare(study(arms, n=n)).to_markdown()
    assert "One more baseline run: 3.6" in text
    (mean, sd) = re.findall(rf"run: (\S+) ± \S+ \(95%; K = {n}, s = (\S+), df", text)[0]
    assert len(sd.partition(".")[2]) == len(mean.partition(".")[2]) + 1
    assert ("2 such runs at once" in text, "such runs at once" in text) == (several, several)
    assert ("It is wide because df is below 3" in text) == wide


def test_the_method_says_how_far_noise_is_taken_to_be_equal_where_that_was_asked():
    frame = study({"a": 0.0, "b": 0.0}, n=4)
    moderated, pooled = (compare(frame, variance=rule) for rule in ("moderated", "pooled"))
    assert re.search(r"own variance \(probability of equal noise: 0\.\d\d\)$", moderated.method)
    assert "noise" not in pooled.method


def test_the_line_under_a_pasted_table_speaks_of_intervals_where_there_are_some():
    judged, single = (footnote(compare(study({"a": 0.0}, n=n))) for n in (3, 1))
    words = "family error 0.05, adjusted p and simultaneous intervals; practical size "
    assert words in judged
    assert "intervals" not in single


def test_a_table_for_a_spreadsheet_holds_no_formula():
    frame = study({"=HYPERLINK(1)": 0.0}, n=4)
    assert "'=HYPERLINK(1)," in compare(frame).to_csv()
    assert compare(frame).to_csv().startswith(",".join(compare(frame).table.columns) + "\n")


def test_a_published_harm_has_its_sign():
    frame = study({"a": 0.0}, n=4)
    frame.loc[frame["arm"] == "a", "published_delta"] = 0.182
    assert " +0.182 |" in compare(frame).to_markdown()


def test_the_baseline_sorts_between_what_is_better_and_what_is_worse():
    table = compare(study({"a": -0.1, "b": 0.1}, n=4)).to_table()
    place = [column.label for column in table.columns].index("delta")
    deltas = {row[0].text: row[place].value for row in table.rows}
    assert deltas["a"] < deltas[BASELINE] == 0 < deltas["b"]
