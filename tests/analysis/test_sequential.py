from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from studies import on_disk, study

from analysis import AnalysisError, compare, decide
from analysis.__main__ import main
from analysis.stats.planning.spending import conditional_power, spending
from harness.records import StudyPlan, read_plan, write_plan

PLAN = StudyPlan(study="s", looks=[2, 3, 4], rope=0.01)


def states(decision):
    return decision.table.set_index("arm")


def test_alpha_is_spent_as_published():
    assert spending([2, 3, 4, 6, 8]) == pytest.approx(
        [8.9e-5, 0.001283, 0.004203, 0.018051, 0.026375], abs=6e-7
    )
    assert spending([2, 3, 4]) == pytest.approx([0.005575, 0.018051, 0.026375], abs=5e-7)
    assert sum(spending([2, 5, 9])) == pytest.approx(0.05)


@pytest.mark.parametrize("looks", [[], [1, 2], [3, 3], [4, 2]])
def test_looks_that_do_not_grow_are_refused(looks):
    with pytest.raises(AnalysisError, match="looks"):
        spending(looks)


def test_a_large_effect_stops_early_and_a_null_goes_on():
    frame = study({"huge": -0.5, "nil": 0.0, "null": 0.0}, n=2, sd=0.002)
    decision = decide(frame, PLAN)
    assert states(decision).loc["huge", "decision"] == "stop"
    assert states(decision).loc["huge", "verdict"] == "better (beyond practical size)"
    assert "biased outward" in states(decision).loc["huge", "note"]
    assert states(decision).loc["null", "decision"] == "continue"
    assert decision.running == ("nil", "null")
    assert decision.next_n == 3


def test_a_higher_metric_can_be_the_better_one():
    frame = study({"huge": -0.5, "nil": 0.0, "null": 0.0}, n=2, sd=0.002)
    decision = decide(frame, PLAN, higher_is_better=True)
    assert states(decision).loc["huge", "verdict"] == "worse (beyond practical size)"


def test_nothing_is_judged_before_all_runs_of_a_look_are_there():
    frame = study({"huge": -0.5, "nil": 0.0, "null": 0.0}, n=2, sd=0.002)
    partial = frame[~((frame["arm"] == "null") & (frame["init_seed"] == 1))]
    decision = decide(partial, PLAN)
    assert decision.look == 0
    assert states(decision).loc["huge", "decision"] == "wait"
    assert states(decision).loc["null", "decision"] == "continue"


def test_a_stopped_arm_stays_stopped_whatever_comes_later():
    frame = study({"huge": -0.5, "nil": 0.0, "null": 0.0}, n=4, sd=0.002)
    late = (frame["arm"] == "huge") & (frame["init_seed"] >= 2)
    frame.loc[late, "test_loss"] += 1.0
    assert states(decide(frame, PLAN)).loc["huge", "verdict"] == "better (beyond practical size)"
    assert states(decide(frame, PLAN)).loc["huge", "look"] == 1


def test_the_order_of_the_rows_does_not_matter():
    frame = study({"a": -0.03, "b": 0.0}, n=4)
    first = decide(frame, PLAN).table
    second = decide(frame.sample(frac=1, random_state=3), PLAN).table
    pd.testing.assert_frame_equal(first, second)


def test_after_the_last_look_the_study_is_over():
    decision = decide(study({"a": 0.0}, n=4), PLAN)
    assert decision.next_n is None
    assert decision.running == ()
    assert "3 of 3 looks done; the study is over." in decision.to_markdown()
    before = decide(study({"a": 0.0}, n=3), PLAN)
    assert "2 of 3 looks done; next look at 4 seeds." in before.to_markdown()


def test_a_diverged_run_does_not_hold_up_a_look():
    frame = study({"a": -0.5, "b": 0.0, "c": 0.0}, n=2, sd=0.002).assign(status="complete")
    frame.loc[(frame["arm"] == "b") & (frame["init_seed"] == 0), ["status", "test_loss"]] = [
        "diverged", np.nan,
    ]  # fmt: skip
    assert decide(frame, PLAN).look == 1


