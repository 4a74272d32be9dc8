import json

import pytest
from studies import failures, put, record

from analysis import compare, read_runs, verify
from analysis.__main__ import main
from harness.records import Provenance, StudyPlan, write_plan


def test_two_versions_of_an_arms_own_code_are_a_note(traced):
    for seed, source in ((60, "1" * 16), (61, "2" * 16)):
        put(traced, record("a", seed, 3.7, provenance=Provenance(sources={"mine.f": source})))
    whats = {check.what: check.level for check in verify(traced).checks}
    assert whats["2 versions of mine.f"] == "note"


def test_cells_of_an_arms_earlier_code_are_left_out_and_listed(traced):
    for code, loss, started in (("2" * 16, 3.6, "2026-02"), ("1" * 16, 3.9, "2026-01")):
        item = record("mine", 60, loss, started=started,
                      provenance=Provenance(test_set_sha256="t" * 64, sources={"mine.f": code}))  # fmt: skip
        item.cell = code
        put(traced, item)
    result = compare(read_runs([str(traced)]))
    row = result.table.set_index("arm").loc["mine"]
    assert (row["n"], row["mean_loss"]) == (1, 3.6)
    assert "1 superseded" in result.ledger.sentence()
    assert any(f"left out: mine/{'1' * 16}" in text for text in result.warnings)
    notes = {check.what: check.detail for check in verify(traced).checks}
    assert notes["superseded since the arm was edited, so excluded"]


def versions_of(traced, *versions, seed=60):
    """Write cells of one arm and seed; each version: its eps, recipe and start."""
    cells = []
    for i, (eps, recipe, started) in enumerate(versions):
        changes = {"recipe": recipe, "version": f"{recipe} {eps}", "started": started}
        item = record("mine", seed, 3.6 + eps, cell=f"{seed}{i}" * 4, **changes)
        home = put(traced, item)
        text = {"interventions": {"mine": {"summary": started, "fn": {"eps": eps}}}}
        (home / "config.yaml").write_text(json.dumps({**text, "optim": {"lr": len(recipe)}}))
        cells.append({"arm": "mine", "seeds": {"init": seed}, "cell": item.cell})
    return cells


def test_cells_of_an_arms_earlier_arguments_are_left_out_and_the_edit_is_named(traced):
    old, new = versions_of(traced, (0.1, "r", "2026-01"), (0.2, "r", "2026-02"))
    for allow in (False, True):
        result = compare(read_runs([str(traced)]), allow_reruns=allow)
        row = result.table.set_index("arm").loc["mine"]
        assert (row["n"], row["mean_loss"]) == (1, pytest.approx(3.8))
    (words,) = (text for text in result.warnings if text.startswith("left out"))
    assert f"left out: mine/{old['cell']}. Edited since: mine (interventions.mine.fn.eps" in words
    assert "eps 0.1 -> 0.2). The planned version counts, else the last one requested" in words
    assert new["cell"] not in words


def test_the_version_asked_for_last_counts_not_the_one_trained_last(traced):
    old, new = versions_of(traced, (0.1, "r", "2026-01"), (0.2, "r", "2026-02"))
    asked = [{"time": f"2026-0{i + 1}", "cells": [cell]} for i, cell in enumerate((old, new, old))]
    lines = [*map(json.dumps, asked), '{"time": "2026-04", "cel']  # the last one is torn
    (traced / "commands.jsonl").write_text("\n".join(lines))
    status = read_runs([str(traced)]).frame.set_index("cell")["status"]
    assert status[[old["cell"], new["cell"]]].tolist() == ["complete", "superseded"]


def test_what_another_study_asked_for_or_planned_decides_nothing(traced, tmp_path):
    old, new = versions_of(traced, (0.1, "r", "2026-01"), (0.2, "r", "2026-02"))
    other = tmp_path / "other"
    put(other, record("mine", 70, 3.6, study="other"))
    (other / "commands.jsonl").write_text(json.dumps({"time": "2026-03", "cells": [old]}) + "\n")
    write_plan(other, StudyPlan(study="other", cells=[old]))
    status = read_runs([str(traced), str(other)]).frame.set_index("cell")["status"]
    assert status[[old["cell"], new["cell"]]].tolist() == ["superseded", "complete"]


def test_an_older_record_is_superseded_by_a_newer_one_of_other_code(traced):
    for seed, sources in ((60, "1"), (60, "2"), (61, "2")):
        known = {"recipe": "r", "version": f"v{sources}"} if (seed, sources) == (60, "2") else {}
        item = record("mine", seed, 3.6, cell=f"{seed}{sources}" * 4, started=sources, **known)
        item.provenance.sources = {"mine.f": sources}
        put(traced, item)
    frame = read_runs([str(traced)]).frame.set_index("cell")
    assert frame.loc[["601" * 4, "602" * 4, "612" * 4], "status"].tolist() == [
        "superseded", "complete", "complete"]  # fmt: skip
    assert "an arm's seeds ran with different settings or code" not in failures(traced)


