import hashlib
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from studies import failures, put, record

from analysis import AnalysisError, compare, verify
from analysis.__main__ import main
from analysis.audit.results import TRACED, same
from harness.records import Provenance, Status, StudyPlan, write_plan


def detail(traced, what):
    return next(check.detail for check in verify(traced).checks if check.what == what)


def test_an_untouched_study_passes(traced):
    found = verify(traced)
    assert found.passed, found.to_markdown()
    assert any("figures of results.json recomputed" in check.what for check in found.checks)
    assert main(["verify", str(traced)]) == 0


def test_each_file_of_results_is_read_once(traced, monkeypatch):
    opened, open_it = Counter(), io.open

    def counted(file, *arguments, **settings):
        opened[Path(file).name] += isinstance(file, str | Path)
        return open_it(file, *arguments, **settings)

    monkeypatch.setattr(io, "open", counted)
    assert verify(traced).passed
    assert {name: opened[name] for name in TRACED} == dict.fromkeys(TRACED, 1)


def test_an_edited_result_is_found(traced):
    results = json.loads((traced / "results.json").read_text())
    results["table"][0]["delta"] -= 0.001
    (traced / "results.json").write_text(json.dumps(results))
    what = "results.json differs from what the records give now"
    assert failures(traced) == [what]
    assert detail(traced, what) == "GPT-2: delta"
    assert main(["verify", str(traced)]) == 1


@pytest.mark.parametrize("verdict", ["better where it converged", None])
def test_a_falsified_verdict_is_found(traced, verdict):
    results = json.loads((traced / "results.json").read_text())
    row = next(row for row in results["table"] if row["arm"] == "a")
    row["verdict"] = verdict
    (traced / "results.json").write_text(json.dumps(results))
    assert detail(traced, "results.json differs from what the records give now") == "a: verdict"


@pytest.mark.parametrize("value", [10**40, None, ["x"]])
def test_results_made_by_rules_of_another_type_cannot_be_read(traced, value):
    results = json.loads((traced / "results.json").read_text())
    (traced / "results.json").write_text(json.dumps(results | {"baseline": value}))
    assert "Expected `str`, got" in detail(traced, "results.json cannot be read")


@pytest.mark.parametrize("name", ["half_width", "sd"])
def test_an_edited_noise_band_is_found(traced, name):
    results = json.loads((traced / "results.json").read_text())
    results["noise"][name] *= 0.9
    (traced / "results.json").write_text(json.dumps(results))
    assert detail(traced, "results.json differs from what the records give now") == f"noise: {name}"


def test_the_heading_names_what_was_traced(traced):
    names = "results.json, results.md, results.csv, results.tex"
    assert f": every figure in the tables of {names} is traced" in verify(traced).to_markdown()
    for name in names.split(", ")[1:]:
        (traced / name).unlink()
    assert "tables of results.json is traced" in verify(traced).to_markdown()
    (traced / "results.json").unlink()
    found = verify(traced)
    assert found.passed
    assert "agree with their files; there are no results to trace" in found.to_markdown()
    assert "every figure" not in found.to_markdown()


def test_tables_without_their_rules_cannot_be_traced(traced):
    (traced / "results.json").unlink()
    what = "no results.json, so results.md, results.csv, results.tex cannot be traced"
    assert failures(traced) == [what]


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["results.md", "results.csv", "results.tex"])
def test_a_falsified_mean_is_found_in_every_table(traced, name):
    mean = compare(str(traced)).table.set_index("arm").loc["a", "mean_loss"]
    written = str(mean) if name.endswith("csv") else f"{mean:.4f}"
    text = (traced / name).read_text()
    assert written in text
    (traced / name).write_text(text.replace(written, f"{mean - 0.01:.4f}"))
    what = f"{name} differs from what the records give now"
    assert failures(traced) == [what]
    assert detail(traced, what).split("; ")[0] == ("a: mean_loss" if name.endswith("csv") else "a")


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["results.md", "results.csv", "results.tex"])
def test_a_row_that_was_added_is_found(traced, name):
    text = (traced / name).read_text()
    row = next(line for line in text.splitlines() if line.lstrip("| ").startswith("b"))
    (traced / name).write_text(text.replace(row, f"{row}\n{row}"))
    assert failures(traced) == [f"{name} differs from what the records give now"]


def test_an_edited_sentence_is_a_note(traced):
    text = (traced / "results.md").read_text()
    (traced / "results.md").write_text(text.replace("sd of one run", "sd of one run about"))
    notes = [check.what for check in verify(traced).checks if check.level == "note"]
    assert "results.md: the text beside its table is another one now" in notes


@pytest.mark.thorough
def test_a_practical_size_of_this_call_and_the_plan_s_are_told_apart(traced):
    assert main([str(traced), "--rope", "0.03"]) == 0
    assert verify(traced).passed, verify(traced).to_markdown()
    assert main([str(traced)]) == 0
    write_plan(traced, StudyPlan(study="synthetic", rope=0.04))
    assert "the practical size of results.json is not the plan's now" in failures(traced)


def test_what_is_not_checked_is_said_and_long_values_are_marked(traced):
    (traced / "report.html").write_text("")
    found = verify(traced).to_markdown()
    assert "- note: not checked: report.html: made anew by python -m analysis report" in found
    assert f"- ok: one test set: {'t' * 60}…" in found