@pytest.mark.parametrize("status", ["failed", "running", "stopped", "superseded"])
def test_a_run_that_is_not_there_takes_no_place(status):
    frame = study({"a": -0.5, "b": 0.0}, n=4, sd=0.002).assign(status="complete")
    frame["run_id"] = range(len(frame))
    gone = frame[(frame["arm"] == "a") & (frame["init_seed"] == 0)]
    gone = gone.assign(status=status, test_loss=np.nan, run_id="gone")
    first = decide(frame, PLAN)
    second = decide(pd.concat([gone, frame]), PLAN)
    assert (second.look, second.next_n) == (first.look, first.next_n) == (3, None)
    pd.testing.assert_frame_equal(first.table, second.table)
    alone = decide(gone.assign(arm="new"), PLAN).table
    assert list(alone["arm"]) == ["new"]


def test_conditional_power_agrees_with_simulated_brownian_motion():
    rng = np.random.default_rng(0)
    from analysis.stats.dunnett import critical_value

    critical = critical_value([0.5**0.5] * 2, 2 * 3, spending(PLAN.looks)[-1])
    delta, se, rope, t = -0.01, 0.01, 0.03, 0.5
    drift = rope / (se * t**0.5)
    now = delta / se * t**0.5
    steps = rng.normal(size=200_000) * 0.5**0.5
    simulated = max(np.mean(sign * now + drift * 0.5 + steps > critical) for sign in (1, -1))
    found = conditional_power(delta / se, rope / se, 2, PLAN, 2)
    assert found == pytest.approx(simulated, abs=0.005)


def test_the_power_that_is_left_counts_the_arm_s_own_runs():
    losses = {"baseline": [-1, 1, -1, 1], "a": [-1, 0, 1, np.nan], "b": [-1, 1, -1, 1]}
    rows = [(arm, 3.69 + x / 100) for arm, values in losses.items() for x in values]
    frame = pd.DataFrame(rows, columns=["arm", "test_loss"])
    frame["status"] = np.where(frame["test_loss"].isna(), "diverged", "complete")
    plan = StudyPlan(study="s", looks=[4, 8], rope=0.02)
    row = states(decide(frame, plan, variance="pooled")).loc["a"]
    se = 0.01 * (10 / 8 * (1 / 3 + 1 / 4)) ** 0.5  # squares of 10 on 11 - 3 df
    assert row.conditional_power == pytest.approx(conditional_power(0, 0.02 / se, 3, plan, 2))


def test_the_power_that_is_left_does_not_depend_on_the_unit():
    plan, frame = StudyPlan(study="s", looks=[4, 8], rope=0.02), study({"a": -0.01}, n=4)
    once = states(decide(frame, plan)).loc["a"]
    assert 0.01 < once.conditional_power < 0.99
    frame["test_loss"] *= 1000
    thousand = states(decide(frame, replace(plan, rope=20.0))).loc["a"]
    assert thousand.conditional_power == pytest.approx(once.conditional_power)


def test_futile_arms_may_be_given_up_but_go_on():
    plan = StudyPlan(study="s", looks=[4, 8], rope=0.001)
    row = states(decide(study({"a": 0.0}, n=4), plan)).loc["a"]
    assert row["futile"]
    assert row["decision"] == "continue"
    assert "may be given up" in row["note"]


def test_the_results_table_uses_the_sequential_verdicts(tmp_path):
    folder = on_disk(tmp_path / "runs", study({"a": -0.02, "b": 0.0}, n=3, sd=0.006))
    plan = read_plan(folder)
    plan.looks = [3, 40]
    write_plan(folder, plan)
    result = compare(folder)
    row = result.table.set_index("arm").loc["a"]
    assert row.p_adj < 0.05
    assert row.verdict == "undecided"
    assert "each look's own alpha" in result.warnings[0]


def test_the_table_s_verdict_is_of_the_look_that_decided_though_more_runs_are_there(tmp_path):
    frame = study({"huge": -0.5, "nil": 0.0, "null": 0.0}, n=4, sd=0.002)
    frame.loc[(frame["arm"] == "huge") & (frame["init_seed"] > 1), "test_loss"] += 1.0
    folder = on_disk(tmp_path / "runs", frame)
    plan = read_plan(folder)
    plan.looks = [2, 4]
    write_plan(folder, plan)
    verdicts = compare(folder).table.set_index("arm")["verdict"]
    assert verdicts["huge"] == "better (beyond practical size)"


def test_other_rules_than_a_plan_with_looks_has_are_refused(tmp_path):
    folder = on_disk(tmp_path / "runs", study({"a": -0.02, "b": 0.0}, n=3))
    plan = read_plan(folder)
    plan.looks = [2, 3]
    write_plan(folder, plan)
    with pytest.raises(AnalysisError, match=r"is 0\.1, but the plan of synthetic, which has looks"):
        compare(folder, alpha=0.1)


