import numpy as np
import pandas as pd
import pytest
from studies import on_disk, study

from analysis import AnalysisError, compare, read_runs
from analysis.runs import arm_name
from analysis.sources import wandb_row


class Summary(dict):
    """The W&B client's summary and config behave like dicts."""


class FakeRun:
    """What `wandb.Api().runs()` yields, as far as it is read."""

    def __init__(self, arm, seed, loss, state="finished"):
        self.id, self.name, self.job_type, self.state = f"{arm}{seed}", "sunny-sun-1", arm, state
        self.config = Summary(seeds={"init": seed, "data": seed, "loop": seed}, _wandb={"x": 1})
        self.summary = Summary({"test_loss": loss, "_step": 10, "samples": [1, 2]})


def test_a_wandb_run_becomes_a_row():
    row = wandb_row(FakeRun("clip", 3, 3.5))
    assert row["arm"] == "clip"
    assert row["init_seed"] == 3
    assert row["test_loss"] == 3.5
    assert row["status"] == "finished"
    assert "_step" not in row
    assert "samples" not in row


def test_a_wandb_project_is_analysed_like_any_table(monkeypatch):
    import wandb

    rng = np.random.default_rng(0)
    runs = [FakeRun(arm, seed, 3.7 + delta + rng.normal(0, 0.005))
            for arm, delta in (("baseline", 0.0), ("clip", -0.05)) for seed in range(4)]  # fmt: skip
    runs.append(FakeRun("clip", 9, float("nan"), state="crashed"))

    class Api:
        def runs(self, project, *, lazy):
            assert project == "me/mine"
            return runs

    monkeypatch.setattr(wandb, "Api", Api)
    result = compare(read_runs(["wandb:me/mine"]))
    assert result.table.set_index("arm").loc["clip", "verdict"] == "better"
    assert result.ledger.counts == {"complete": 8, "failed": 1}


def test_a_wandb_project_that_cannot_be_reached_is_one_clear_error(monkeypatch):
    import wandb

    class Api:
        def runs(self, project, *, lazy):
            raise ValueError("Could not find project mine")

    monkeypatch.setattr(wandb, "Api", Api)
    with pytest.raises(AnalysisError, match="ENTITY/PROJECT"):
        read_runs(["wandb:mine"])


def test_records_and_tables_can_be_read_together(tmp_path):
    folder = on_disk(tmp_path / "runs", study({"a": -0.03}, n=4), plan=False)
    extra = study({"b": -0.02}, n=4).query("arm == 'b'")
    extra.to_csv(tmp_path / "more.csv", index=False)
    result = compare([folder, tmp_path / "more.csv"])
    assert set(result.table["arm"]) == {"baseline", "a", "b"}
    assert "mixed model" in result.method


def test_a_cell_s_file_and_its_study_give_one_run(tmp_path):
    folder = on_disk(tmp_path / "runs", study({"a": 0.0}, n=2))
    file = next(folder.rglob("record.json"))
    assert len(read_runs([str(folder), str(file)]).frame) == 4


@pytest.mark.parametrize(
    ("given", "name"),
    [("b, a", "a+b"), ("a+b", "a+b"), (["b", "a"], "a+b"), ("", "baseline"), (None, "baseline"),
     (float("nan"), "baseline"), ("baseline", "baseline"), (7, "7")],
)  # fmt: skip
def test_arms_are_named_alike_however_they_are_written(given, name):
    assert arm_name(given) == name


def test_one_seed_column_stands_for_all_three(tmp_path):
    table = tmp_path / "runs.tsv"
    frame = study({"a": -0.03}, n=3)[["arm", "init_seed", "test_loss"]]
    frame.rename(columns={"init_seed": "seed"}).to_csv(table, sep="\t", index=False)
    runs = read_runs([str(table)]).frame
    assert list(runs["init_seed"]) == list(runs["loop_seed"])
    assert "mixed model" in compare([str(table)]).method


def test_seeds_are_one_whatever_their_type():
    frame = study({"a": -0.03}, n=3)
    mixed = frame.assign(init_seed=[0, 1, 2, "0", 1.0, "2"])
    pd.testing.assert_frame_equal(compare(frame).table, compare(mixed).table)
