"""What a table says of how its arms' settings were chosen."""

import pandas as pd
import pytest

from analysis.comparison.compare import compare
from analysis.comparison.tuning import tuning_note, tuning_table
from analysis.runs.frame import Runs
from analysis.table import Table
from analysis.text import DASH
from harness.records import StudyPlan

MUON = {"optim.optimizer._target_": ["harness.optim.adamw", "harness.optim.split"]}
LOSSES = {"baseline": [3.70, 3.71, 3.69], "muon": [3.60, 3.62, 3.61], "clip": [3.69, 3.70, 3.70]}


def runs(tuning: dict | None = None) -> Runs:
    rows = [
        {"study": "s", "arm": arm, "init_seed": seed, "test_loss": loss, "cell": f"{arm}{seed}",
         "changes": MUON if arm == "muon" else {"optim.grad_clip": [None, 1.0]}}
        for arm, losses in LOSSES.items() for seed, loss in enumerate(losses)
    ]  # fmt: skip
    cells = [{"arm": row["arm"], "cell": row["cell"], "seeds": {}} for row in rows]
    plan = StudyPlan(study="s", cells=cells, tuning=tuning or {})
    return Runs(pd.DataFrame(rows), {"s": plan})


def tuning(muon: float) -> dict:
    def arm(factor: float) -> dict:
        losses = {0.5: 3.9, 1: 3.8, 2: None}
        tried = [{"factors": {"optim.lr": f}, "val_loss": loss} for f, loss in losses.items()]
        return {"tuned": {"optim.lr": factor}, "tried": tried, "runs": 3, "tokens": 300,
                "hours": 0.5, "usd": None}  # fmt: skip

    arms = {"baseline": arm(1), "muon": arm(muon), "clip": arm(1)}
    return {"settings": {"optim.lr": [0.5, 1, 2]}, "seeds": [7], "studies": [], "arms": arms}


def texts(table: Table) -> list[str]:
    return [column.label for column in table.columns if not column.numeric]


def marks(result) -> dict[str, str]:
    return {arm: check.mark for check in result.checks for arm in check.arms}


def test_another_optimiser_at_one_rate_is_pointed_out() -> None:
    result = compare(runs())
    assert marks(result) == {"muon": "one learning rate tried"}
    assert "study.tune" in " ".join(result.warnings)
    assert tuning_note(result.source.plans) is None
    assert tuning_table(result.source.plans) is None


@pytest.mark.parametrize(("factor", "expected"), [(1, {}), (0.5, {"muon"}), (2, {"muon"})])
def test_a_tuned_arm_is_only_pointed_out_at_the_end_of_its_range(factor, expected) -> None:
    result = compare(runs(tuning(factor)))
    assert set(marks(result)) == set(expected)


def test_the_table_and_the_bill_of_tuning_are_those_of_the_plan() -> None:
    result = compare(runs(tuning(1)))
    assert (
        "- **Tuning:** optim.lr of every arm chosen from 3 trials by the validation loss of 1 seed "
        "not used for the verdicts: 9 runs, 1.5 h." in result.to_markdown()
    )
    table = tuning_table(result.source.plans)
    assert table is not None
    assert texts(table) == ["arm", "chosen"]
    assert texts(result.to_table()) == ["arm", "verdict"]
    rows = [[item.text for item in row] for row in table.rows]
    assert rows[1][:6] == ["muon", "optim.lr x 1", "3.8000", "3", "300", "0.5000"]


def test_every_word_and_figure_of_tuning_is_the_plan_s() -> None:
    first, later = tuning(1), tuning(0.5) | {"seeds": [7, 8]}
    later["arms"] = {"split": later["arms"]["muon"] | {"hours": 1.25, "usd": 2.5}}
    later["arms"]["split"]["tried"] = later["arms"]["split"]["tried"][:2]
    plans = {
        "s": StudyPlan(study="s", tuning=first),
        "t": StudyPlan(study="t"),
        "u": StudyPlan(study="u", tuning=later),
    }
    how = "by the validation loss of {} not used for the verdicts"
    assert tuning_note(plans) == (
        f"optim.lr of every arm chosen from 3 trials {how.format('1 seed')}: 9 runs, 1.5 h; "
        f"optim.lr of every arm chosen from 2 trials {how.format('2 seeds')}: 3 runs, 1.25 h"
    )
    table = tuning_table(plans)
    assert table is not None
    assert [column.label for column in table.columns] == [
        *("arm", "chosen", "val loss", "trials", "tokens in all", "hours in all", "dollars in all")
    ]
    rest = ["3.8000", "3", "300", "0.5000", DASH]
    assert table.texts() == [
        ["baseline", "optim.lr x 1", *rest],
        ["muon", "optim.lr x 1", *rest],
        ["clip", "optim.lr x 1", *rest],
        ["split", "optim.lr x 0.5", *rest[:3], "1.2500", "2.5000"],
    ]


def test_an_arm_without_a_finished_trial_has_no_validation_loss() -> None:
    plan = StudyPlan(study="s", tuning=tuning(1))
    for trial in plan.tuning["arms"]["muon"]["tried"]:
        trial["val_loss"] = None
    table = tuning_table({"s": plan})
    assert table is not None
    assert table.texts()[1][:3] == ["muon", "optim.lr x 1", DASH]