def test_looks_of_one_of_several_studies_are_said_not_to_count(tmp_path):
    frame = study({"a": -0.02, "b": 0.0}, n=6)
    early = on_disk(tmp_path / "early", frame[frame["init_seed"] < 3])
    late = on_disk(tmp_path / "late", frame[frame["init_seed"] >= 3], study="late")
    write_plan(early, replace(read_plan(early), looks=[2, 3]))
    write_plan(late, replace(read_plan(late), study="late"))
    result = compare([early, late], alpha=0.1)
    assert result.alpha == 0.1
    assert result.warnings[0] == (
        "several studies, one with looks: early looks are not accounted for"
    )


def test_looks_at_repeats_of_one_initialisation_decide_nothing():
    frame = study({"a": -0.5}, n=3, sd=0.002).assign(init_seed=0, data_seed=0)
    found = decide(frame, PLAN)
    assert (found.look, set(found.table["decision"]), set(found.table["look"])) == (
        2,
        {"continue"},
        {0},
    )


def test_the_printed_rule_is_the_one_that_decided(tmp_path):
    frame = study({"a": -0.02, "b": 0.0}, n=8, sd=0.004, rho=0.0)
    folder = on_disk(tmp_path / "runs", frame)
    plan = read_plan(folder)
    plan.looks, plan.alpha, plan.rope = [4, 8], 0.01, None
    write_plan(folder, plan)
    wide = compare(folder, rope=0.5)
    assert (wide.alpha, wide.rope) == (0.01, 0.5)
    assert wide.table.set_index("arm").loc["a", "verdict"] == "better (below practical size)"
    assert wide.table.set_index("arm").loc["b", "verdict"] == "no practical difference"
    with pytest.raises(AnalysisError, match=r"alpha is 0\.2, but the plan of .* fixed 0\.01"):
        compare(folder, alpha=0.2)
    plan.rope = 0.1
    write_plan(folder, plan)
    assert compare(folder, rope=0.1, alpha=0.01).rope == compare(folder).rope == 0.1
    with pytest.raises(AnalysisError, match=r"practical size is 0\.5"):
        compare(folder, rope=0.5)


def test_the_command_needs_looks(tmp_path, capsys):
    folder = on_disk(tmp_path / "runs", study({"a": -0.3}, n=2))
    assert main(["sequential", str(folder)]) == 2
    assert "--looks 2 3 4" in capsys.readouterr().err
    assert main(["sequential", str(folder), "--looks", "2", "3"]) == 0
    assert "Alpha of each look" in capsys.readouterr().out


@pytest.mark.proof
def test_the_family_error_of_the_whole_study_is_below_alpha():
    rng = np.random.default_rng(7)
    wrong = 0
    for _ in range(200):
        frame = study({f"a{i}": 0.0 for i in range(4)}, n=4, rng=rng)
        wrong += decide(frame, PLAN).table["verdict"].str.startswith(("better", "worse")).any()
    assert wrong <= 19  # 99.5% quantile at 0.05


def test_a_small_p_without_degrees_of_freedom_gives_its_reason():
    frame = study({"huge": -0.5}, n=2, sd=0.0005)
    row = states(decide(frame, PLAN)).loc["huge"]
    assert row["p_adj"] < row["alpha"]
    assert (row["decision"], row["verdict"]) == ("continue", "undecided")
    assert row["note"].startswith("p is below alpha, but a verdict needs 3 df: 1")


def test_the_help_s_example_works_on_a_study_without_looks(tmp_path, capsys):
    import argparse
    import shlex

    from analysis.cli import sequential

    parser = argparse.ArgumentParser()
    sequential.add_arguments(parser)
    folder = on_disk(tmp_path / "runs", study({"a": -0.03}, n=3))
    words = shlex.split(parser.epilog.removeprefix("example: python -m analysis "))
    assert main([str(folder) if word == "runs/demo" else word for word in words]) == 0


