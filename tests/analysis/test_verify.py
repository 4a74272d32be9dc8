import hashlib
import json
import sys

import numpy as np
import pytest
from studies import put, record, study

from analysis import AnalysisError, compare, read_runs, verify
from analysis.__main__ import main
from analysis.audit.rerun import compare_curves, curve, differences, rerun
from harness.records import Provenance, Status, StudyPlan, write_plan


@pytest.fixture
def folder(tmp_path):
    """Return a study as the harness leaves it: config, test losses, records, plan, results."""
    root = tmp_path / "runs" / "synthetic"
    cells = []
    rng = np.random.default_rng(0)
    for row in study({"a": -0.03, "b": 0.0}, n=3).to_dict("records"):
        losses = (row["test_loss"] + rng.normal(0, 0.1, 64)).astype(np.float32)
        text = f"seed: {row['init_seed']}\narm: {row['arm']}\n"
        item = record(row["arm"], row["init_seed"], float(losses.mean(dtype=np.float64)))
        item.provenance.config_sha256 = hashlib.sha256(text.encode()).hexdigest()
        home = put(root, item)
        (home / "config.yaml").write_text(text)
        np.save(home / "test_losses.npy", losses)
        cells.append({"arm": item.arm, "seeds": {}, "cell": item.cell})
    write_plan(root, StudyPlan(study="synthetic", rope=0.01, cells=cells))
    assert main([str(root), "--reference", "GPT-2=3.5"]) == 0
    return root


def failures(folder):
    return [check.what for check in verify(folder).checks if check.level == "FAIL"]


def test_an_untouched_study_passes(folder):
    found = verify(folder)
    assert found.passed, found.to_markdown()
    assert any("figures of results.json recomputed" in check.what for check in found.checks)
    assert main(["verify", str(folder)]) == 0


def test_an_edited_result_is_found(folder):
    results = json.loads((folder / "results.json").read_text())
    results["table"][0]["delta"] -= 0.001
    (folder / "results.json").write_text(json.dumps(results))
    assert failures(folder) == ["results.json differs from what the records give now"]
    assert main(["verify", str(folder)]) == 1


def test_the_heading_names_what_was_traced(folder):
    names = "results.json, results.md, results.csv, results.tex"
    assert f": every figure in the tables of {names} is traced" in verify(folder).to_markdown()
    for name in names.split(", ")[1:]:
        (folder / name).unlink()
    assert "tables of results.json is traced" in verify(folder).to_markdown()
    (folder / "results.json").unlink()
    found = verify(folder)
    assert found.passed
    assert "agree with their files; there are no results to trace" in found.to_markdown()
    assert "every figure" not in found.to_markdown()


def test_tables_without_their_rules_cannot_be_traced(folder):
    (folder / "results.json").unlink()
    what = "no results.json, so results.md, results.csv, results.tex cannot be traced"
    assert failures(folder) == [what]


@pytest.mark.parametrize("name", ["results.md", "results.csv", "results.tex"])
def test_a_falsified_mean_is_found_in_every_table(folder, name):
    mean = compare(str(folder)).table.set_index("arm").loc["a", "mean_loss"]
    written = str(mean) if name.endswith("csv") else f"{mean:.4f}"
    text = (folder / name).read_text()
    assert written in text
    (folder / name).write_text(text.replace(written, f"{mean - 0.01:.4f}"))
    assert failures(folder) == [f"{name} differs from what the records give now"]


def test_an_edited_sentence_is_a_note(folder):
    text = (folder / "results.md").read_text()
    (folder / "results.md").write_text(text.replace("sd of one run", "sd of one run about"))
    notes = [check.what for check in verify(folder).checks if check.level == "note"]
    assert "results.md: the text beside its table is another one now" in notes


def test_a_practical_size_of_this_call_and_the_plan_s_are_told_apart(folder):
    assert main([str(folder), "--rope", "0.03"]) == 0
    assert verify(folder).passed, verify(folder).to_markdown()
    assert main([str(folder)]) == 0
    write_plan(folder, StudyPlan(study="synthetic", rope=0.04))
    assert "the practical size of results.json is not the plan's now" in failures(folder)


def test_what_is_not_checked_is_said_and_long_values_are_marked(folder):
    (folder / "report.html").write_text("")
    found = verify(folder).to_markdown()
    assert "- note: not checked: report.html: made anew by python -m analysis report" in found
    assert f"- ok: one test set: {'t' * 60}…" in found


