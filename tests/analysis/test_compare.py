import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import on_disk, put, record, study

import analysis
from analysis import AnalysisError, compare
from harness.records import BASELINE, Fingerprints, Provenance, Status

TEN_ARMS = {f"arm{i}": 0.0 for i in range(10)}


def row(result, arm):
    return result.table.set_index("arm").loc[arm]


def test_a_clear_improvement_is_better_and_a_clear_harm_is_worse():
    result = compare(study({"good": -0.05, "bad": 0.05, "null": 0.0}, n=5), rope=0.01)
    assert row(result, "good").verdict == "better"
    assert row(result, "bad").verdict == "worse"
    assert next(iter(result.table["arm"])) == "good"
    assert list(result.table["arm"])[-1] == "bad"


def test_higher_is_better_turns_the_verdicts_round():
    frame = study({"good": -0.05, "bad": 0.05}, n=5)
    result = compare(frame, rope=0.01, higher_is_better=True)
    assert row(result, "good").verdict == "worse"
    assert row(result, "bad").verdict == "better"
    assert result.table["arm"].iloc[0] == "bad"


def test_equal_within_the_practical_size_is_said_so():
    result = compare(study({"null": 0.0}, n=20), rope=0.02)
    assert row(result, "null").verdict == "no practical difference"


def test_real_but_small_is_both():
    result = compare(study({"tiny": -0.004}, n=40, sd=0.002), rope=0.02)
    assert row(result, "tiny").verdict == "better (below practical size)"


def test_shared_seeds_choose_the_mixed_model_and_distinct_ones_the_pooled_t():
    deltas = {"a": -0.01, "b": 0.0}
    assert "mixed model" in compare(study(deltas)).method
    unshared = compare(study(deltas, shared=False))
    assert "pooled variance" in unshared.method
    assert unshared.why == "no two runs share an initialisation seed"
    without = compare(study(deltas).drop(columns=["init_seed", "data_seed", "loop_seed"]))
    assert "no init_seed is given" in without.why


def test_single_runs_against_eight_baselines_use_the_prediction_interval():
    frame = study({f"arm{i}": 0.0 for i in range(8)}, n=1, n_baseline=8)
    result = compare(frame)
    base = frame[frame["arm"] == BASELINE]["test_loss"]
    one = row(result, "arm3")
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


def test_fewer_than_three_residual_degrees_of_freedom_leave_everything_undecided():
    result = compare(study({"a": -5.0}, n=2))
    assert row(result, "a").verdict == "undecided"
    assert any("residual degrees of freedom" in text for text in result.warnings)


@pytest.mark.parametrize(("n_arms", "n_seeds"), [(1, 4), (2, 3), (3, 2)])
def test_the_seeds_that_are_asked_for_are_enough(n_arms: int, n_seeds: int):
    arms = {f"a{i}": 0.0 for i in range(n_arms)}
    assert f"at least {n_seeds} initialisation seeds" in compare(study(arms, n=1)).next_steps[0]
    assert compare(study(arms, n=n_seeds)).table["df"].min() >= 3 - 1e-6


def test_a_step_down_p_below_alpha_beside_an_interval_that_holds_0_is_explained():
    frame = study({"far": -0.5, "near": 0.0}, n=6, shared=False)
    base = frame.loc[frame["arm"] == BASELINE, "test_loss"].to_numpy()
    critical = []
    for shift in np.linspace(0.005, 0.03, 60):
        frame.loc[frame["arm"] == "near", "test_loss"] = base[::-1] - shift
        result = compare(frame)
        near = row(result, "near")
        told = any("near: real by the step-down p" in text for text in result.warnings)
        assert told == (near.verdict == "better" and near.ci_high > 0)
        critical.append(told)
    assert any(critical)
    assert not all(critical)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_identical_losses_are_undecided_and_never_p_zero(n):
    frame = study({"a": -0.1}, n=n, sd=0.0, n_baseline=5)
    result = compare(frame)
    assert row(result, "a").verdict == "undecided"
    assert np.isnan(row(result, "a").p_adj)
    assert any(
        "identical losses" in text or "no residual noise" in text for text in result.warnings
    )


def test_constant_differences_at_every_seed_are_not_evidence():
    frame = study({"a": 0.0}, n=4)
    base = frame.loc[frame["arm"] == BASELINE, "test_loss"].to_numpy()
    frame.loc[frame["arm"] == "a", "test_loss"] = base - 0.001
    result = compare(frame)
    assert row(result, "a").verdict == "undecided"
    assert not any("run the baseline with at least 4" in step for step in result.next_steps)


