"""A study by its folder: what was meant, what is there, which version of a cell counts."""

import json
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import harness.status
import harness.sync
from harness.records import (
    Losses,
    Provenance,
    RecordError,
    RunRecord,
    Seeds,
    Status,
    StudyPlan,
    write_plan,
    write_record,
)
from harness.records.cell import Cell, describe
from harness.records.evaluation import (
    Evaluation,
    label,
    read_evaluations,
    reference_folder,
    write_evaluation,
)
from harness.records.study import TRIAL, Study, meant, read_all
from harness.records.versions import changes_of_test_set, last_asked, rank, superseded_by


def record(cell: str, **said: object) -> RunRecord:
    said = {"arm": "a", "started": None, **said}
    return RunRecord(study="s", interventions=[], cell=cell, n_steps=4,
                     seeds=Seeds(init=0, data=0, loop=0), **said)  # fmt: skip


def planned(cell: str, seed: int = 0) -> dict:
    return {"arm": "a", "seeds": {"init": seed}, "cell": cell}


def test_what_was_planned_counts_before_what_was_asked_for(tmp_path) -> None:
    study = Study(tmp_path)
    assert (study.intent().plan, study.intent().commands, study.intent().asked()) == (None, [], {})
    study.note_command([planned("c", 1), planned("d")])
    assert study.intent().asked() == {"c": planned("c", 1), "d": planned("d")}
    write_plan(tmp_path, StudyPlan(study="s", cells=[planned("c")]))
    assert study.intent().asked() == {"c": planned("c"), "d": planned("d")}
    assert study.intent().unreadable == []


def test_a_plan_and_commands_that_cannot_be_read_are_both_told(tmp_path) -> None:
    (tmp_path / "plan.json").write_text("{")
    (tmp_path / "commands.jsonl").write_text('{"cells": []}\n')
    intent = Study(tmp_path).intent()
    assert [error.file.name for error in intent.unreadable] == ["plan.json", "commands.jsonl"]
    assert (intent.plan, intent.commands) == (None, [])


def test_a_command_is_noted_with_its_time_without_secrets_and_once_in_a_row(
    tmp_path, monkeypatch
) -> None:
    study = Study(tmp_path)
    monkeypatch.setattr(sys, "orig_argv", ["python", "tracking.token=abc"])
    for cells in ([planned("c")], [planned("c")], [planned("d")], [planned("c")]):
        study.note_command(cells)
    lines = [json.loads(line) for line in (tmp_path / "commands.jsonl").read_text().splitlines()]
    assert [line["cells"] for line in lines] == [[planned(c)] for c in "cdc"]
    assert {tuple(line["command"]) for line in lines} == {("python", "tracking.token=***")}
    assert all(len(line["time"]) == len("2026-11-29T11:00:00.000+00:00") for line in lines)
    Study(tmp_path / "gone").note_command([planned("c")])
    assert not (tmp_path / "gone").exists()


def test_a_complete_record_without_its_loss_cannot_be_read_and_any_other_can(tmp_path) -> None:
    for status in Status:
        write_record(tmp_path / "a" / status.value, record(status.value, status=status))
    write_record(tmp_path / "a" / "ok", record("ok", status=Status.COMPLETE, losses=Losses(test=3)))
    found = Study(tmp_path).found()
    assert sorted(item.cell for item in found.records.values()) == [
        "diverged", "failed", "ok", "running", "stopped"]  # fmt: skip
    assert all(folder.name == item.cell for folder, item in found.records.items())
    file = tmp_path / "a" / "complete" / "record.json"
    assert list(map(str, found.unreadable)) == [
        f"cannot read {file}: it is called complete, and has no test loss"
    ]
    assert read_all([tmp_path / "a" / "ok", tmp_path / "a"]).records.keys() == found.records.keys()
    gone = tmp_path / "gone"
    assert [str(e) for e in read_all([gone]).unreadable] == [
        f"cannot read {gone}: No such file or directory"
    ]


