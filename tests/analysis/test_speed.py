"""Tokens to a target: crossings compared like losses, censored runs said, other people's logs."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis.comparison.rules import Rules
from analysis.errors import AnalysisError
from analysis.questions.tokens_to_target import compare_with_speed, speed
from analysis.runs.curves import FLOPS, SECONDS, TOKENS, read_curves
from analysis.runs.tables import read_runs
from harness.records import Status, read_record, write_record
from tests.analysis.full_study import full_study

GRID = np.geomspace(1e5, 1e8, 31)


def curves(
    factors: dict[str, float], noise: float = 0.01, seeds: int = 4, rng=None
) -> pd.DataFrame:
    """Power laws in which an arm needs `factor` of the baseline's tokens for any loss."""
    rng = rng or np.random.default_rng(0)
    shared = rng.normal(0, 2 * noise, seeds)
    lines = []
    for arm, factor in factors.items():
        for seed in range(seeds):
            shift = math.log(factor) + shared[seed] + rng.normal(0, noise)
            loss = 10 * (GRID / math.exp(shift)) ** -0.1
            lines += [
                {"arm": arm, "seed": seed, "step": i, "tokens": tokens, "val_loss": value,
                 "flops": 2e9 * tokens * (2 if arm == "dear" else 1)}
                for i, (tokens, value) in enumerate(zip(GRID, loss, strict=True))
            ]  # fmt: skip
    return pd.DataFrame(lines)


def test_the_factor_of_a_power_law_comes_out() -> None:
    found = speed(curves({"baseline": 1, "fast": 0.8, "dear": 0.8}), target=2.5)
    for arm in ("fast", "dear"):
        factor = found.factor(arm)
        assert factor.low < factor.ratio < factor.high
        assert factor.ratio == pytest.approx(0.8, rel=0.02)
    assert found.factor("dear", FLOPS).ratio == pytest.approx(1.6, rel=0.02)
    assert SECONDS not in found.compared
    verdicts = {row[0].text: row[-1].text for row in found.to_table().rows}
    assert verdicts == {"baseline": "(baseline)", "fast": "faster", "dear": "faster"}
    assert str(found.factor("fast")) in found.to_markdown()


def test_a_straight_line_over_log_tokens_is_met_exactly() -> None:
    lines = [
        {"arm": arm, "seed": seed, "tokens": tokens, "val_loss": 5 - math.log(tokens / factor)}
        for arm, factor in (("baseline", 1.0), ("half", 0.5))
        for seed in (0, 1)
        for tokens in (1.0, 10.0, 100.0)
    ]
    found = speed(pd.DataFrame(lines), target=2.0)
    assert found.factor("half").ratio == pytest.approx(0.5)
    assert found.tokens("baseline") == pytest.approx(math.exp(3))


def test_without_a_target_every_baseline_run_comes_to_it() -> None:
    found = speed(curves({"baseline": 1, "fast": 0.8}))
    assert found.n_reached("baseline") == 4
    lasts = [run.curve.loss[-1] for run in found.runs["baseline"]]
    assert found.target == max(lasts)


def test_a_run_that_was_there_at_its_first_validation_is_said_and_not_compared() -> None:
    study = curves({"baseline": 1, "fast": 0.8, "leap": 0.8})
    leap = study["arm"] == "leap"
    first = leap & (study["tokens"] == study.loc[leap, "tokens"].min())
    study.loc[first & (study["seed"] == 0), "val_loss"] = 2.4
    found = speed(study, target=2.5)
    assert found.factor("leap") is None
    assert found.n_reached("leap") == 4
    assert "leap: 4 of 4 runs reach it" in " ".join(found.notes())
    assert "1 at the first validation already" in " ".join(found.notes())
    verdicts = {row[0].text: row[-1].text for row in found.to_table().rows}
    assert verdicts["leap"] == "there before the first validation"
    assert found.factor("fast").ratio == speed(study[~leap], target=2.5).factor("fast").ratio
    assert not any("first validation" in note for note in speed(study[~leap]).notes())


def test_a_target_that_the_baseline_begins_with_is_refused() -> None:
    with pytest.raises(AnalysisError, match=r"4 of 4 runs of baseline .* below 3\.1614"):
        speed(curves({"baseline": 1, "fast": 0.8}), target=11.0)


def test_an_arm_of_which_some_run_never_gets_there_is_said_and_not_compared() -> None:
    found = speed(curves({"baseline": 1, "slow": 3, "fast": 0.5}))
    assert found.factor("slow") is None
    assert found.factor("fast").ratio == pytest.approx(0.5, rel=0.05)
    assert "slow: 0 of 4 runs reach it (lowest loss 1." in " ".join(found.notes())
    assert [row[0].text for row in found.to_table().rows] == ["fast", "baseline", "slow"]


