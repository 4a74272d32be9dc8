import json

import numpy as np
import pandas as pd
import pytest
from studies import on_disk, put, record, study

from analysis import AnalysisError, compare, read_runs
from analysis.__main__ import main
from analysis.report.cells import ledger_table, read_cells
from analysis.runs.frame import arm_name
from analysis.runs.tables import wandb_row
from harness.records import StudyPlan, write_plan


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


@pytest.mark.thorough
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
    assert main([str(folder), str(tmp_path / "more.csv"), "--no-write"]) == 0


def test_a_cell_s_file_and_its_study_give_one_run(tmp_path):
    folder = on_disk(tmp_path / "runs", study({"a": 0.0}, n=2))
    file = next(folder.rglob("record.json"))
    assert len(read_runs([str(folder), str(file)]).frame) == 4


def test_a_cell_may_be_read_from_within_its_folder(tmp_path, monkeypatch):
    folder = on_disk(tmp_path / "runs", study({"a": 0.0}, n=2))
    monkeypatch.chdir(next(folder.rglob("record.json")).parent)
    assert [len(read_runs([path]).frame) for path in (".", "..", "record.json")] == [1, 2, 1]


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


@pytest.fixture
def mine(tmp_path):
    """Return the path of a foreign table: an accuracy, a lost run, no name of ours."""
    rows = [("control", 0.0), ("rope, long", 0.05)]
    lines = [f'"{arm}",{seed},{0.7 + up + seed / 1000 + (seed % 2) / 900},x'
             for arm, up in rows for seed in range(4)]  # fmt: skip
    table = tmp_path / "mine.csv"
    table.write_text("\n".join(["recipe,rng,val_acc,note", *lines]) + "\n")
    return table


def asked(table, *more):
    return main(
        [str(table), "--column", "arm=recipe", "--baseline", "control", "--no-write", *more]
    )


ACC = ("--metric", "val_acc", "--higher-is-better")


def test_a_mapped_seed_stands_for_all_three(mine, capsys):
    assert asked(mine, *ACC, "--column", "seed=rng") == 0
    assert "because runs share initialisation seeds" in capsys.readouterr().out.replace("\n", " ")


def test_a_metric_may_be_mapped_too(mine, capsys):
    more = ("--column", "acc=val_acc", "--metric", "acc", "--higher-is-better")
    assert asked(mine, *more) == 0
    assert "## acc against control" in capsys.readouterr().out


@pytest.mark.parametrize("mapped", ["sed=rng", "arm=recipe,init_seed=rng"])
def test_a_column_that_nothing_reads_is_refused(mine, capsys, mapped):
    assert asked(mine, *ACC, "--column", mapped) == 2
    error = capsys.readouterr().err
    assert "no column of ours is called" in error
    assert "allowed are run_id, study, arm" in error


def test_columns_of_records_are_not_mapped(tmp_path, capsys):
    folder = on_disk(tmp_path / "runs", study({"a": -0.03}, n=3))
    assert main([str(folder), "--column", "arm=foo", "--no-write"]) == 2
    assert "holds records, whose columns are known" in capsys.readouterr().err


def test_a_comma_is_part_of_an_arm_s_name_but_not_of_a_list(mine, tmp_path, capsys):
    asked(mine, *ACC)
    assert "| rope, long |" in capsys.readouterr().out
    lists = tmp_path / "lists.csv"
    lists.write_text('interventions,test_loss\n,3.6\n"b, a",3.5\n')
    assert list(compare([str(lists)]).table["arm"]) == ["a+b", "baseline"]


def test_a_missing_metric_names_the_columns_of_numbers(mine, capsys):
    assert asked(mine) == 2
    assert "choose one of 'rng', 'val_acc' with --metric" in capsys.readouterr().err


def test_a_missing_arm_names_the_table_s_own_columns(tmp_path):
    table = tmp_path / "runs.csv"
    table.write_text("model,seed,loss\nbase,1,2.5\n")
    with pytest.raises(AnalysisError, match="among 'model', 'seed', 'loss': name"):
        compare([str(table)])


