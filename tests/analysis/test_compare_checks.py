"""What the comparison warns of, and what it says to run next."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from studies import SEEDS, on_disk, one_run_among_unlike_arms, put, record, study

from analysis import compare
from analysis.__main__ import main
from harness.records import BASELINE, Status

TEN_ARMS = {f"arm{i}": 0.0 for i in range(10)}


def row(result, arm):
    return result.table.set_index("arm").loc[arm]


@pytest.mark.thorough
def test_a_step_down_p_below_alpha_beside_an_interval_that_holds_0_is_explained():
    frame = study({"far": -0.5, "near": 0.0}, n=6, shared=False)
    base = frame.loc[frame["arm"] == BASELINE, "test_loss"].to_numpy()
    critical = []
    for shift in np.linspace(0.005, 0.03, 20):
        frame.loc[frame["arm"] == "near", "test_loss"] = base[::-1] - shift
        result = compare(frame)
        near = row(result, "near")
        told = any("near: significant by the step-down p" in text for text in result.warnings)
        assert told == (near.verdict == "better" and near.ci_high > 0)
        critical.append(told)
    assert any(critical)
    assert not all(critical)


def test_the_practical_size_is_held_against_the_noise_that_pairing_leaves():
    frame = study({"a": -0.01, "b": 0.0}, n=8, rho=0.9)
    fit = compare(frame).estimate.fit
    left = np.sqrt(fit.var_resid)
    between = (left + fit.sd_total) / 2
    assert not any("practical size" in text for text in compare(frame, rope=between).warnings)
    assert any("practical size" in text for text in compare(frame, rope=left / 2).warnings)


def test_a_practical_size_that_nobody_declared_is_not_held_against_the_noise():
    frame = study({"a": 0.0, "b": 0.0, "c": 0.0}, n=8, shared=False)
    base = frame["arm"] == BASELINE
    frame.loc[base, "test_loss"] = 3.69 + 0.001 * np.arange(8)
    result = compare(frame)
    assert result.rope < np.sqrt(result.estimate.fit.var_resid)
    assert not any("practical size" in text for text in result.warnings)


def test_seeds_that_are_already_there_are_no_next_step():
    result = compare(study({"a": 0.0, "b": 0.005}, n=3, sd=0.01), rope=0.2)
    far = compare(study({"a": 0.19, "b": 0.2}, n=3, sd=0.01), rope=0.2)
    for found in (result, far):
        assert not any("seeds per arm" in step for step in found.next_steps)
    near = study({"a": 0.0, "b": 0.005}, n=5, sd=0.01)
    fewer = near[(near["arm"] != "b") | (near["init_seed"] < 3)]
    assert any(
        "seeds per arm (now 3 to 5)" in step for step in compare(fewer, rope=0.003).next_steps
    )


@pytest.mark.parametrize(
    ("planned", "how"), [(True, "study_name=NAME study.seeds=2"), (False, "-m and 'seed=range(2)'")]
)
def test_more_seeds_are_asked_for_as_the_study_was_made(planned, how, tmp_path):
    frame = study({"a": 0.0, "b": 0.0, "c": 0.0}, n=1, n_baseline=2)
    (step,) = compare(on_disk(tmp_path / "s", frame, plan=planned)).next_steps
    assert step.startswith("run each arm with the baseline's seeds, at least 2 of them: ")
    assert step.endswith(how)
    (step,) = compare(frame).next_steps
    assert step.endswith("add their rows, with a column seed, to the table")


def test_runs_that_were_stopped_are_to_be_completed(tmp_path):
    frame = study({"a": 0.0, "b": 0.0}, n=4)
    folder = on_disk(tmp_path / "s", frame)
    put(folder, record("a", 0, None, status=Status.STOPPED))
    step, *_ = compare(folder).next_steps
    assert step.startswith("1 planned run(s) are not complete: a")


def test_an_arm_with_the_baseline_s_own_losses_is_pointed_out():
    frame = study({"same": 0.0, "b": -0.01}, n=4)
    base = frame.loc[frame["arm"] == BASELINE, "test_loss"].to_numpy()
    frame.loc[frame["arm"] == "same", "test_loss"] = base
    frame.loc[(frame["arm"] == "b") & (frame["init_seed"] == 0), "test_loss"] = base[0]
    result = compare(frame)
    assert "same losses" not in row(result, "b").warnings
    assert row(result, "same").warnings == "same losses as the baseline"
    assert row(result, "same").verdict in ("undecided", "no practical difference")


@pytest.mark.parametrize("share", [0.93, 1.07])
def test_a_difference_that_stands_out_within_its_interval_s_half_is_likely_overestimated(share):
    frame = study(dict.fromkeys("abcdef", 0.0), n=8, shared=False)
    before, moved = row(compare(frame, variance="pooled"), "a"), frame["arm"] == "a"
    half = (before.ci_high - before.ci_low) / 2
    frame.loc[moved, "test_loss"] -= before.delta + share * half
    found = row(compare(frame, variance="pooled"), "a")
    assert found.p_raw < 0.05
    assert ("likely overestimated" in found.warnings) == (share < 1)


def test_a_calm_arm_beside_a_wild_one_keeps_its_narrow_interval():
    frame = study({"calm": 0.0, "wild": 0.0}, n=8, sd=0.002)
    wild = frame["arm"] == "wild"
    frame.loc[wild, "test_loss"] = 3.9 + 0.05 * np.sin(np.arange(8) * 2.1)
    moderated, pooled = (row(compare(frame, variance=v), "calm") for v in ("moderated", "pooled"))
    assert moderated.ci_high - moderated.ci_low < 0.5 * (pooled.ci_high - pooled.ci_low)


def test_a_baseline_noisier_than_its_arms_is_pointed_out():
    frame = study({"a": 0.0, "b": 0.0, "c": 0.0}, n=8, sd=0.002, shared=False)
    base = frame["arm"] == BASELINE
    frame.loc[base, "test_loss"] = 3.69 + 0.02 * np.sin(np.arange(8) * 2.1)
    assert any("baseline is noisier than its arms" in text for text in compare(frame).warnings)
    assert not any("noisier" in text for text in compare(study(TEN_ARMS, n=8)).warnings)


def test_a_baseline_is_called_noisier_where_its_f_test_is_below_five_in_a_hundred():
    frame = study({"a": 0.0, "b": 0.0, "c": 0.0}, n=8, shared=False)
    base, told = frame["arm"] == BASELINE, []
    for spread in np.linspace(0.002, 0.02, 10):
        frame.loc[base, "test_loss"] = 3.69 + spread * np.sin(np.arange(8) * 2.1)
        variance = frame.groupby("arm")["test_loss"].var()
        F = variance[BASELINE] / variance.drop(BASELINE).mean()
        told.append(any("noisier than its arms" in text for text in compare(frame).warnings))
        assert told[-1] == (stats.f.sf(F, 7, 21) < 0.05)
    assert set(told) == {False, True}


def test_a_verdict_that_leans_on_the_noise_of_other_arms_says_so():
    frame = study({"a": 0.0, "b": 0.0, "c": 0.0, "d": -0.03}, n=4, sd=0.004, rho=0.0)
    wild = frame["arm"] == "d"
    frame.loc[wild, "test_loss"] = [3.66, 3.67, 3.62, 3.685]
    found = row(compare(frame, variance="pooled"), "d")
    assert found.p_adj < 0.05 < found.p_own
    assert found.warnings == "not confirmed by its own noise"


def test_an_arm_of_one_run_among_others_takes_its_noise_from_them_and_says_so():
    frame = study({"a": 0.0, "b": -0.05}, n=4)
    frame = frame[(frame["arm"] != "b") | (frame["init_seed"] == 0)]
    result = compare(frame)
    assert row(result, "b").warnings.startswith("one run: its own noise is unknown")
    assert row(result, "a").warnings == ""
    one_each = frame[(frame["arm"] == BASELINE) | (frame["init_seed"] == 0)]
    assert not any("own noise" in text for text in compare(one_each).warnings)


def test_an_interval_wider_than_the_losses_is_printed_nowhere(tmp_path, capsys):
    file, out = tmp_path / "mine.csv", tmp_path / "out"
    one_run_among_unlike_arms().to_csv(file, index=False)
    assert main([str(file), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    written = {end: (out / f"mine_results.{end}").read_text() for end in ("md", "tex", "json")}
    once = row(compare(str(file)), "once")
    assert (once.ci_low, once.ci_high) == (-np.inf, np.inf)
    assert once.verdict == "undecided"
    assert once.delta < 0 < once.p_adj < 1
    assert "no interval, since it would be wider than the losses themselves" in once.warnings
    assert "One more run of each arm named here gives an interval" in said
    (kept,) = (r for r in json.loads(written["json"])["table"] if r["arm"] == "once")
    assert kept["ci_low"] is kept["ci_high"] is None
    assert kept["p_adj"] == once.p_adj
    for text in (said, written["md"], written["tex"]):
        (line,) = (line for line in text.split("\n") if line.startswith(("| once", "once &")))
        assert "too wide" in line
    assert pd.read_csv(out / "mine_results.csv").set_index("arm").loc["once", "ci_high"] == np.inf


def test_one_more_run_gives_the_interval_that_one_run_does_not():
    frame = one_run_among_unlike_arms()
    more = frame[frame["arm"] == "once"].assign(**dict.fromkeys(SEEDS, 1), test_loss=2.41)
    assert np.isfinite(row(compare(pd.concat([frame, more], ignore_index=True)), "once").ci_high)


def test_a_copy_of_the_baseline_is_not_said_to_want_more_runs():
    frame = one_run_among_unlike_arms()
    copy = frame[frame["arm"] == BASELINE].assign(arm="copy")
    result = compare(pd.concat([frame, copy], ignore_index=True))
    assert np.isinf(row(result, "copy").ci_high)
    assert "wider than the losses" in row(result, "once").warnings
    assert "wider than the losses" not in row(result, "copy").warnings


def test_a_difference_that_is_equal_at_every_seed_shows_no_noise_and_says_so():
    frame = study({"a": 0.0, "b": 0.0}, n=4)
    base = frame.loc[frame["arm"] == BASELINE, "test_loss"].to_numpy()
    frame.loc[frame["arm"] == "b", "test_loss"] = base - 0.01
    result = compare(frame)
    assert row(result, "b").warnings == "the same difference from the baseline at every seed"
    (words,) = (text for text in result.warnings if text.startswith("b: the same diff"))
    assert "figures are rounded" in words
    frame.loc[frame["arm"] == "b", "test_loss"] = base - [0.01, 0.01, 0.01, 0.011]
    assert not any("rounded" in text for text in compare(frame).warnings)


def test_undecided_arms_with_seeds_enough_are_told_what_would_decide_them():
    frame = study({"a": 0.0, "b": 0.0}, n=7, shared=False)
    by = row(compare(frame, rope=0.02), "a").delta + 0.6 * 0.02
    frame.loc[frame["arm"] == "a", "test_loss"] -= by
    declared = compare(frame, rope=0.02)
    assert row(declared, "a").verdict == "undecided"
    assert row(declared, "a").seeds_needed < 7
    (step,) = declared.next_steps
    assert step.startswith("1 arm(s) undecided, with seeds enough to detect 0.02 (power 0.8): more")
    alike = compare(study({"a": 0.0}, n=8, rho=0.95))
    assert row(alike, "a").verdict == "undecided"
    (step,) = alike.next_steps
    assert "--practical-size" in step


def lost(n_lost):
    frame = study({"a": -0.05}, n=4).assign(status="complete")
    dead = (frame["arm"] == "a") & (frame["init_seed"] < n_lost)
    frame.loc[dead, ["status", "test_loss"]] = ["diverged", np.nan]
    return compare(frame)


def test_an_arm_of_which_some_runs_diverged_is_said_to_be_of_survivors():
    result = lost(2)
    (words,) = (text for text in result.warnings if "survived" in text)
    assert words.startswith(
        "a: 2 of 4 runs diverged. Mean, interval and verdict describe only the runs"
    )
    assert "Too few shared seeds are left for pairing" in words
    assert row(result, "a").verdict.endswith("(2 of 4 diverged)")
    assert row(result, "a").warnings == "mean of the runs that did not diverge"
    assert row(result, "a").n_shared_init == 2
    assert any(text.startswith("diverged: ") for text in result.warnings)
    assert not any("survivors" in text or "diverged:" in text for text in lost(0).warnings)
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
     ("mmlu", True), ("arc_easy", True), ("tokens_per_second", True), ("march_loss", False),
     ("reward_loss", False), ("perplexity", False), ("accumulated_cost", False)],
)  # fmt: skip
def test_a_metric_that_is_better_when_higher_by_its_name_gets_a_hint(metric, hint):
    frame = study({"a": -0.03}).rename(columns={"test_loss": metric})
    for known in (False, True):
        found = compare(frame, metric=metric, higher_is_better=known)
        assert any("add --higher-is-better" in w for w in found.warnings) == (hint and not known)


@pytest.mark.parametrize(
    ("metric", "hint"), [("march_loss", True), ("reward_loss", False), ("val_acc", False)]
)
def test_a_loss_by_its_name_that_is_said_to_be_better_when_higher_gets_a_hint(metric, hint):
    frame = study({"a": -0.03}).rename(columns={"test_loss": metric})
    for said in (False, True):
        found = compare(frame, metric=metric, higher_is_better=said).warnings
        assert any("without --higher-is-better" in text for text in found) == (hint and said)


@pytest.mark.parametrize(("column", "words"), [("tokens", "tokens"), ("step", "steps")])
def test_an_arm_of_another_budget_is_pointed_out(column, words):
    frame = study({"a": 0.0, "long": -0.05}, n=4)
    frame[column] = np.where(frame["arm"] == "long", 2e6, 1e6)
    texts = [text for text in compare(frame).warnings if f"a different number of {words} " in text]
    assert [text.split(":")[0] for text in texts] == ["long"]
    assert texts[0].endswith("so the budget is part of the difference")
    frame[column] = np.select([frame["arm"] == "long", frame["arm"] == "a"], [1.02e6, 1.005e6], 1e6)
    (text,) = [
        text for text in compare(frame).warnings if f"a different number of {words} " in text
    ]
    assert text.startswith("long: ")
    frame["equal_budget"] = "seconds"
    assert not [
        text for text in compare(frame).warnings if f"a different number of {words} " in text
    ]
    (told,) = [text for text in compare(frame).confirmations if f"number of {words} " in text]
    assert told.endswith("for as many seconds as baseline, which is the study's budget")


def test_one_mistyped_loss_is_pointed_out():
    runs = study({"a": -0.03, "b": 0.0}, n=3)
    assert not [text for text in compare(runs).warnings if "lie far apart" in text]
    runs.loc[runs.query("arm == 'b'").index[0], "test_loss"] *= 10
    (text,) = [text for text in compare(runs).warnings if "lie far apart" in text]
    assert text.startswith("the runs of b lie far apart: sd ")
    two_each = study({"a": 0.0}, n=2, shared=False)  # F of 1 and 1 df says nothing
    two_each["test_loss"] = [3.69, 3.70, 3.69, 3.6905]
    assert not [text for text in compare(two_each).warnings if "lie far apart" in text]


def test_a_baseline_that_no_arm_stays_near_is_pointed_out():
    def pointed_out(deltas):
        return [text for text in compare(study(deltas)).warnings if "baseline seeds" in text]

    moved = dict.fromkeys("abcde", -0.025)
    (text,) = pointed_out(moved)
    assert text.startswith("5 of 5 arms lie more than 2 standard errors from baseline. ")
    assert not pointed_out(moved | {"e": 0.0, "d": 0.0})
    assert not pointed_out(dict.fromkeys("abcde", -0.3))
    assert not pointed_out(dict.fromkeys("abc", -0.025))


def test_a_stack_that_ends_with_the_weights_of_a_part_of_it_is_pointed_out():
    frame = study({"a": -0.02, "b": -0.05, "a+b": -0.05, "c": 0.01}, n=4)
    weights = frame["arm"].replace({"a+b": "b"}) + frame["init_seed"].astype(str)
    result = compare(frame.assign(final_weights=weights))
    (warning,) = [check for check in result.checks if "same weights" in check.what]
    assert warning.arms == ("a+b", "b")
    marks = result.table.set_index("arm")["warnings"]
    assert set(marks.index[marks == "same weights as another arm"]) == {"a+b", "b"}
