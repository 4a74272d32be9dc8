"""What the report says of a study, complete or not."""

import re
import shutil

import pytest
from full_study import ARMS, EVIL, cell_name, end_as, evidence_of, full_study
from studies import on_disk, study

from analysis.comparison.rules import Rules
from analysis.report.cells import current, samples, tail
from analysis.report.evidence import gather, headline
from analysis.report.page import render
from analysis.report.sections import sections
from analysis.runs.frame import Runs
from analysis.runs.tables import read_runs
from harness.records import BASELINE, Status, read_record, write_record


def said(evidence, name: str) -> str:
    return " ".join(next(part.items for part in sections(evidence) if part.name == name))


def ledger_of(evidence):
    return next(part.tables[0] for part in sections(evidence) if part.name == "ledger")


def test_every_section_is_there_or_says_why_not(evidence):
    parts = {part.name: part for part in sections(evidence)}
    assert list(parts) == [
        "effects", "trust", "verdicts", "noise_band", "curves", "figures", "samples", "speed",
        "noise", "stacks", "plan", "cost", "ledger",
    ]  # fmt: skip
    assert not any(part.missing for part in parts.values())
    assert parts["stacks"].tables[0].rows[0][0].text == "good+plain"


def test_the_page_opens_with_what_was_trained_on_what_and_by_which_command(tmp_path):
    folder = full_study(tmp_path / "opening", {"baseline": 0.0, "good": -0.1}, 2)
    (cell, _) = sorted((folder / "baseline").iterdir())
    record = read_record(cell)
    record.provenance.command = ["/usr/bin/python", "-m", "harness", "seed=0,1"]
    record.n_tokens = 307_200
    write_record(cell, record)
    (cell / "config.yaml").write_text("scale_name: demo\ndata: {name: text, path: my_books}\n")
    (later, _) = sorted((folder / "good").iterdir())
    record = read_record(later)
    record.started = "2099-01-01T00:00:00+00:00"
    record.provenance.command = ["/usr/bin/python", "-m", "harness", "+intervention=good"]
    write_record(later, record)
    html = render(evidence_of(folder))
    start = html[html.index("<main>") : html.index('class="card"')]
    assert start.index("python -m harness seed=0,1") < start.index("harness +intervention=good")
    for words in ("1,000,000 parameters (scale=demo) on 307,200 tokens of text my_books",
                  "python -m harness seed=0,1", "try good", "optim.good: 0.1 → 0.2"):  # fmt: skip
        assert words in start


def test_an_arm_s_name_keeps_its_small_letter_at_the_head_of_a_sentence():
    frame = study({"a": 0.0, "two_groups": -0.01}, n=4)
    frame.loc[frame["arm"] == "two_groups", "test_loss"] = (
        frame.loc[frame["arm"] == BASELINE, "test_loss"].to_numpy() - 0.01
    )
    page = gather(Runs(frame.assign(status="complete")), Rules())
    trust = next(part for part in sections(page) if part.name == "trust")
    assert any(
        item.startswith("two_groups: the same difference from the baseline") for item in trust.items
    )


@pytest.mark.parametrize("n", [1, 3])
def test_a_report_of_a_table_names_no_command_that_trains_and_one_of_a_study_does(tmp_path, n):
    frame, table = study({"a": -0.1}, n=n), tmp_path / "runs.csv"
    frame.to_csv(table, index=False)
    pages = {}
    for source in (table, on_disk(tmp_path / "runs", frame)):
        evidence = gather(read_runs([str(source)]), Rules())
        pages[source.name] = " ".join(
            text for part in sections(evidence) for text in (part.text, part.missing, *part.items)
        )
    assert "baseline, a: a stack is an arm called by its parts" in pages["runs.csv"]
    assert "python -m harness" not in pages["runs.csv"]
    assert "baseline, a: run one, e.g. python -m harness '+intervention=[a,b]'" in pages["runs"]
    for page in pages.values():
        assert ("No noise band: " in page) == (n == 1)


def test_sections_without_content_are_absent_from_page_and_contents(tmp_path):
    frame = study({"a": -0.1}, n=5, sd=0.001).assign(run_id=[f"elsewhere {i}" for i in range(10)])
    frame.to_csv(tmp_path / "runs.csv", index=False)
    html = render(gather(read_runs([str(tmp_path / "runs.csv")]), Rules(practical_size=0.01)))
    names = re.findall(r'<section id="(\w+)"', html)
    assert names == [
        "overview", "effects", "trust", "verdicts", "noise_band", "noise", "ledger", "unknown",
    ]  # fmt: skip
    contents = html.split("<nav", 1)[1].split("</nav>", 1)[0]
    assert re.findall(r'<a href="#(\w+)">', contents) == names[1:]
    assert "Every run" in html
    assert html.count("elsewhere") >= len(frame)


def test_the_page_has_one_sd_of_a_run_and_one_correlation(tmp_path):
    frame = study({"a": -0.01, "b": 0.0}, n=3, n_baseline=8)
    evidence = gather(Runs(frame.assign(status="complete")), Rules())
    html = render(evidence)
    visible = html[: html.index("<script")]
    assert f"± {evidence.comparison.sd:.5f}" in visible
    assert "<td>total" not in visible
    assert ">total<" not in visible
    assert {str(evidence.comparison.estimate.correlation)} == set(
        re.findall(r"\d\.\d\d \(from \d+ pairs\)", visible)
    )