def test_runs_without_a_result_need_a_status(tmp_path):
    table = tmp_path / "runs.csv"
    table.write_text("arm,seed,loss\nbaseline,1,2.5\na,1,\n")
    with pytest.raises(AnalysisError, match="'diverged' or 'failed' in a column 'status'"):
        compare([str(table)])


@pytest.mark.parametrize("names", [["seed"], ["run_id"], []])
def test_of_a_table_with_a_line_a_step_each_run_s_last_counts(names):
    rows = [
        {"arm": arm, "seed": seed, "run_id": f"{arm}{seed}", "step": step,
         "loss": 3 - step / 100 + 0.01 * seed + delta}
        for arm, delta in {"baseline": 0.0, "a": -0.2}.items()
        for seed in range(3 if names else 1)
        for step in (10, 20, 30)
    ]  # fmt: skip
    frame = pd.DataFrame(rows)[["arm", *names, "step", "loss"]]
    result = compare(frame)
    n = 3 if names else 1
    assert result.table.set_index("arm")["n"].to_dict() == {"baseline": n, "a": n}
    assert result.table["mean_loss"].min() == pytest.approx(2.5 + 0.01 * (n - 1) / 2)
    assert f"one line a step (step): the last of each run counts, {2 * n} of {6 * n}" in (
        result.to_markdown()
    )


def test_a_run_that_was_lost_keeps_its_last_line():
    frame = pd.DataFrame(
        [("baseline", s, 10 * k, 3 - k / 10 + s / 100, "") for s in range(3) for k in (1, 2)]
        + [("a", s, 10, 2.8 + s / 90, "") for s in range(2)] + [("a", 2, 10, None, "failed")],
        columns=["arm", "seed", "step", "loss", "status"],
    )  # fmt: skip
    assert compare(frame).ledger.failed == ("row 9 (a)",)


def test_lines_out_of_the_order_of_their_steps_are_not_taken_for_a_curve():
    frame = pd.DataFrame({"arm": ["baseline"] * 2, "seed": 0, "step": [20, 10], "loss": [1.9, 2]})
    with pytest.raises(AnalysisError, match="its last, or a run's lines in the order of 'step'"):
        compare(frame)


def test_lines_that_count_tokens_are_steps_when_they_are_said_to_be(tmp_path):
    table = tmp_path / "runs.csv"
    rows = [(arm, seed, n, 3 - n / 10) for arm in ("baseline", "a") for seed in (0, 1)
            for n in (1, 2)]  # fmt: skip
    pd.DataFrame(rows, columns=["arm", "seed", "tokens", "loss"]).to_csv(table, index=False)
    with pytest.raises(AnalysisError, match="lines are steps, --column step=tokens, or declare"):
        compare([str(table)])
    said = compare(read_runs([str(table)], {"step": "tokens"}))
    assert said.table["n"].tolist() == [2, 2]
    assert said.table["mean_loss"].tolist() == pytest.approx([2.8, 2.8])


def test_advice_for_a_foreign_table_names_no_command_of_ours(tmp_path):
    frame = study({"a": -0.05}, n=2).assign(status="complete")
    frame.loc[len(frame)] = ["a", 2, 2, 2, np.nan, "failed"]
    table = tmp_path / "runs.csv"
    frame.to_csv(table, index=False)
    text = compare([str(table)]).to_markdown()
    assert "then add their rows, with a column seed, to the table" in text
    assert "failed: line 6 (a).\n" in text


@pytest.mark.parametrize("name", ["runs.csv", "runs.parquet"])
def test_a_frame_and_its_file_give_the_same_table(tmp_path, name):
    losses = [3.31, 3.33, 3.32, 3.345, 3.30, 3.315, 3.30, 3.318, 3.309, 3.335, 3.288, 3.304]
    frame = pd.DataFrame({"Variant": ["baseline"] * 6 + ["muon"] * 6, "seed": [*range(6)] * 2,
                          "loss": losses})  # fmt: skip
    frame = frame.rename(columns={"Variant": "variant"})
    write = frame.to_csv if name.endswith("csv") else frame.to_parquet
    write(tmp_path / name, index=False)
    of_frame, of_file = compare(frame), compare(tmp_path / name)
    pd.testing.assert_frame_equal(of_frame.table, of_file.table)
    assert "mixed model" in of_frame.method
    assert of_frame.verdicts["muon"].kind.real


