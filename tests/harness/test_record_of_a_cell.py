"""A cell known by its folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.records import RecordError, RunRecord, Seeds, Status, write_record
from harness.records.cell import Cell, describe, seed_text


def record(status: Status) -> RunRecord:
    seeds = Seeds(init=1, data=1, loop=1)
    return RunRecord(
        study="s", arm="a", interventions=[], cell="c", seeds=seeds, n_steps=10, status=status
    )


def test_a_cell_knows_its_study_its_arm_and_its_files(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "runs" / "study" / "arm" / "0123"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder.parent)
    for cell in (Cell(folder), Cell(Path("0123"))):  # as one types it
        assert (cell.study.folder, cell.arm, cell.id) == (
            tmp_path / "runs" / "study",
            "arm",
            "0123",
        )
        assert cell.record_file == folder / "record.json"
        assert cell.config_file == folder / "config.yaml"
        assert cell.metrics_file == folder / "metrics.jsonl"
        assert cell.log_file == folder / "log.txt"
    assert Cell(folder) == Cell(Path("0123"))


@pytest.mark.parametrize("status", Status)
def test_only_a_complete_or_diverged_cell_has_a_result(tmp_path, status: Status) -> None:
    assert Cell(tmp_path).record() is Cell(tmp_path).result() is None
    write_record(tmp_path, record(status))
    assert Cell(tmp_path).record().status is status
    assert (Cell(tmp_path).result() is not None) == (status in ("complete", "diverged"))


def test_a_record_that_cannot_be_read_is_no_missing_one(tmp_path) -> None:
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(RecordError, match=r"record\.json"):
        Cell(tmp_path).record()


def test_a_line_says_how_a_cell_ended(tmp_path) -> None:
    done = record(Status.COMPLETE)
    done.losses.test, done.tokens = 1.23456, 2560
    assert describe(done, tmp_path) == (
        f"complete: a (seed 1, cell c): test loss 1.2346 after 2,560 tokens; {tmp_path}"
    )
    stopped = record(Status.STOPPED)
    stopped.step = 3
    assert describe(stopped, tmp_path) == (f"stopped: a (seed 1, cell c): step 3 of 10; {tmp_path}")


def test_a_stopped_cell_is_read_under_its_former_name(tmp_path) -> None:
    write_record(tmp_path, record(Status.STOPPED))
    file = Cell(tmp_path).record_file
    file.write_text(file.read_text().replace('"stopped"', '"preempted"'))
    assert Cell(tmp_path).record().status is Status.STOPPED


def test_a_cell_is_known_without_torch() -> None:
    code = "import sys, harness.records.cell; print([m for m in ('torch', 'hydra') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_seeds_are_one_number_where_they_are_equal() -> None:
    assert [seed_text(seeds) for seeds in ([7], [7, 7, 7], [7, 7, 8])] == ["7", "7", "7/7/8"]


def test_a_record_that_says_nothing_of_its_progress_has_made_none() -> None:
    new = record(Status.RUNNING)
    counts = (new.step, new.tokens, new.n_tokens, new.n_params, new.skipped_steps)
    assert {*counts, new.cost.train_seconds} == {0}
    assert (new.provenance.n_devices, new.provenance.compile, new.tuning) == (1, False, False)