def test_an_edited_config_is_found(folder):
    next(folder.rglob("config.yaml")).write_text("seed: 99\n")
    assert failures(folder) == ["config.yaml is not the one that was run (sha256)"]


def test_edited_test_losses_are_found(folder):
    file = next(folder.rglob("test_losses.npy"))
    np.save(file, np.load(file) + 0.01)
    assert failures(folder) == ["the mean of test_losses.npy is not the recorded test loss"]


def test_missing_files_are_found(folder):
    home = next(folder.rglob("config.yaml")).parent
    (home / "config.yaml").unlink()
    (home / "test_losses.npy").unlink()
    assert set(failures(folder)) == {"config.yaml is missing", "test_losses.npy is missing"}


def test_an_edited_record_is_found_twice(folder):
    file = next((folder / "a").rglob("record.json"))
    content = json.loads(file.read_text())
    content["losses"]["test"] -= 0.01
    file.write_text(json.dumps(content))
    assert "the mean of test_losses.npy is not the recorded test loss" in failures(folder)
    assert "runs whose loss changed since the table was made" in failures(folder)


def test_mixed_code_is_a_note_and_the_ledger_accounts_for_every_run(folder):
    put(folder, record("a", 50, None, status=Status.FAILED))
    put(folder, record("a", 51, None, status=Status.DIVERGED, step=3))
    notes = {check.what: check.detail for check in verify(folder).checks}
    assert notes["ledger"] == "9 planned, 9 complete, 1 failed, 1 diverged"
    assert "diverged, so excluded from means" in notes
    other = next((folder / "b").rglob("record.json"))
    content = json.loads(other.read_text())
    content["provenance"]["git_sha"] = "b" * 40
    other.write_text(json.dumps(content))
    whats = {check.what: check.level for check in verify(folder).checks}
    assert whats["2 different values of code version"] == "note"


def test_two_versions_of_an_arms_own_code_are_a_note(folder):
    for seed, source in ((60, "1" * 16), (61, "2" * 16)):
        put(folder, record("a", seed, 3.7, provenance=Provenance(sources={"mine.f": source})))
    whats = {check.what: check.level for check in verify(folder).checks}
    assert whats["2 versions of mine.f"] == "note"


def test_cells_of_an_arms_earlier_code_are_left_out_and_listed(folder):
    for code, loss, started in (("2" * 16, 3.6, "2026-02"), ("1" * 16, 3.9, "2026-01")):
        item = record("mine", 60, loss, started=started,
                      provenance=Provenance(test_set_sha256="t" * 64, sources={"mine.f": code}))  # fmt: skip
        item.cell = code
        put(folder, item)
    result = compare(read_runs([str(folder)]))
    row = result.table.set_index("arm").loc["mine"]
    assert (row["n"], row["mean_loss"]) == (1, 3.6)
    assert "1 superseded" in result.ledger.sentence()
    assert any(f"left out: mine/{'1' * 16}" in text for text in result.warnings)
    notes = {check.what: check.detail for check in verify(folder).checks}
    assert notes["superseded since the arm was edited, so excluded"]


def versions_of(folder, *versions, seed=60):
    """Write cells of one arm and seed; each version: its eps, recipe and start."""
    cells = []
    for i, (eps, recipe, started) in enumerate(versions):
        changes = {"recipe": recipe, "version": f"{recipe} {eps}", "started": started}
        item = record("mine", seed, 3.6 + eps, cell=f"{seed}{i}" * 4, **changes)
        home = put(folder, item)
        text = {"interventions": {"mine": {"summary": started, "fn": {"eps": eps}}}}
        (home / "config.yaml").write_text(json.dumps({**text, "optim": {"lr": len(recipe)}}))
        cells.append({"arm": "mine", "seeds": {"init": seed}, "cell": item.cell})
    return cells


def test_cells_of_an_arms_earlier_arguments_are_left_out_and_the_edit_is_named(folder):
    old, new = versions_of(folder, (0.1, "r", "2026-01"), (0.2, "r", "2026-02"))
    for allow in (False, True):
        result = compare(read_runs([str(folder)]), allow_reruns=allow)
        row = result.table.set_index("arm").loc["mine"]
        assert (row["n"], row["mean_loss"]) == (1, pytest.approx(3.8))
    (words,) = (text for text in result.warnings if text.startswith("left out"))
    assert f"left out: mine/{old['cell']}. Edited since: mine (interventions.mine.fn.eps" in words
    assert "eps 0.1 -> 0.2). The planned version counts, else the one asked for last" in words
    assert new["cell"] not in words