@pytest.mark.thorough
def test_an_arm_that_never_gets_there_stays_in_the_family() -> None:
    both = curves({"baseline": 1, "slow": 3, "fast": 0.97}, noise=0.02)
    alone = speed(both[both["arm"] != "slow"], target=1.7).factor("fast")
    found = speed(both, target=1.7).factor("fast")
    assert found.p == pytest.approx(2 * alone.p)
    assert found.low < alone.low < alone.high < found.high


def test_a_run_that_diverged_never_got_there(tmp_path) -> None:
    folder = full_study(tmp_path / "study", {"baseline": 0.0, "good": -0.05})
    record = read_record(next((folder / "good").iterdir()))
    record.status = Status.DIVERGED
    write_record(next((folder / "good").iterdir()), record)
    found = speed(str(folder))
    assert found.factor("good") is None
    assert "2 of 3 runs reach it" in " ".join(found.notes())
    assert "1 diverged" in " ".join(found.notes())


def test_a_target_below_the_baseline_is_refused_with_one_that_is_not() -> None:
    with pytest.raises(AnalysisError, match=r"4 of 4 runs of baseline never reach 1: choose"):
        speed(curves({"baseline": 1, "fast": 0.8}), target=1.0)


@pytest.mark.proof
def test_simultaneous_intervals_of_factors_cover() -> None:
    rng = np.random.default_rng(7)
    truth = {"baseline": 1.0, "a": 0.9, "b": 1.0, "c": 0.8}
    covered = []
    for _ in range(60):
        found = speed(curves(truth, noise=0.05, rng=rng), target=2.5)
        factors = {arm: found.factor(arm) for arm in ("a", "b", "c")}
        covered.append(all(f.low <= truth[arm] <= f.high for arm, f in factors.items()))
    assert np.mean(covered) >= 0.9  # 0.95, and 60 studies


def test_order_and_unit_of_the_tokens_do_not_matter() -> None:
    frame = curves({"baseline": 1, "fast": 0.8})
    one = speed(frame, target=2.5).factor("fast")
    mixed = frame.sample(frac=1, random_state=0).assign(tokens=lambda f: f["tokens"] * 7)
    other = speed(mixed, target=2.5).factor("fast")
    assert (other.ratio, other.low, other.high) == pytest.approx((one.ratio, one.low, one.high))


def log_of(losses: list[float], ms: float) -> str:
    lines = ["import torch  # the script stands at the top of these logs"]
    lines += [
        f"step:{125 * i}/500 val_loss:{loss:.4f} train_time:{125 * i * ms:.0f}ms step_avg:{ms}ms"
        for i, loss in enumerate(losses)
    ]
    return "\n".join(lines) + "\nstep:3/500 train_loss:9.0\n"


@pytest.fixture
def logs(tmp_path):
    for arm, losses in {
        "adam": [10.8, 4.2, 3.7, 3.4, 3.28], "muon": [10.8, 4.0, 3.5, 3.27, 3.20],
    }.items():  # fmt: skip
        (tmp_path / arm).mkdir()
        for seed in range(3):
            moved = [loss + 0.002 * seed for loss in losses]
            (tmp_path / arm / f"{seed}.txt").write_text(log_of(moved, 100.0))
    return [str(file) for file in sorted(tmp_path.rglob("*.txt"))]


def test_logs_of_modded_nanogpt_are_read(logs) -> None:
    curves_ = read_curves(read_runs(logs))
    assert {c.run["run_id"] for c in curves_} == {
        f"{arm}/{log}" for arm in ("adam", "muon") for log in (0, 1, 2)
    }
    assert curves_[0].step.tolist() == [0, 125, 250, 375, 500]
    assert curves_[0].costs[SECONDS][-1] == pytest.approx(50.0)
    found = speed(read_runs(logs), Rules(baseline="adam"), target=3.29)
    assert found.factor("muon").ratio < 0.8
    assert "Steps stand for tokens" in " ".join(found.notes())


def test_folders_of_logs_are_read_and_a_table_takes_each_run_s_last_loss(logs, tmp_path) -> None:
    (tmp_path / "adam" / "notes.txt").write_text("tuned on Tuesday")
    result = analysis.compare([str(tmp_path / "adam"), str(tmp_path / "muon")], baseline="adam")
    assert result.table.set_index("arm")["mean_loss"].to_dict() == pytest.approx(
        {"adam": 3.282, "muon": 3.202}
    )
    assert "(step): the last of each run counts, 6 of 30" in result.to_markdown()
    assert "every run counts as a seed of its own" in result.why