def test_cells_are_folders_that_are_frozen_or_have_begun_each_under_its_first_name(
    tmp_path,
) -> None:
    for name in (
        "a/frozen/config.yaml",
        "a/begun/record.json",
        "b/other/notes.txt",
        "c/d/e/config.yaml",
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a" / "frozen")
    (tmp_path / "z").symlink_to(tmp_path / "a")
    assert Study(tmp_path).cells() == [tmp_path / "a" / "again", tmp_path / "a" / "begun"]


def test_a_study_and_its_trials_are_found_from_either_in_order(tmp_path) -> None:
    assert TRIAL == "_tune_"
    trials = [f"mine{TRIAL}lr_{size}" for size in "ba"]
    for name in (*trials, "mine", "minetoo", "mine_tuned", f"other{TRIAL}lr"):
        (tmp_path / name).mkdir()
    (tmp_path / f"mine{TRIAL}file").touch()
    expected = [Study(tmp_path / name) for name in ("mine", *reversed(trials))]
    assert Study(tmp_path / "mine").with_tuning() == expected
    assert Study(tmp_path / trials[0]).with_tuning() == expected
    (tmp_path / "mine").rmdir()
    assert Study(tmp_path / trials[0]).with_tuning() == expected[1:]
    assert str(expected[0]) == str(tmp_path / "mine")


def evaluated(**said: object) -> Evaluation:
    least = {"name": "hf:m@1", "asked": "hf:m", "in_study": False, "loss": 3.0, "bits_per_byte": 1.0,
             "n_sequences": 1, "n_bytes": 1, "test_set_sha256": None, "weights_sha256": "0",
             "n_params": 1, "tokenizer": "t", "context": "c", "precision": "fp32"}  # fmt: skip
    return Evaluation(**least | said)


def test_an_evaluation_is_found_below_its_study_and_a_broken_one_is_told(tmp_path) -> None:
    names = {"fp32": "hf:m@1", "fp16": "hf:m@1 (fp16)"}
    assert {precision: label("hf:m@1", precision) for precision in names} == names
    assert {p: evaluated(precision=p).label for p in names} == names
    folder = reference_folder(tmp_path, names["fp16"])
    assert folder == tmp_path / "references" / "hf_m@1_fp16"
    assert reference_folder(tmp_path, "/a-b.c//d?").name == "a-b.c_d"
    write_evaluation(folder, evaluated(precision="fp16"))
    text = (folder / "evaluation.json").read_text()
    assert text == json.dumps(json.loads(text), indent=1) + "\n"
    said = json.loads(text)
    assert (said["schema_version"], said["created"], said["provenance"]) == (1, None, {})
    broken: list[RecordError] = []
    assert read_evaluations(tmp_path, broken) == {folder: evaluated(precision="fp16")}
    other = reference_folder(tmp_path, "other")
    write_evaluation(other, evaluated(schema_version=2))
    assert read_evaluations(tmp_path, broken).keys() == {folder}
    assert [error.file for error in broken] == [other / "evaluation.json"]


def counted(*ranked: tuple[RunRecord, tuple[bool, str]]) -> list[str | None]:
    return [new and new.cell for new in superseded_by(ranked)]


def test_of_two_versions_the_planned_counts_else_the_one_asked_for_last() -> None:
    asked = last_asked([{"time": "2", "cells": [planned("old"), planned("new")]},
                        {"time": "3", "cells": [planned("old")]}])  # fmt: skip
    assert asked == {"old": "3", "new": "2"}
    started = record("new", started="9")
    assert rank(started, {"new"}, asked) == (True, "2")
    assert rank(started, {"old"}, {}) == (False, "9")
    assert rank(record("new"), (), {}) == (False, "")
    old, new = record("old", recipe="r"), record("new", recipe="r")
    assert counted((old, (False, "3")), (new, (False, "2"))) == [None, "old"]
    assert counted((old, (False, "3")), (new, (True, "2"))) == ["new", None]
    assert counted((new, (True, "2")), (old, (False, "3"))) == [None, "new"]


@pytest.mark.parametrize(
    ("old", "new", "edited"),
    [
        ({"recipe": "r"}, {"recipe": "r"}, True),
        ({"recipe": "r"}, {"recipe": "s"}, False),
        ({"recipe": "r"}, {"recipe": "r", "arm": "b"}, False),
        ({}, {"recipe": "r"}, False),  # an older one, of the same code
        ({}, {"recipe": "r", "provenance": Provenance(sources={"f": "2"})}, True),
        ({}, {}, False),
        ({}, {"provenance": Provenance(sources={"f": "2"})}, True),
    ],
)
def test_a_version_counts_instead_where_recipe_arm_and_seeds_are_one(old, new, edited) -> None:
    ranked = [(record("old", **old), (False, "1")), (record("new", **new), (False, "2"))]
    assert counted(*ranked) == ["new" if edited else None, None]
    other = record("new", **new)
    for name in ("init", "data", "loop"):
        other.seeds = Seeds(**{"init": 0, "data": 0, "loop": 0} | {name: 1})
        assert counted(ranked[0], (other, (False, "2"))) == [None, None]


def test_changes_that_may_change_what_is_tested_are_told_in_words() -> None:
    changes = {"data.name": ["a", "b"], "optim.lr": [1, 2], "eval.spread": [True, False],
               "model.block_size": [64, 32], "model.n_layer": [1, 2]}  # fmt: skip
    assert changes_of_test_set(changes) == (
        "data.name a -> b, eval.spread True -> False, model.block_size 64 -> 32"
    )
    assert changes_of_test_set({}) == changes_of_test_set(None) == ""


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"status": Status.COMPLETE}, "step 0 of 4"),
        ({"status": Status.DIVERGED, "losses": Losses(test=3.0), "step": 3}, "step 3 of 4"),
        ({"status": Status.FAILED, "error": "boom"}, "boom"),
        ({"status": Status.COMPLETE, "losses": Losses(test=3.00004), "tokens": 1000},
         "test loss 3.0000 after 1,000 tokens"),
    ],
)  # fmt: skip
def test_a_line_tells_how_a_cell_ended_by_its_loss_its_error_or_its_step(said, words) -> None:
    line = describe(record("c", **said), Path("/f"))
    assert line == f"{said['status'].value}: a (seed 0, cell c): {words}; /f"