def test_the_version_asked_for_last_counts_not_the_one_trained_last(folder):
    old, new = versions_of(folder, (0.1, "r", "2026-01"), (0.2, "r", "2026-02"))
    asked = [{"time": f"2026-0{i + 1}", "cells": [cell]} for i, cell in enumerate((old, new, old))]
    lines = [*map(json.dumps, asked), '{"time": "2026-04", "cel']  # the last one is torn
    (folder / "commands.jsonl").write_text("\n".join(lines))
    status = read_runs([str(folder)]).frame.set_index("cell")["status"]
    assert status[[old["cell"], new["cell"]]].tolist() == ["complete", "superseded"]


def test_what_another_study_asked_for_or_planned_decides_nothing(folder, tmp_path):
    old, new = versions_of(folder, (0.1, "r", "2026-01"), (0.2, "r", "2026-02"))
    other = tmp_path / "other"
    put(other, record("mine", 70, 3.6, study="other"))
    (other / "commands.jsonl").write_text(json.dumps({"time": "2026-03", "cells": [old]}) + "\n")
    write_plan(other, StudyPlan(study="other", cells=[old]))
    status = read_runs([str(folder), str(other)]).frame.set_index("cell")["status"]
    assert status[[old["cell"], new["cell"]]].tolist() == ["superseded", "complete"]


def test_an_older_record_is_superseded_by_a_newer_one_of_other_code(folder):
    for seed, sources in ((60, "1"), (60, "2"), (61, "2")):
        known = {"recipe": "r", "version": f"v{sources}"} if (seed, sources) == (60, "2") else {}
        item = record("mine", seed, 3.6, cell=f"{seed}{sources}" * 4, started=sources, **known)
        item.provenance.sources = {"mine.f": sources}
        put(folder, item)
    frame = read_runs([str(folder)]).frame.set_index("cell")
    assert frame.loc[["601" * 4, "602" * 4, "612" * 4], "status"].tolist() == [
        "superseded", "complete", "complete"]  # fmt: skip
    assert "an arm's seeds ran with different settings or code" not in failures(folder)


@pytest.mark.parametrize("reruns", [(), ("--allow-reruns",)])
def test_runs_of_other_settings_are_neither_superseded_nor_pooled(folder, reruns, capsys):
    versions_of(folder, (0.1, "recipe", "2026-02"), (0.1, "another", "2026-01"))
    assert main([str(folder), "--no-write", *reruns]) == 2
    words = "have the same arm and the same seeds, but other settings (optim.lr 7 -> 6)"
    assert words in capsys.readouterr().err


def test_an_arm_whose_seeds_had_other_arguments_fails(folder):
    versions_of(folder, (0.1, "r", "2026-01"), seed=60)
    assert "an arm's seeds ran with different settings or code" not in failures(folder)
    versions_of(folder, (0.2, "r", "2026-02"), seed=61)
    warnings = compare(read_runs([str(folder)])).warnings
    assert any(text.startswith("mine: the seeds ran with different settings") for text in warnings)
    assert "an arm's seeds ran with different settings or code" in failures(folder)


@pytest.mark.parametrize(
    ("recipe", "changes", "apart"),
    [("r", {}, False), ("s", {}, True), ("s", {"data.name": ["a", "b"]}, False), (None, {}, False)],
)
def test_an_arm_that_was_applied_to_other_settings_is_pointed_out(tmp_path, recipe, changes, apart):
    for seed in range(4):
        put(tmp_path, record("baseline", seed, 3.7 + seed / 100, recipe="r"))
        item = record("a", seed, 3.6 + seed / 110, recipe=recipe, changes=changes)
        put(tmp_path, item)
    warnings = compare(read_runs([str(tmp_path)])).warnings
    words = "a: trained with other settings than baseline, the arm's own changes aside"
    assert any(text.startswith(words) for text in warnings) == apart


def test_cells_that_a_command_asked_for_and_that_never_started_are_missing(folder):
    (folder / "plan.json").unlink()
    cells = [{"arm": arm, "seeds": {"init": 60, "data": 60}, "cell": f"c{arm}"} for arm in "xyz"]
    line = {"time": "2026-01", "cells": [*cells, *versions_of(folder, (0.1, "r", "2026-01"))]}
    (folder / "commands.jsonl").write_text(json.dumps(line) + "\n")
    for cell in cells[:2]:  # the folder of the third was deleted: nobody waits for it
        (folder / cell["arm"] / cell["cell"]).mkdir(parents=True)
    result = compare(read_runs([str(folder)]))
    assert result.ledger.missing == ("x seed 60", "y seed 60")
    assert "2 not started" in result.ledger.sentence()
    assert result.next_steps[0].startswith("2 planned run(s) are not complete: x seed 60, y")