def test_a_credit_turns_last_losses_into_steps(logs) -> None:
    found = speed(read_runs(logs), Rules(baseline="adam"), target=3.28, credit=0.0045)
    (first, *_) = found.runs["adam"]
    assert first.cost(TOKENS) == pytest.approx(500)  # at the target with its last step
    (first, *_) = found.runs["muon"]
    assert first.crossings[TOKENS].tokens is None  # 0.08 nats are more than all of its steps
    small = speed(read_runs(logs), Rules(baseline="adam"), target=3.28, credit=0.045)
    assert small.runs["muon"][0].cost(TOKENS) == pytest.approx(500 - 100 * 0.08 / 0.045)


def test_one_loss_a_run_is_no_curve_but_enough_for_a_credit() -> None:
    rows = [("baseline", s, 500, 3.28 + s / 1e3) for s in range(3)]
    rows += [("a", s, 400, 3.28 + s / 1e3) for s in range(3)]
    last = pd.DataFrame(rows, columns=["arm", "seed", "step", "val_loss"])
    with pytest.raises(AnalysisError, match="each run has one val_loss, which is no curve"):
        speed(last)
    found = speed(last, target=3.28, credit=0.0045)
    assert found.factor("a").ratio == pytest.approx(0.79, abs=0.02)


def test_a_log_that_ends_in_nan_is_of_a_run_that_diverged(logs, tmp_path) -> None:
    lost = tmp_path / "adam" / "0.txt"
    lost.write_text(lost.read_text() + "step:500/500 val_loss:nan train_time:1ms\n")
    runs = read_runs(logs)
    assert analysis.compare(runs, baseline="adam").ledger.diverged == ("adam/0",)
    with pytest.raises(AnalysisError, match="a run of adam diverged"):
        speed(runs, Rules(baseline="adam"), target=3.29)


def test_crossings_are_looked_for_in_losses_alone(logs) -> None:
    with pytest.raises(AnalysisError, match="better when higher, and crossings are looked for in"):
        speed(read_runs(logs), Rules(baseline="adam", higher_is_better=True), target=3.29)


def test_curves_one_below_the_other_that_nothing_names_are_refused() -> None:
    frame = curves({"baseline": 1.0, "fast": 0.8}).drop(columns="seed")
    for work in (speed, analysis.compare):
        with pytest.raises(AnalysisError, match="'step' starts again within an arm"):
            work(frame)
    early = pd.DataFrame({"arm": ["baseline"] * 4, "epoch": [3, 4, 5, 4], "val_loss": 3.0})
    early = early.assign(val_loss=[3.0, 3.1, 3.2, 3.1])
    assert len(analysis.compare(early).runs) == 4


def test_a_text_that_is_no_such_log_is_refused(tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(AnalysisError, match=r"notes\.txt has no line such as 'step:250"):
        read_runs([str(tmp_path / "notes.txt")])


def test_the_table_of_verdicts_has_the_share_of_tokens(tmp_path) -> None:
    runs = read_runs([str(full_study(tmp_path / "study", {"baseline": 0.0, "good": -0.05}))])
    frame = runs.frame
    for i, folder in enumerate(frame["folder"]):
        arm = frame["arm"].iloc[i]
        factor = 0.5 if arm != "baseline" else 1.0
        lines = [
            {"step": s, "tokens": s * 1000, "val_loss": 5 - math.log(s / factor) + 0.001 * i,
             "train_seconds": s / 10}
            for s in range(1, 101)
        ]  # fmt: skip
        text = "".join(json.dumps(line) + "\n" for line in lines)
        Path(folder, "metrics.jsonl").write_text(text)
    result = compare_with_speed(runs, Rules())
    ratios = result.table.set_index("arm")["token_ratio"]
    assert np.isnan(ratios["baseline"])
    assert ratios.drop("baseline").between(0.45, 0.55).all()
    assert "| tokens |" in result.to_markdown().replace("  ", " ")
    plain = analysis.compare(replace(runs))
    assert "tokens" not in [c.label for c in plain.short_table().columns]


def test_an_arm_of_one_run_among_unlike_arms_has_a_factor_without_an_interval() -> None:
    shifts = {"baseline": (0.0, 0.01, 0.005), "calm": (-0.2, -0.1899, -0.1951),
              "wild": (0.05, 0.3, -0.1), "once": (-0.4,)}  # fmt: skip
    lines = [
        {"arm": arm, "seed": seed, "tokens": tokens, "val_loss": 5 - math.log(tokens) / 6 + shift}
        for arm, runs in shifts.items()
        for seed, shift in enumerate(runs)
        for tokens in GRID
    ]
    found = speed(pd.DataFrame(lines), target=2.5)
    once = found.factor("once")
    assert (once.low, once.high) == (0, math.inf)
    assert str(once) == f"{once.ratio:.2f}"
    assert "[" in str(found.factor("calm"))