def test_an_edited_config_is_found(traced):
    next(traced.rglob("config.yaml")).write_text("seed: 99\n")
    assert failures(traced) == ["config.yaml is not the one that was run (sha256)"]


def test_edited_test_losses_are_found(traced):
    file = next(traced.rglob("test_losses.npy"))
    np.save(file, np.load(file) + 0.01)
    assert failures(traced) == ["the mean of test_losses.npy is not the recorded test loss"]


def test_missing_files_are_found(traced):
    home = next(traced.rglob("config.yaml")).parent
    (home / "config.yaml").unlink()
    (home / "test_losses.npy").unlink()
    assert set(failures(traced)) == {"config.yaml is missing", "test_losses.npy is missing"}


def test_an_edited_record_is_found_twice(traced):
    file = next((traced / "a").rglob("record.json"))
    content = json.loads(file.read_text())
    content["losses"]["test"] -= 0.01
    file.write_text(json.dumps(content))
    assert "the mean of test_losses.npy is not the recorded test loss" in failures(traced)
    assert "runs whose loss changed since the table was made" in failures(traced)


def test_mixed_code_is_a_note_and_the_ledger_accounts_for_every_run(traced):
    put(traced, record("a", 50, None, status=Status.FAILED))
    put(traced, record("a", 51, None, status=Status.DIVERGED, step=3))
    notes = {check.what: check.detail for check in verify(traced).checks}
    assert notes["ledger"] == "9 planned, 9 complete, 1 failed, 1 diverged"
    assert "diverged, so excluded from means" in notes
    other = next((traced / "b").rglob("record.json"))
    content = json.loads(other.read_text())
    content["provenance"]["git_sha"] = "b" * 40
    other.write_text(json.dumps(content))
    whats = {check.what: check.level for check in verify(traced).checks}
    assert whats["2 different values of code version"] == "note"


def test_a_patch_that_is_gone_is_found(traced):
    item = record("b", 77, 3.7)
    item.provenance = Provenance(git_sha="a" * 40, git_dirty=True, dirty_patch="dirty.patch",
                                 test_set_sha256="t" * 64, dataset_sha256="d" * 64)  # fmt: skip
    put(traced, item)
    assert "the code had uncommitted changes and the patch is missing" in failures(traced)


def edit(folder, **provenance):
    """Change what every record of a folder says of its provenance."""
    for file in folder.rglob("record.json"):
        content = json.loads(file.read_text())
        content["provenance"] |= provenance
        file.write_text(json.dumps(content))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("what", "name"),
    [("test set", "test_set_sha256"), ("corpus", "dataset_sha256"), ("tokenizer", "tokenizer")],
)
def test_cells_of_another_text_fail(traced, what, name):
    edit(traced / "b", **{name: "another"})
    assert f"2 different values of {what}" in failures(traced)


def test_a_record_that_stops_short_of_its_last_step_is_found(traced):
    put(traced, record("b", 77, 3.7, step=149))
    assert "called complete before its last step" in failures(traced)


def test_an_installed_copy_is_known_by_its_files_and_no_version_is_none_of_them(traced):
    edit(traced, git_sha=None, code_sha256="f" * 64)
    assert detail(traced, "one code version") == f"{'f' * 60}…"
    edit(traced / "b", code_sha256="e" * 64)
    assert "2 different values of code version" in verify(traced).to_markdown()
    edit(traced, code_sha256=None, tokenizer=None, device=None, packages={})
    said = verify(traced).to_markdown()
    assert "None" not in said
    for what in ("code version", "tokenizer", "device", "set of package versions"):
        assert f"- note: no {what} is known" in said


def test_code_that_a_cell_keeps_and_did_not_run_is_found(traced):
    file = next((traced / "b").rglob("record.json"))
    (kept := file.parent / "sources").mkdir()
    (kept / "mine.py").write_text("import mine_too\n")
    (kept / "mine_too.py").write_text("x = 1\n")
    content = json.loads(file.read_text())
    ran = hashlib.sha256(b"import mine_too\nx = 1\n").hexdigest()[:16]
    content["provenance"]["sources"] = {"mine.Idea": ran, "installed.Thing": "0" * 16}
    file.write_text(json.dumps(content))
    before = set(failures(traced))  # its arm has two versions now
    (kept / "mine_too.py").write_text("x = 2\n")
    what = "the code of mine.Idea in sources "
    assert set(failures(traced)) - before == {what + "is not what was run (sha256)"}
    (kept / "mine_too.py").write_text("x =\n")
    wrong = what + "cannot be read: line 1: invalid syntax"
    assert set(failures(traced)) - before == {wrong}


def test_code_that_a_cell_kept_and_that_was_deleted_is_found(traced):
    edit(traced, sources={"mine.Idea": "0" * 16, "installed.Thing": "0" * 16})
    before = set(failures(traced))  # no module is known to have been kept
    edit(traced, kept_sources=["mine", "mine_too"])
    gone = {"the code of mine, mine_too is missing in sources"}
    assert set(failures(traced)) - before == gone


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(AnalysisError, match=r"no record\.json"):
        verify(tmp_path)


def test_a_figure_that_is_missing_on_one_side_is_not_the_same() -> None:
    assert same(None, None)
    assert same(0.1 + 0.2, 0.3)
    assert not same(None, 0.3)
    assert not same(0.3, None)