@pytest.mark.parametrize("reruns", [(), ("--allow-reruns",)])
def test_runs_of_other_settings_are_neither_superseded_nor_pooled(traced, reruns, capsys):
    versions_of(traced, (0.1, "recipe", "2026-02"), (0.1, "another", "2026-01"))
    assert main([str(traced), "--no-write", *reruns]) == 2
    words = "have the same arm and the same seeds, but other settings (optim.lr 7 -> 6)"
    assert words in capsys.readouterr().err


def test_an_arm_whose_seeds_had_other_arguments_fails(traced):
    versions_of(traced, (0.1, "r", "2026-01"), seed=60)
    assert "an arm's seeds ran with different settings or code" not in failures(traced)
    versions_of(traced, (0.2, "r", "2026-02"), seed=61)
    warnings = compare(read_runs([str(traced)])).warnings
    assert any(text.startswith("mine: the seeds ran with different settings") for text in warnings)
    assert "an arm's seeds ran with different settings or code" in failures(traced)


@pytest.mark.parametrize(
    ("recipe", "changes", "apart"),
    [
        *[("r", {}, False), ("s", {}, True), (None, {}, False)],
        *[("s", {"data.name": ["a", "b"]}, False), ("s", {"optim.lr": [1.0, 2.0]}, True)],
    ],
)
def test_an_arm_that_was_applied_to_other_settings_is_pointed_out(tmp_path, recipe, changes, apart):
    for seed in range(4):
        put(tmp_path, record("baseline", seed, 3.7 + seed / 100, recipe="r"))
        item = record("a", seed, 3.6 + seed / 110, recipe=recipe, changes=changes)
        put(tmp_path, item)
    warnings = compare(read_runs([str(tmp_path)])).warnings
    words = "a: trained with other settings than baseline, beyond the arm's own changes"
    assert any(text.startswith(words) for text in warnings) == apart


def test_cells_that_a_command_asked_for_and_that_never_started_are_missing(traced):
    (traced / "plan.json").unlink()
    cells = [{"arm": arm, "seeds": {"init": 60, "data": 60}, "cell": f"c{arm}"} for arm in "xyz"]
    line = {"time": "2026-01", "cells": [*cells, *versions_of(traced, (0.1, "r", "2026-01"))]}
    (traced / "commands.jsonl").write_text(json.dumps(line) + "\n")
    for cell in cells[:2]:  # the traced of the third was deleted: nobody waits for it
        (traced / cell["arm"] / cell["cell"]).mkdir(parents=True)
    result = compare(read_runs([str(traced)]))
    assert result.ledger.missing == ("x seed 60", "y seed 60")
    assert "2 not started" in result.ledger.sentence()
    assert result.next_steps[0].startswith("2 planned run(s) are not complete: x seed 60, y")


def test_a_cell_that_was_planned_and_asked_for_is_missing_once(traced):
    cell = {"arm": "x", "seeds": {"init": 60}, "cell": "cx"}
    write_plan(traced, StudyPlan(study="synthetic", cells=[cell]))
    (traced / "commands.jsonl").write_text(json.dumps({"time": "2026", "cells": [cell]}) + "\n")
    (traced / "x" / "cx").mkdir(parents=True)
    assert compare(read_runs([str(traced)])).ledger.missing == ("x seed 60",)


def test_the_planned_version_of_an_arms_code_counts_not_the_latest(traced):
    first = record("mine", 60, 3.9, started="2026-01", provenance=Provenance(sources={"f": "1"}))
    later = record("mine", 60, 3.6, started="2026-02", provenance=Provenance(sources={"f": "2"}))
    later.cell = "2" * 16
    for item in (first, later):
        put(traced, item)
    write_plan(
        traced,
        StudyPlan(
            study="synthetic", cells=[{"arm": "mine", "seeds": {"init": 60}, "cell": first.cell}]
        ),
    )
    status = read_runs([str(traced)]).frame.set_index("cell")["status"]
    assert status[[first.cell, later.cell]].tolist() == ["complete", "superseded"]


def test_seeds_that_ran_with_different_versions_of_an_arms_code_are_pointed_out(traced):
    for seed in (60, 61):
        item = record("mine", seed, 3.6)
        item.provenance.sources = {"mine.f": str(seed)}
        put(traced, item)
    warnings = compare(read_runs([str(traced)])).warnings
    assert any(text.startswith("mine: the seeds ran with different settings") for text in warnings)
    assert "an arm's seeds ran with different settings or code" in failures(traced)