def test_a_cell_that_was_planned_and_asked_for_is_missing_once(folder):
    cell = {"arm": "x", "seeds": {"init": 60}, "cell": "cx"}
    write_plan(folder, StudyPlan(study="synthetic", cells=[cell]))
    (folder / "commands.jsonl").write_text(json.dumps({"time": "2026", "cells": [cell]}) + "\n")
    (folder / "x" / "cx").mkdir(parents=True)
    assert compare(read_runs([str(folder)])).ledger.missing == ("x seed 60",)


def test_the_planned_version_of_an_arms_code_counts_not_the_latest(folder):
    first = record("mine", 60, 3.9, started="2026-01", provenance=Provenance(sources={"f": "1"}))
    later = record("mine", 60, 3.6, started="2026-02", provenance=Provenance(sources={"f": "2"}))
    later.cell = "2" * 16
    for item in (first, later):
        put(folder, item)
    write_plan(folder, StudyPlan(study="synthetic", cells=[{"arm": "mine", "cell": first.cell}]))
    status = read_runs([str(folder)]).frame.set_index("cell")["status"]
    assert status[[first.cell, later.cell]].tolist() == ["complete", "superseded"]


def test_seeds_that_ran_with_different_versions_of_an_arms_code_are_pointed_out(folder):
    for seed in (60, 61):
        item = record("mine", seed, 3.6)
        item.provenance.sources = {"mine.f": str(seed)}
        put(folder, item)
    warnings = compare(read_runs([str(folder)])).warnings
    assert any(text.startswith("mine: the seeds ran with different settings") for text in warnings)
    assert "an arm's seeds ran with different settings or code" in failures(folder)


def test_a_patch_that_is_gone_is_found(folder):
    item = record("b", 77, 3.7)
    item.provenance = Provenance(git_sha="a" * 40, git_dirty=True, dirty_patch="dirty.patch",
                                 test_set_sha256="t" * 64, dataset_sha256="d" * 64)  # fmt: skip
    put(folder, item)
    assert "the code had uncommitted changes and the patch is missing" in failures(folder)


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(AnalysisError, match=r"no record\.json"):
        verify(tmp_path)


def test_curves_are_compared_at_their_common_steps(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "train_loss": 3.0}\n{"step": 2, "train_loss": 2.5}\n{"step": 3, "tra'
    )
    found = compare_curves(curve(tmp_path), {2: 2.25, 9: 1.0})
    assert found.steps == (2,)
    assert found.largest_difference == 0.25
    assert not found.identical


def test_a_rerun_says_what_it_was_run_with_that_the_cell_was_not(tmp_path):
    then = Provenance(git_sha="a" * 40, device="H100", packages={"torch": "2.6", "numpy": "2.4"})
    now = Provenance(git_sha="b" * 40, device="H100", packages={"torch": "2.9", "numpy": "2.4"},
                     sources={"mine.f": "1"})  # fmt: skip
    cell = put(tmp_path / "then", record("b", 0, 3.7, provenance=then))
    again = put(tmp_path / "now", record("b", 0, 3.7, provenance=now))
    code = f"code {'a' * 12} then, {'b' * 12} now"
    assert differences(cell, again) == (code, "torch 2.6 then, 2.9 now", "mine.f none then, 1 now")
    assert differences(cell, cell) == ()


def test_a_cell_to_run_again_may_be_called_by_its_name(folder, capsys):
    home = next(folder.rglob("config.yaml")).parent
    for name in (home.name, f"{home.parent.name}/{home.name}"):
        assert main(["verify", str(folder), "--rerun", name]) == 2
        assert f"{home} has no metrics.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize(("again", "code"), [(3.0, 0), (3.5, 1)])
def test_a_rerun_that_differs_fails(folder, monkeypatch, again: float, code: int):
    found = compare_curves({1: 3.0}, {1: again})
    monkeypatch.setattr("analysis.audit.rerun.rerun", lambda cell, n_steps: found)
    home = next(folder.rglob("config.yaml")).parent
    assert main(["verify", str(folder), "--rerun", home.name]) == code


def test_a_cell_that_cannot_run_again_says_why(tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text("nonsense: true\n")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train_loss": 3.0}\n')
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(AnalysisError, match="did not run again"):
        rerun(tmp_path, 1)