def test_what_is_not_known_is_said(evidence):
    assert "cannot be told apart" in said(evidence, "trust")


def test_a_study_without_stacks_or_noise_says_so(tmp_path):
    folder = full_study(tmp_path / "small", {"baseline": 0.0, "only": 0.1}, 1)
    evidence = evidence_of(folder)
    assert "stacks" in evidence.reasons
    html = render(evidence)
    assert not any(f'id="{name}"' in html for name in ("effects", "stacks"))
    assert "No noise band" in html
    assert "only the break-even sd can be given" in html


def test_stacks_whose_parts_did_not_run_have_words_and_no_empty_table(tmp_path):
    folder = full_study(tmp_path / "parts", {"baseline": 0.0, "a": 0.1, "a+b": 0.1}, 3)
    evidence = evidence_of(folder)
    stacks = next(part for part in sections(evidence) if part.name == "stacks")
    assert "these still have to run alone: b" in stacks.text
    assert all(table.rows for table in stacks.tables)


def test_cells_of_earlier_code_stand_in_the_ledger_and_in_no_curve_or_sample(tmp_path):
    folder = full_study(tmp_path / "edited", {"baseline": 0.0, "mine": 0.1}, 2)
    before = evidence_of(folder)
    for old in sorted((folder / "mine").iterdir()):
        new = shutil.copytree(old, old.with_name(f"{old.name}2"))
        record = read_record(new)
        record.cell, record.started = new.name, "9999"
        record.provenance.sources = {"mine.f": "1" * 16}
        write_record(new, record)
    (folder / "plan.json").unlink()
    evidence = evidence_of(folder)
    assert evidence.ledger.counts == {"complete": 4, "superseded": 2}
    ledger = ledger_of(evidence)
    assert [row[4].text for row in ledger.rows].count("superseded") == 2
    assert evidence.curves.by_metric == before.curves.by_metric
    assert len(samples(current(evidence.cells))[0]) == len(samples(before.cells)[0]) > 0


@pytest.mark.thorough
def test_planned_cells_that_did_not_start_stand_in_the_ledger(tmp_path):
    folder = full_study(tmp_path / "gap", ARMS, 3)
    shutil.rmtree(folder / "good" / cell_name("good", 2))
    evidence = evidence_of(folder)
    ledger = ledger_of(evidence)
    assert [row[4].text for row in ledger.rows].count("not started") == 1
    assert "planned cells have not started" in said(evidence, "trust")


@pytest.mark.thorough
def test_diverged_failed_and_stopped_cells_are_shown_for_what_they_are(tmp_path):
    folder = full_study(tmp_path / "mixed", ARMS, 3)
    for seed in range(3):
        end_as(folder, "plain", seed, Status.DIVERGED, None, EVIL)
    end_as(folder, "good", 1, Status.FAILED)
    end_as(folder, "good", 2, Status.STOPPED)
    evidence = evidence_of(folder)
    html = render(evidence)
    assert "no complete run (3 diverged)" in html
    assert "1 run(s) failed and are not counted" in html
    ledger = ledger_of(evidence)
    statuses = [row[4].text for row in ledger.rows]
    assert {"complete", "diverged", "failed", "stopped"} == set(statuses)
    assert EVIL not in html
    assert "; 1 arm without a complete run." in headline(evidence)


def test_a_baseline_whose_arms_all_failed_is_not_called_lonely():
    frame = study({"a": 0.0}, n=3)
    frame.loc[frame["arm"] == "a", "status"] = "diverged"
    found = headline(gather(Runs(frame.fillna({"status": "complete"})), Rules()))
    assert found == (
        "The baseline alone beside 1 arm without a complete run: nothing to compare it with yet."
    )


def test_dashes_and_the_baseline_s_own_row_are_explained(evidence):
    notes = {table.name: " ".join(table.notes) for part in sections(evidence)
             for table in part.tables}  # fmt: skip
    assert "fewer than 4 shared seeds" in notes["pairing"]
    assert "compares its own runs" in notes["evaluation"]


@pytest.mark.thorough
def test_an_order_that_is_not_shuffled_is_no_source_of_noise(tmp_path):
    folder = full_study(tmp_path / "fixed", ARMS, 3)
    told = said(evidence_of(folder), "trust")
    assert "the noise of initialisation, data order and training loop cannot" in told
    for file in folder.rglob("record.json"):
        record = read_record(file)
        record.fingerprints.data_shuffled = False
        write_record(file.parent, record)
    told = said(evidence_of(folder), "trust")
    assert "the noise of initialisation and training loop cannot" in told


def test_the_tail_of_a_log_is_its_last_lines(tmp_path):
    file = tmp_path / "log.txt"
    file.write_text("\n".join(f"line {i}" for i in range(10_000)))
    assert tail(file, 3) == "line 9997\nline 9998\nline 9999"