def test_the_practical_size_is_held_against_the_noise_that_pairing_leaves():
    frame = study({"a": -0.01, "b": 0.0}, n=8, rho=0.9)
    fit = compare(frame).estimate.fit
    left = np.sqrt(fit.var_resid)
    between = (left + fit.sd_total) / 2
    assert not any("practical size" in text for text in compare(frame, rope=between).warnings)
    assert any("practical size" in text for text in compare(frame, rope=left / 2).warnings)


def test_seeds_that_are_already_there_are_no_next_step():
    result = compare(study({"a": 0.0, "b": 0.005}, n=3, sd=0.01), rope=0.2)
    far = compare(study({"a": 0.19, "b": 0.2}, n=3, sd=0.01), rope=0.2)
    for found in (result, far):
        assert not any("seeds per arm" in step for step in found.next_steps)
    near = compare(study({"a": 0.0, "b": 0.005}, n=3, sd=0.01), rope=0.003)
    assert any("seeds per arm (now 3)" in step for step in near.next_steps)


def test_an_arm_with_the_baseline_s_own_losses_is_pointed_out():
    frame = study({"same": 0.0, "b": -0.01}, n=4)
    base = frame.loc[frame["arm"] == BASELINE, "test_loss"].to_numpy()
    frame.loc[frame["arm"] == "same", "test_loss"] = base
    result = compare(frame)
    assert row(result, "same").warnings == "same losses as the baseline"
    assert row(result, "same").verdict in ("undecided", "no practical difference")


def test_very_different_variances_are_pointed_out_and_squeezing_is_available():
    frame = study({"calm": 0.0, "wild": 0.0}, n=8, sd=0.002)
    wild = frame["arm"] == "wild"
    frame.loc[wild, "test_loss"] = 3.9 + 0.05 * np.sin(np.arange(8) * 2.1)
    guarded = compare(frame)
    pooled, squeezed = (compare(frame, variance=name) for name in ("pooled", "squeezed"))
    assert any("variances differ" in text and "squeezed" in text for text in guarded.warnings)
    assert row(guarded, "calm").se < 0.9 * row(pooled, "calm").se
    assert any("variances differ" in text and "squeezed" in text for text in pooled.warnings)
    assert row(squeezed, "calm").se < 0.65 * row(pooled, "calm").se
    assert row(squeezed, "calm").df == row(squeezed, "wild").df


def test_equal_variances_raise_no_warning():
    assert not any("variances" in text for text in compare(study(TEN_ARMS, n=8)).warnings)


@settings(max_examples=15, deadline=None)
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


def test_arms_that_change_nothing_are_called_real_at_most_at_the_nominal_rate():
    rng = np.random.default_rng(11)
    studies = 60
    wrong = 0
    for _ in range(studies):
        table = compare(study({f"aa{i}": 0.0 for i in range(4)}, n=4, rng=rng)).table
        wrong += table["verdict"].str.startswith(("better", "worse")).any()
    assert wrong <= 8  # the 99.5% quantile at 0.05


# -- what is said of the runs ------------------------------------------------------------------


def lost(n_lost):
    frame = study({"a": -0.05}, n=4).assign(status="complete")
    dead = (frame["arm"] == "a") & (frame["init_seed"] < n_lost)
    frame.loc[dead, ["status", "test_loss"]] = ["diverged", np.nan]
    return compare(frame)


def test_an_arm_of_which_some_runs_diverged_is_said_to_be_of_survivors():
    result = lost(2)
    (words,) = (text for text in result.warnings if "survivors" in text)
    assert words.startswith("a: 2 of 4 runs diverged. Mean, interval and verdict are of the surv")
    assert "Too few shared seeds are left for pairing" in words
    assert row(result, "a").verdict.endswith("(2 of 4 diverged)")
    assert row(result, "a").warnings == "mean of the runs that did not diverge"
    assert row(result, "a").n_shared_init == 2
    assert not any("survivors" in text for text in lost(0).warnings)
    assert not any("survivors" in text for text in lost(4).warnings)


def test_survivors_are_paired_where_other_arms_show_how_seeds_pair():
    frame = study({"a": -0.05, "b": 0.0}, n=4, rho=0.9).assign(status="complete")
    frame.loc[(frame["arm"] == "a") & (frame["init_seed"] < 2), "status"] = "diverged"
    result = compare(frame)
    assert "mixed model" in result.method
    assert not any("pairing" in text for text in result.warnings)


@pytest.mark.parametrize(
    ("metric", "hint"),
    [("val_acc", True), ("accuracy", True), ("eval/f1", True), ("win_rate", True), ("bleu4", True),
     ("reward_loss", False), ("perplexity", False), ("accumulated_cost", False)],
)  # fmt: skip
def test_a_metric_that_is_better_when_higher_by_its_name_gets_a_hint(metric, hint):
    frame = study({"a": -0.03}).rename(columns={"test_loss": metric})
    for known in (False, True):
        found = compare(frame, metric=metric, higher_is_better=known)
        assert any("add --higher-is-better" in w for w in found.warnings) == (hint and not known)