def test_cells_that_never_started_are_kept_where_records_are_read_beside_a_table(tmp_path):
    folder = on_disk(tmp_path / "runs", study({"a": -0.03}, n=4), plan=False)
    asked = {"arm": "a", "seeds": {"init": 9, "data": 9, "loop": 9}, "cell": "0123456789ab"}
    (folder / "commands.jsonl").write_text(
        json.dumps({"time": "2026-01-01T00:00:00", "cells": [asked]}) + "\n"
    )
    (folder / "a" / asked["cell"]).mkdir()
    study({"b": -0.02}, n=4).query("arm == 'b'").to_csv(tmp_path / "more.csv", index=False)
    alone, beside = read_runs([str(folder)]), read_runs([str(folder), str(tmp_path / "more.csv")])
    assert alone.not_started == beside.not_started == (asked,)
    assert "1 not started" in compare(beside).ledger.sentence()


def two_studies(tmp_path, moved: float = 0.0):
    """Return studies of one arm each, whose baseline cells are the same."""
    rows = study({"a": -0.03, "b": 0.0}, n=3).to_dict("records")
    for home, arms in (("one", ("baseline", "a")), ("two", ("baseline", "b"))):
        cells = []
        for row in (row for row in rows if row["arm"] in arms):
            loss = row["test_loss"] + moved * (home == "two")
            item = record(row["arm"], row["init_seed"], loss)
            item.study = home
            put(tmp_path / home, item)
            cells.append({"arm": item.arm, "seeds": {}, "cell": item.cell})
        write_plan(tmp_path / home, StudyPlan(study=home, rope=0.01, cells=cells))
    return [tmp_path / "one", tmp_path / "two"]


def test_cells_that_two_studies_share_count_once_and_it_is_said(tmp_path):
    result = compare(read_runs([str(home) for home in two_studies(tmp_path)]))
    assert dict(zip(result.table["arm"], result.table["n"], strict=True)) == dict.fromkeys(
        ["baseline", "a", "b"], 3
    )
    assert result.ledger.sentence() == (
        "9 planned, 9 complete, 0 failed, 0 diverged, 3 of them in several studies, counted once"
    )
    assert not any("exploratory" in text or "share cells" in text for text in result.warnings)


def test_shared_cells_with_other_losses_are_pointed_out(tmp_path):
    homes = two_studies(tmp_path, moved=0.002)
    (said,) = [
        text for text in compare(read_runs([*map(str, homes)])).warnings if "share cells" in text
    ]
    assert "differ by up to 0.002 " in said


def test_planned_runs_outside_of_the_folders_named_are_not_called_unstarted(tmp_path):
    folder = on_disk(tmp_path / "runs", study({"a": -0.03, "b": 0.0}, n=4))
    (lost, *_) = sorted((folder / "b").iterdir())
    (lost / "record.json").unlink()
    runs = read_runs([str(folder / "baseline"), str(folder / "a")])
    result = compare(runs)
    assert result.ledger.sentence() == (
        "12 planned, 8 complete, 0 failed, 0 diverged, 1 not started, "
        "3 outside of the folders named"
    )
    (said,) = [text for text in result.warnings if "outside of the folders named" in text]
    assert said.startswith("3 planned run(s) lie outside of the folders named (b seed ")
    shown = ledger_table(read_cells(runs.frame), runs).texts()
    assert [row[0] for row in shown if row[4] == "not started"] == ["b"]
    whole = compare(read_runs([str(folder)]))
    assert "outside of the folders" not in whole.ledger.sentence() + " ".join(whole.warnings)