def test_a_former_word_for_a_status_is_read_and_an_unknown_one_is_not(tmp_path) -> None:
    assert Status("preempted") is Status.STOPPED
    with pytest.raises(ValueError, match="'paused' is not a valid Status"):
        Status("paused")
    assert Cell(tmp_path).result() is None


def test_the_code_of_a_record_is_its_commit_or_the_hash_of_its_files() -> None:
    pairs = [("sha", "files"), ("sha", None), (None, "files"), (None, None)]
    codes = [Provenance(git_sha=sha, code_sha256=files).code for sha, files in pairs]
    assert codes == ["sha", "sha", "files", None]


def test_a_study_that_is_not_there_is_answered_with_those_of_near_names(
    tmp_path, monkeypatch
) -> None:
    for name in ("runs/demo", "runs/demo_s", "runs/lr_sweep", "other/muon"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "commands.jsonl").touch()
    (tmp_path / "runs" / "demos").mkdir()
    monkeypatch.chdir(tmp_path)
    asked = {
        "runs/dmo": "did you mean runs/demo or runs/demo_s?",
        "lr_swep": "did you mean runs/lr_sweep?",
        "lr_sweep": "did you mean runs/lr_sweep?",
        "other/mon": "did you mean other/muon?",
        "runs/lr_sweep": "",
        "runs/unlike": "",
    }
    assert {given: meant(given) for given in asked} == asked


@pytest.mark.parametrize("module", [harness.status, harness.sync])
def test_commands_of_a_study_name_the_one_that_was_meant(
    tmp_path, monkeypatch, capsys, module
) -> None:
    study = tmp_path / "runs" / "mine"
    study.mkdir(parents=True)
    (study / "commands.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [module.__name__, "runs/mne"])
    with suppress(SystemExit):
        assert module.main() == 2
    assert "did you mean runs/mine?" in capsys.readouterr().err
