"""Every arm is tuned alike inside a study, on seeds that judge nothing."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.config import BudgetConfig, ConfigError, recipe, scientific
from harness.records import read_plan, read_record
from harness.records.study import Study
from harness.study.outcome import over_budget
from harness.study.price import count_cells, count_trials
from harness.study.tuning import FIRST_SEED, Candidate, choose, combinations, overrides
from tests.configs import load
from tests.harness.studies import results

TUNED = ["+study=demo", "study.arms=[baseline,lion]", "study.seeds=2", "study_name=bench",
         "+study.tune={optim.lr:[0.25,1,4]}"]  # fmt: skip


def cell(arm: str, val: float | None, *, test: float | None = 1.0, usd: float | None = None):
    record = SimpleNamespace(
        losses=SimpleNamespace(val=val, test=test),
        cost=SimpleNamespace(usd=usd, train_seconds=1800),
        provenance=SimpleNamespace(n_devices=2),
        tokens=10,
    )
    return SimpleNamespace(config=SimpleNamespace(arm=arm), result=lambda: record)


def tried(**losses: list[float | None]) -> list[Candidate]:
    factors = [{"optim.lr": factor} for factor in (0.5, 1, 2)]
    return [
        Candidate(f, [cell(arm, values[i]) for arm, values in losses.items()])
        for i, f in enumerate(factors)
    ]


def test_each_arm_gets_the_factors_of_its_own_lowest_validation_loss() -> None:
    chosen = choose(tried(baseline=[3.0, 3.1, 3.2], muon=[3.5, 3.4, 3.2]))
    assert {arm: one["tuned"]["optim.lr"] for arm, one in chosen.items()} == {
        "baseline": 0.5,
        "muon": 2,
    }
    assert [trial["val_loss"] for trial in chosen["muon"]["tried"]] == [3.5, 3.4, 3.2]
    assert (chosen["muon"]["runs"], chosen["muon"]["tokens"], chosen["muon"]["hours"]) == (3, 30, 3)


def test_what_diverged_is_not_chosen_and_of_equals_the_nearest_to_one_is() -> None:
    candidates = tried(a=[3.0, 3.1, 2.0], b=[3.0, 3.0, 3.0], c=[None, None, None])
    candidates[2].cells[0] = cell("a", 2.0, test=None)
    chosen = choose(candidates)
    assert {arm: one["tuned"]["optim.lr"] for arm, one in chosen.items()} == {
        "a": 0.5,
        "b": 1,
        "c": 1,
    }
    assert chosen["a"]["tried"][2]["val_loss"] is None


def test_the_mean_over_tuning_seeds_counts() -> None:
    low, high = {"optim.lr": 0.5}, {"optim.lr": 1}
    candidates = [
        Candidate(low, [cell("a", 1.0), cell("a", 5.0)]),
        Candidate(high, [cell("a", 2.0), cell("a", 3.0)]),
    ]
    assert choose(candidates)["a"]["tuned"] == high


def test_several_settings_are_tried_in_all_combinations() -> None:
    found = combinations({"optim.lr": [1, 2], "optim.weight_decay": [0.5, 1]})
    assert len(found) == 4
    name, *_ = overrides("bench", found[1])
    assert name == "study_name=bench_tune_lr1_weight_decay1"


@pytest.mark.thorough
def test_a_factor_is_a_part_of_the_arm_and_leaves_its_recipe() -> None:
    plain = load(["+intervention=lion"])
    tuned = load(["+intervention=lion", "+study.tuned={optim.lr:2}"])
    assert tuned.optim.lr == 2 * plain.optim.lr == pytest.approx(4e-4)
    assert tuned.changes["optim.lr"] == [1e-3, pytest.approx(4e-4)]
    assert recipe(tuned, "d") == recipe(plain, "d") == recipe(load(), "d")
    assert scientific(tuned, "d") != scientific(plain, "d")
    assert scientific(load(["+study.tuned={optim.lr:1}"]), "d") == scientific(load(), "d")
    assert load(["+study.tuned={optim.lr:2}"]).changes == {"optim.lr": [1e-3, 2e-3]}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+study.tune={optim.typo:[1,2]}", "optim.typo is None, not a number"),
        ("+study.tune={optim.betas:[1,2]}", "optim.betas is [0.9, 0.999], not a number"),
        ("+study.tune={optim.lr:[1]}", "two or more different factors above 0"),
        ("+study.tune={optim.lr:[1,1]}", "two or more different factors above 0"),
        ("+study.tune={optim.lr:[0,1]}", "two or more different factors above 0"),
    ],
)
def test_what_cannot_be_tuned_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load([override])
    assert message in str(caught.value)


def test_a_study_without_validation_cannot_be_tuned() -> None:
    with pytest.raises(ConfigError, match=r"eval\.n_val must be 1 or more"):
        load(["+study.tune={optim.lr:[1,2]}", "eval.n_val=0"])


def test_the_forecast_counts_the_trials() -> None:
    config = load(["+study=optimizers"])
    assert count_trials(config) == 8 * 4
    assert count_cells(config) == 8 * 4 + 8 * 3


@pytest.mark.slow
def test_a_tuned_study_tries_chooses_and_judges_and_goes_on_where_it_was_stopped(
    command, tiny, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    stopped = command("harness", *TUNED, *tiny, "budget.tokens=5000")
    assert stopped.returncode == 1
    assert "is spent" in stopped.stderr
    assert not (runs / "bench" / "plan.json").exists()
    done = command("harness", *TUNED, *tiny)
    assert done.returncode == 0, done.stderr

    plan = read_plan(runs / "bench")
    assert plan is not None
    assert plan.tuning["studies"] == [f"bench_tune_lr{factor}" for factor in ("0.25", "1", "4")]
    records = [read_record(path) for path in sorted(runs.rglob("record.json"))]
    trials = [r for r in records if r.tuning]
    judged = [r for r in records if not r.tuning]
    assert (len(trials), len(judged)) == (6, 4)
    assert {r.seeds.init for r in trials} == {FIRST_SEED}
    assert {r.study for r in judged} == {"bench"}
    for arm, rate in (("baseline", 1e-3), ("lion", 2e-4)):
        own = {r.study: r.losses.val for r in trials if r.arm == arm}
        best = min(own, key=own.get)
        assert f"bench_tune_lr{plan.tuning['arms'][arm]['tuned']['optim.lr']:g}" == best
        factor = plan.tuning["arms"][arm]["tuned"]["optim.lr"]
        rates = [r.changes["optim.lr"][1] for r in judged if r.arm == arm]
        assert rates == [pytest.approx(rate * factor)] * 2

    before = results(runs)
    again = command("harness", *TUNED, *tiny)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("skipped, already complete") == 10
    assert results(runs) == before
    assert over_budget(BudgetConfig(tokens=2560 * 9), Study(runs / "bench")) is not None

    table = command("analysis", str(runs))
    assert table.returncode == 0, table.stdout + table.stderr
    content = json.loads((runs / "results.json").read_text())
    assert {row["study"] for row in content["runs"]} == {"bench"}
    assert "Tuning:" in table.stdout