def test_a_stopped_arm_keeps_every_complete_run_though_another_of_its_runs_diverged():
    frame = study({"huge": 0.9, "null": 0.0, "other": 0.0}, n=4, sd=0.004).assign(status="complete")
    huge = frame["arm"] == "huge"
    frame.loc[huge & (frame["init_seed"] == 0), ["status", "test_loss"]] = ["diverged", np.nan]
    frame = frame[~(huge & (frame["init_seed"] == 3))]  # stopped at three seeds, so never started
    decision = decide(frame, PLAN)
    assert states(decision).loc["huge", "look"] == 2
    whole = compare(frame).table.set_index("arm")
    assert states(decision).loc["null", "p_adj"] == pytest.approx(whole.loc["null", "p_adj"])


def test_an_arm_that_is_better_in_its_survivors_alone_goes_on():
    frame = study({"a": -0.5, "b": -0.5, "c": 0.0}, n=3, sd=0.002).assign(status="complete")
    frame.loc[(frame["arm"] == "b") & (frame["init_seed"] == 1), ["status", "test_loss"]] = [
        "diverged", np.nan,
    ]  # fmt: skip
    row = states(decide(frame, PLAN)).loc["b"]
    assert row["p_adj"] < row["alpha"]
    assert row["verdict"] == "better where it converged (1 of 3 diverged)"
    assert row["decision"] == "continue"


def test_a_look_takes_the_runs_in_the_order_of_the_plan():
    frame = study({"huge": -0.5, "nil": 0.0, "null": 0.0}, n=4, sd=0.002)
    frame["cell"] = [
        f"{arm}{seed}" for arm, seed in zip(frame["arm"], frame["init_seed"], strict=True)
    ]
    backwards = [
        {"arm": r["arm"], "seeds": {}, "cell": r["cell"]} for r in frame.to_dict("records")
    ]
    frame.loc[(frame["arm"] == "huge") & (frame["init_seed"] < 2), "test_loss"] += 1.0
    plan = StudyPlan(study="s", looks=[2, 4], rope=0.01, cells=backwards[::-1])
    first = states(decide(frame, plan)).loc["huge"]
    assert (first["look"], first["verdict"]) == (1, "better (beyond practical size)")


def test_a_planned_arm_without_a_run_holds_up_the_look():
    cells = [{"arm": arm, "seeds": {"init": 0}, "cell": arm} for arm in ("baseline", "a", "later")]
    frame = study({"a": -0.5, "b": 0.0}, n=3, sd=0.002)
    found = decide(frame, StudyPlan(study="s", looks=[2, 3], rope=0.01, cells=cells))
    assert [*found.table["arm"]] == ["a", "b", "later"]
    assert (found.look, states(found).loc["later", "n"]) == (0, 0)


def test_a_look_at_one_baseline_run_judges_nothing_and_holds_up_no_later_one():
    frame = study({"a": -0.5, "b": 0.0, "c": 0.0}, n=3, sd=0.002).assign(status="complete")
    frame.loc[(frame["arm"] == "baseline") & (frame["init_seed"] == 0), ["status", "test_loss"]] = [
        "diverged", np.nan,
    ]  # fmt: skip
    first = decide(frame[frame["init_seed"] < 2], PLAN)
    assert (first.look, first.next_n, set(first.table["look"])) == (1, 3, {0})
    later = decide(frame, PLAN)
    assert (later.look, states(later).loc["a", "look"]) == (2, 2)


def test_a_look_spends_its_own_alpha_and_not_what_earlier_ones_left():
    frame = study({"a": -0.018, "b": 0.0}, n=4, sd=0.006, shared=False)
    row = states(decide(frame, PLAN)).loc["a"]
    spent = spending(PLAN.looks)
    assert row["look"] == 3
    assert spent[-1] < row["p_adj"] < sum(spent)
    assert row["alpha"] == spent[-1]
    assert row["verdict"] == "undecided"


def test_an_arm_of_which_every_run_diverged_still_counts_in_the_family():
    arms = {"a": -0.02, "b": 0.0, "lost": 0.0}
    frame = study(arms, n=4, sd=0.006, shared=False).assign(status="complete")
    frame.loc[frame["arm"] == "lost", ["status", "test_loss"]] = ["diverged", np.nan]
    plan = StudyPlan(study="s", looks=[4, 5], rope=0.01)
    row = states(decide(frame, plan)).loc["a"]
    assert row["alpha"] * 2 / 3 < row["p_adj"] < row["alpha"]
    assert row["verdict"] == "undecided"


def test_an_arm_that_no_look_has_judged_is_at_look_0():
    row = states(decide(study({"a": 0.0}, n=1), PLAN)).loc["a"]
    assert (row["look"], row["decision"]) == (0, "continue")
