"""Mirrors made later from local files, by the real clients, read back from what they wrote."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from harness import sync
from harness.records import Status, read_record, write_record
from harness.records.files import flocked
from harness.tracking import receipts as sent
from harness.tracking.base import Target
from harness.tracking.cell_run import cell_identity
from harness.tracking.receipts import SENT_FILE

WANDB = Target(backend="wandb", project="p")
TRACKIO = Target(backend="trackio", project="p")


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "NETRC", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))


def offline_runs(folder: Path) -> list[Path]:
    return sorted(folder.glob("**/wandb/offline-run-*/*.wandb"))


def inspect(file: Path, *flags: str) -> str:
    done = subprocess.run(
        [Path(sys.executable).parent / "wandb", "leet", "inspect", "--json", *flags, file],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


@pytest.mark.slow
def test_wandb_gets_each_cell_and_the_report_exactly_once(study, offline):
    first = sync.sync(study, WANDB)
    assert (first.sent, first.already, first.report) == (2, 0, True)
    written = offline_runs(study)
    assert len(written) == 3
    second = sync.sync(study, WANDB)
    assert (second.sent, second.already, second.report) == (0, 2, False)
    assert offline_runs(study) == written


@pytest.mark.slow
def test_what_the_real_wandb_client_wrote_is_what_the_files_say(study, offline):
    sync.sync(study, WANDB)
    (folder,) = [p.parent for p in study.glob("qkv_bias/*/record.json")]
    record = read_record(folder)
    (file,) = offline_runs(folder)
    assert record.cell in file.name
    summary = json.dumps(json.loads(inspect(file, "--summary")))
    assert str(record.losses.test)[:10] in summary
    text = inspect(file)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert text.count("train_loss") >= len(rows)
    for row in rows:
        assert str(row["train_loss"])[:8] in text
    for word in ("qkv_bias", "adhoc", "n_embd", "tokens", "samples"):
        assert word in text
    file = next(f for f in offline_runs(study) if f.parents[2] == study)
    for word in ("verdicts", "report.html", "cells"):
        assert word in inspect(file)
    tables = {t.name: t.read_text() for t in file.parent.glob("files/media/table/*.json")}
    assert any("undecided" in text for text in tables.values())
    assert any(record.cell in text for text in tables.values())


@pytest.mark.slow
def test_trackio_gets_each_cell_exactly_once_and_a_broken_attempt_is_made_again(
    study, offline, tmp_path
):
    code = (
        "import sys; from pathlib import Path; from harness.sync import sync; "
        "from harness.tracking.base import Target; "
        "print(sync(Path(sys.argv[1]), Target(backend='trackio', project='p')).sentence())"
    )

    def again() -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, str(study)], capture_output=True, text=True,
            env={**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio")}, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rows() -> list[tuple[str, int]]:
        with closing(sqlite3.connect(tmp_path / "trackio" / "p.db")) as database:
            found = database.execute("select run_name, count(*) from metrics group by run_name")
            return sorted(found.fetchall())

    assert "2 cells sent" in again()
    before = rows()
    assert len(before) == 3
    assert "0 cells sent, 2 were there already" in again()
    assert rows() == before
    (file,) = study.glob(f"qkv_bias/*/{SENT_FILE}")
    file.write_text(file.read_text().replace('"done"', '"sending"'))  # as if killed half-way
    assert "1 cells sent, 1 were there already" in again()
    assert rows() == before


@pytest.mark.slow
def test_trackio_keeps_an_edited_arm_apart_and_has_a_cell_once(offline, tmp_path):
    code = (
        "from pathlib import Path\n"
        "from harness.tracking.base import Ending, Identity, Target\n"
        "from harness.tracking.trackio_run import TrackioMirror\n"
        "def send(cell, loss, go_on=False):\n"
        "    me = Identity(group='p', job_type='a', name='a seed 0', id='p-' + cell, tags=[],\n"
        "                  config={}, folder=Path('runs/p/a') / cell, content=cell)\n"
        "    run = TrackioMirror(Target(backend='trackio', project='p'), me, go_on=go_on)\n"
        "    run.log({'step': 1 + go_on, 'loss': loss})\n"
        "    run.finish(Ending(summary={}))\n"
        "for cell, loss in (('one', 1.0), ('two', 2.0), ('one', 3.0)): send(cell, loss)\n"
        "send('two', 4.0, go_on=True)\n"
    )
    env = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio")}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, cwd=tmp_path)
    with closing(sqlite3.connect(tmp_path / "trackio" / "p.db")) as database:
        found = database.execute("select run_name, metrics from metrics order by id").fetchall()
    rows = [(name, json.loads(text)) for name, text in found]
    losses = [(name, row["loss"]) for name, row in rows if "loss" in row]
    assert sorted(losses) == [("a seed 0", 3.0), ("a seed 0 (two)", 2.0), ("a seed 0 (two)", 4.0)]


class Recorder:
    """A mirror that writes down what it is given."""

    url = None

    def __init__(self, target, identity, *, go_on=False):
        self.identity, self.rows = identity, []
        Recorder.opened.append(self)

    def log(self, metrics):
        self.rows.append(metrics)
        if Recorder.dies_after is not None and len(self.rows) > Recorder.dies_after:
            raise ConnectionError("gone")

    def finish(self, ending):
        self.ending = ending


@pytest.fixture
def recorder(monkeypatch):
    Recorder.opened, Recorder.dies_after = [], None
    monkeypatch.setattr(sent, "open_mirror", Recorder)
    return Recorder


def test_an_attempt_that_breaks_off_is_made_again_from_the_start(study, recorder):
    recorder.dies_after = 2
    with pytest.raises(sync.SyncError, match=r"ConnectionError: gone.*same command"):
        sync.sync(study, WANDB)
    recorder.dies_after = None
    recorder.opened.clear()
    assert sync.sync(study, WANDB).sent == 2
    (folder, *_) = [p.parent for p in study.glob("*/*/metrics.jsonl")]
    n = len((folder / "metrics.jsonl").read_text().splitlines())
    assert [len(run.rows) for run in recorder.opened] == [n, n, 0]


def test_what_broke_off_is_made_again_under_a_new_id_and_the_old_one_is_deleted(
    study, recorder, monkeypatch
):
    forgotten = []
    monkeypatch.setattr(sent, "forget", lambda target, identity: forgotten.append(identity.id))
    recorder.dies_after = 2
    for _ in range(2):
        with pytest.raises(sync.SyncError):
            sync.sync(study, WANDB)
    recorder.dies_after = None
    sync.sync(study, WANDB)
    first, second, third, *_ = [run.identity.id for run in recorder.opened]
    assert (second, third) == (f"{first}-2", f"{first}-3")
    assert forgotten == [first, second]


def test_a_cell_trained_anew_is_sent_anew(study, recorder):
    sync.sync(study, WANDB)
    (folder,) = [p.parent for p in study.glob("baseline/*/record.json")]
    record = read_record(folder)
    record.started = "2030-01-01T00:00:00+00:00"
    write_record(folder, record)
    assert sync.sync(study, WANDB).sent == 1


def test_each_place_has_its_own_account_of_what_it_got(study, recorder):
    assert sync.sync(study, WANDB).sent == 2
    assert sync.sync(study, Target(backend="wandb", project="other")).sent == 2
    assert sync.sync(study, WANDB).sent == 0


def test_unfinished_cells_wait(study, recorder):
    (folder,) = [p.parent for p in study.glob("baseline/*/record.json")]
    record = read_record(folder)
    record.status = Status.RUNNING
    write_record(folder, record)
    result = sync.sync(study, WANDB)
    assert (result.sent, result.unfinished) == (1, 1)
    assert "1 are not finished" in result.sentence()


def test_a_new_report_is_sent_again_and_an_old_one_is_not(study, recorder):
    assert sync.sync(study, WANDB).report
    assert not sync.sync(study, WANDB).report
    (study / "report.html").write_text("<!doctype html>a newer report")
    assert sync.sync(study, WANDB).report


def test_the_report_s_run_carries_verdicts_cells_and_files(study, recorder):
    sync.sync(study, WANDB)
    run = recorder.opened[-1]
    assert (run.identity.job_type, run.identity.id) == ("study", "adhoc-report")
    assert set(run.ending.tables) == {"verdicts", "cells"}
    assert [file.name for file in run.ending.files] == [
        "report.html",
        "results.json",
        "plan.json",
    ][: len(run.ending.files)]
    assert run.ending.summary["cells/complete"] == 2


def test_a_second_sync_at_the_same_time_is_refused(study, capsys):
    with flocked(study / sync.LOCK_FILE):
        assert sync.main([str(study)]) == 2
    assert "another sync" in capsys.readouterr().err


def test_refusals_are_one_line(tmp_path, capsys):
    assert sync.main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no record.json")
    assert error.count("\n") == 1


def test_a_backend_that_is_not_installed_is_named(study, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "trackio", None)
    assert sync.main([str(study), "--backend", "trackio"]) == 2
    assert "pip install 'llm-interventions[trackio]'" in capsys.readouterr().err


def test_a_workspace_needs_an_account(study, recorder, offline, capsys):
    assert sync.main([str(study), "--workspace"]) == 2
    assert "--online" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:Pydantic V1 style")
def test_the_workspace_has_the_band_and_curves_by_arm():
    pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed")
    from harness.tracking.wandb_run import workspace

    made = workspace(Target(backend="wandb", project="p", entity="me", online=True))
    assert [section.name for section in made.sections] == [
        "Noise band", "Curves by arm", "Cost", "Report",
    ]  # fmt: skip
    assert made.sections[1].panels[0].x == "tokens"


def test_identities_do_not_depend_on_where_a_cell_is_mirrored_to(study):
    (folder,) = [p.parent for p in study.glob("qkv_bias/*/record.json")]
    record = read_record(folder)
    one, other = (cell_identity(t, {}, record, folder) for t in (WANDB, TRACKIO))
    assert one == other
    assert one.id == f"adhoc-{record.cell}"