# -- what is refused ---------------------------------------------------------------------------


def test_nan_in_a_complete_run_is_refused_by_name():
    frame = study({"a": 0.0})
    frame["run_id"] = [f"run{i}" for i in range(len(frame))]
    frame.loc[4, "test_loss"] = np.nan
    with pytest.raises(AnalysisError, match="run4"):
        compare(frame)


def test_duplicates_are_refused_unless_declared():
    frame = study({"a": 0.0})
    twice = pd.concat([frame, frame.iloc[[0]]], ignore_index=True)
    twice.loc[len(twice) - 1, "test_loss"] += 0.001
    with pytest.raises(AnalysisError, match=r"same seeds.*row 1 .*--allow-reruns"):
        compare(twice)
    assert row(compare(twice, allow_reruns=True), BASELINE).n == 4


def test_mixed_test_sets_are_refused_naming_both_sides():
    frame = study({"a": 0.0})
    frame["test_set"] = ["x" * 64] * 3 + ["y" * 64] * 3
    with pytest.raises(AnalysisError, match=r"2 different test sets \(xxxxxxxxxxxx: row 1"):
        compare(frame)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "control"}, "no complete run of the baseline 'control'"),
        ({"metric": "accuracy"}, "no column 'accuracy'.*--metric"),
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"rope": -0.1}, "rope is -0.1"),
        ({"variance": "robust"}, "allowed are guarded, pooled, squeezed"),
        ({"ropes": 1}, "unknown rule 'ropes'"),
    ],
)
def test_impossible_rules_are_refused_with_what_is_allowed(changes, message):
    with pytest.raises(AnalysisError, match=message):
        compare(study({"a": 0.0}), **changes)


@pytest.mark.parametrize(("column", "word"), [("n_params", "parameters"), ("n_steps", "steps")])
def test_an_arm_of_two_scales_is_refused(column, word):
    frame = study({"a": 0.0}, n=3)
    frame[column] = [100, 100, 2000, 100, 100, 100]
    with pytest.raises(
        AnalysisError, match=rf"baseline differ in their number of {word} \(100, 2.*study_name"
    ):
        compare(frame)


def test_an_unknown_status_is_refused():
    frame = study({"a": 0.0})
    frame["status"] = ["complete"] * 5 + ["finnished"]
    with pytest.raises(AnalysisError, match=r"unknown status 'finnished' of row 6"):
        compare(frame)


# -- diverged, failed, planned -----------------------------------------------------------------


def test_diverged_runs_are_counted_and_listed(tmp_path):
    folder = on_disk(tmp_path / "runs", study({"a": -0.05}, n=4, sd=0.004))
    put(folder, record("a", 9, float("nan"), status=Status.DIVERGED, step=33))
    put(folder, record("hot", 0, None, status=Status.DIVERGED, step=12))
    result = compare(folder)
    assert row(result, "a").verdict == "better (1 of 5 diverged)"
    assert row(result, "hot").verdict == "no complete run (1 diverged)"
    assert "2 diverged" in result.ledger.sentence()
    assert "at step 33 of 150" in result.to_markdown()


def test_the_ledger_holds_the_runs_against_the_plan(tmp_path):
    frame = study({"a": -0.05}, n=4)
    folder = on_disk(tmp_path / "runs", frame)
    put(folder, record("a", 77, 3.6))
    put(folder, record("a", 3, None, status=Status.RUNNING))
    result = compare(folder)
    assert result.ledger.sentence() == ("8 planned, 8 complete, 1 running, 0 failed, 0 diverged")
    assert any(text.startswith("exploratory") for text in result.warnings)
    assert result.rope == 0.01
    assert result.rope_source == "declared in the study's plan"


def test_an_arm_of_another_budget_is_pointed_out():
    frame = study({"a": 0.0, "long": -0.05}, n=4)
    frame["tokens"] = np.where(frame["arm"] == "long", 2e6, 1e6)
    texts = [text for text in compare(frame).warnings if "number of tokens" in text]
    assert [text.split(":")[0] for text in texts] == ["long"]


def test_an_arm_with_another_initialisation_counts_as_unshared(tmp_path):
    folder = tmp_path / "runs"
    for seed in range(4):
        put(folder, record(BASELINE, seed, 3.69 + 0.01 * seed))
        put(folder, record("same", seed, 3.67 + 0.01 * seed + 0.001 * (seed % 2)))
        other = {"wte": f"z{seed}", "ones": "1", **{f"h{i}": f"z{i}s{seed}" for i in range(4)}}
        put(
            folder,
            record(
                "gpt2_init",
                seed,
                3.66 + 0.008 * ((seed * 2) % 4),
                fingerprints=Fingerprints(init=other),
            ),
        )
    result = compare(folder)
    assert row(result, "same").n_shared_init == 4
    assert row(result, "gpt2_init").n_shared_init == 0
    assert row(result, "gpt2_init").se > 2 * row(result, "same").se
    assert any("gpt2_init: other initial weights" in text for text in result.warnings)


def test_published_deltas_stand_beside_single_interventions_only(tmp_path):
    folder = tmp_path / "runs"
    card = {"clip": {"summary": "s", "source": "x", "published_delta": -0.014}}
    for seed in range(3):
        put(folder, record(BASELINE, seed, 3.69 + 0.01 * seed))
        put(folder, record("clip", seed, 3.68 + 0.011 * seed, cards=card))
        put(folder, record("a+clip", seed, 3.67 + 0.012 * seed, cards=card))
    table = compare(folder).table.set_index("arm")
    assert table.loc["clip", "published_delta"] == -0.014
    assert np.isnan(table.loc["a+clip", "published_delta"])
    for other in ({"baseline": "a+clip"}, {"metric": "train_loss"}):
        result = compare(folder, **other)
        assert result.table["published_delta"].isna().all()
        assert "published" not in result.to_markdown()


def test_records_of_two_test_sets_are_refused(tmp_path):
    folder = on_disk(tmp_path / "runs", study({"a": 0.0}, n=2), plan=False)
    put(folder, record("b", 0, 3.6, provenance=Provenance(test_set_sha256="u" * 64)))
    with pytest.raises(AnalysisError, match=r"different test sets.*b/"):
        compare(folder)


def test_references_stand_in_the_table_and_change_nothing_else():
    frame = study({"a": -0.02}, n=4)
    plain = compare(frame)
    with_reference = compare(frame, references=(("GPT-2 small", 3.5),))
    assert row(with_reference, "GPT-2 small").verdict == "reference"
    base = frame.loc[frame["arm"] == BASELINE, "test_loss"].mean()
    assert row(with_reference, "GPT-2 small").delta == pytest.approx(3.5 - base)
    rest = with_reference.table[with_reference.table["arm"] != "GPT-2 small"]
    pd.testing.assert_frame_equal(rest.reset_index(drop=True), plain.table)


def test_json_is_strict_and_names_every_run(tmp_path):
    folder = on_disk(tmp_path / "runs", study({"a": -0.02}))
    content = json.loads(compare(folder).to_json())
    assert len(content["runs"]) == 6
    assert content["table"][0]["arm"] == "a"


def test_latex_escapes_what_latex_would_swallow():
    text = compare(study({"no_dropout": -0.02})).to_latex()
    assert r"no\_dropout" in text
    assert text.count(r"\\") == 3


def test_the_package_names_everything_it_promises():
    assert all(hasattr(analysis, name) for name in analysis.__all__)
    with pytest.raises(AttributeError, match="no attribute 'comparee'"):
        _ = analysis.comparee


def test_one_mistyped_loss_is_pointed_out():
    runs = study({"a": -0.03, "b": 0.0}, n=3)
    assert not [text for text in compare(runs).warnings if "lie far apart" in text]
    runs.loc[runs.query("arm == 'b'").index[0], "test_loss"] *= 10
    (text,) = [text for text in compare(runs).warnings if "lie far apart" in text]
    assert text.startswith("the runs of b lie far apart: sd ")


def test_a_baseline_that_no_arm_stays_near_is_pointed_out():
    def pointed_out(deltas):
        return [text for text in compare(study(deltas)).warnings if "baseline seeds" in text]

    moved = dict.fromkeys("abcde", -0.025)
    (text,) = pointed_out(moved)
    assert text.startswith("5 of 5 arms lie more than 2 standard errors from baseline. ")
    assert not pointed_out(moved | {"e": 0.0, "d": 0.0})
    assert not pointed_out(dict.fromkeys("abcde", -0.3))
    assert not pointed_out(dict.fromkeys("abc", -0.025))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("diverged", "4 diverged; it needs another recipe, or name another"),
        ("preempted", "4 preempted; finish it, or name another"),
    ],
)
def test_a_baseline_without_a_complete_run_says_what_became_of_it(status, words):
    frame = study({"a": 0.0}, n=4)
    frame["status"] = [status if arm == "baseline" else "complete" for arm in frame["arm"]]
    with pytest.raises(AnalysisError, match=words):
        compare(frame)
