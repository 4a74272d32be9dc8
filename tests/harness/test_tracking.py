import json
import re
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

import harness.tracking.receipts
from harness import sync
from harness.cell import train as cell
from harness.cell.console import StudyFailed
from harness.cell.freeze import freeze
from harness.records import Status, read_record
from harness.study.plan import PlannedCell
from harness.study.runner import require_results
from harness.tracking import live as tracking
from harness.tracking.base import Target
from harness.tracking.cell_run import cell_identity
from harness.tracking.receipts import was_sent
from tests.configs import load


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the real client away from the account and the folders of whoever runs the tests."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "NETRC", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))


def inspect(folder: Path, *flags: str) -> list[dict]:
    """Read back what the real client wrote."""
    (written,) = folder.glob("wandb/offline-run-*/*.wandb")
    done = subprocess.run(
        [Path(sys.executable).parent / "wandb", "leet", "inspect", "--json", *flags, written],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


@pytest.mark.slow
def test_the_real_client_mirrors_a_cell_offline(tiny, offline) -> None:
    folder = freeze(load([*tiny, "+intervention=qkv_bias", "tracking=wandb", "tracking.tags=[x]"]))
    record = cell.run(folder)
    assert record.status is Status.COMPLETE
    text = inspect(folder)
    for words in ("qkv_bias", "adhoc", "train_loss", "n_embd", record.cell):
        assert words in text
    summary = json.loads(inspect(folder, "--summary"))
    numbers = [float(number) for number in re.findall(r"\d+\.\d+", json.dumps(summary))]
    assert pytest.approx(record.losses.test, abs=1e-6) in numbers


def test_a_dead_tracker_does_not_stop_training(tiny, offline, monkeypatch, capsys) -> None:
    import wandb

    def dead(**_: object) -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setattr(wandb, "init", dead)
    record = cell.run(freeze(load([*tiny, "tracking=wandb"])))
    assert record.status is Status.COMPLETE
    assert "warning: tracker stopped (ConnectionError: nobody there)" in capsys.readouterr().err


def test_a_hanging_tracker_does_not_slow_training_and_is_left_behind(
    tiny, offline, monkeypatch, capsys
) -> None:
    import wandb

    answered = threading.Event()
    monkeypatch.setattr(wandb, "init", lambda **_: answered.wait(600))
    monkeypatch.setattr(tracking, "FINISH_SECONDS", 0.2)
    record = cell.run(freeze(load([*tiny, "tracking=wandb"])))
    assert record.status is Status.COMPLETE
    assert not answered.is_set()
    answered.set()
    assert "did not finish" in capsys.readouterr().err


def test_online_without_a_login_stays_offline_and_says_so(
    tiny, offline, monkeypatch, capsys
) -> None:
    import wandb

    seen = {}
    monkeypatch.setattr(wandb, "init", lambda **arguments: seen.update(arguments))
    cell.run(freeze(load([*tiny, "tracking=wandb", "tracking.mode=online"])))
    assert seen["mode"] == "offline"
    assert "nobody is logged in" in capsys.readouterr().err


def test_no_key_is_ever_written_to_a_cell(tiny, monkeypatch, tmp_path) -> None:
    key = "0123456789abcdef" * 2 + "01234567"  # never whole in this file, which a patch may hold
    monkeypatch.setenv("WANDB_API_KEY", key)
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "NETRC", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    folder = freeze(load([*tiny, "tracking=wandb"]))
    cell.run(folder)
    assert not [p for p in folder.rglob("*") if p.is_file() and key.encode() in p.read_bytes()]


@pytest.mark.parametrize(
    ("given", "project"),
    [
        (["tracking=trackio"], "mine"),
        (["tracking=wandb"], "llm-interventions"),
        (["tracking=trackio", "tracking.project=ours"], "ours"),
    ],
)
def test_trackio_has_a_project_a_study_and_wandb_one_for_all(tiny, given, project) -> None:
    target = tracking.target_of(load([*tiny, "study_name=mine", *given]))
    assert target.project == project
    named = f"--project {project}" in tracking._flags(target, "mine")
    assert named == (project == "ours")


def test_a_sweep_with_trackio_ends_with_the_command_that_shows_it(tiny, capsys) -> None:
    cells = [PlannedCell(load([*tiny, "study_name=mine", "tracking=trackio"]))]
    with pytest.raises(StudyFailed):
        require_results(cells)
    assert "look with: trackio show --project mine\n" in capsys.readouterr().err


def test_a_sweep_over_two_studies_ends_with_both_folders(tiny, capsys) -> None:
    cells = [PlannedCell(load([*tiny, f"study_name={name}"])) for name in ("one", "two")]
    with pytest.raises(StudyFailed):
        require_results(cells)
    assert "/runs/one\n" in (said := capsys.readouterr().err)
    assert "/runs/two\n" in said


def test_a_sweep_ends_with_the_cells_that_did_not_get_to_the_tracker(
    tiny, offline, monkeypatch, capsys
) -> None:
    def dead(*_: object, **__: object) -> None:
        raise ConnectionError("nobody there")

    cells = [PlannedCell(load([*tiny, "tracking=wandb", f"seed={seed}"])) for seed in (0, 1)]
    cell.run(freeze(cells[0].config))
    with monkeypatch.context() as patch:
        patch.setattr(harness.tracking.receipts, "open_mirror", dead)
        cell.run(freeze(cells[1].config))
    require_results(cells)
    log_file, study = cells[1].log_file, cells[1].study
    assert (
        f"warning: 1 of 2 cells are not in wandb (see {log_file}): "
        f"python -m harness.sync {study} sends them\n"
    ) in capsys.readouterr().err
    (cells[0].folder / "mirrors.json").write_text("{")
    require_results(cells)
    assert "warning: 2 of 2 cells are not in wandb" in capsys.readouterr().err
    (cells[0].folder / "mirrors.json").unlink()
    sync.sync(study.folder, Target(backend="wandb", project="llm-interventions"))
    require_results(cells)
    assert "are not in wandb" not in capsys.readouterr().err
    require_results([PlannedCell(replace(c.config, tracking=load(tiny).tracking)) for c in cells])
    assert "are not in" not in capsys.readouterr().err


@pytest.mark.proof
def test_trackio_mirrors_a_cell_while_it_trains(tiny, offline, command, tmp_path) -> None:
    done = command(
        "harness", *tiny, "+intervention=qkv_bias", "tracking=trackio", "study_name=p",
        TRACKIO_DIR=str(tmp_path / "trackio"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert "Trackio" not in done.stdout, "its greetings are kept off the output"
    (folder,) = [p.parent for p in tmp_path.glob("runs/*/qkv_bias/*/record.json")]
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["train_loss"] for line in lines]
    with closing(sqlite3.connect(tmp_path / "trackio" / "p.db")) as database:
        found = [json.loads(row[0]) for row in database.execute("select metrics from metrics")]
    assert [row["train_loss"] for row in found if "train_loss" in row] == losses
    record = read_record(folder)
    assert any(row.get("final/test_loss") == record.losses.test for row in found)
    target = Target(backend="trackio", project="p")
    assert was_sent(target, cell_identity(target, {}, record, folder))


def test_a_cell_mirrored_live_is_not_sent_again(tiny, monkeypatch, tmp_path) -> None:
    sent, ended = [], []

    class Silent:
        url = None

        def __init__(self, target, identity, *, go_on=False):
            sent.append(identity.id)

        def log(self, metrics):
            pass

        def finish(self, ending):
            ended.append(ending.summary.get("status"))

    monkeypatch.setattr(harness.tracking.receipts, "open_mirror", Silent)
    folder = freeze(load([*tiny, "tracking=wandb"]))
    cell.run(folder)
    target = Target(backend="wandb", project="llm-interventions")
    assert sync.sync(folder.parents[1], target).already == 1
    assert sent == [f"adhoc-{folder.name}", "adhoc-report"]
    assert ended == ["complete", None]


def test_a_cell_whose_tracker_died_is_sent_later(tiny, monkeypatch) -> None:
    def dead(*_: object, **__: object) -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setattr(harness.tracking.receipts, "open_mirror", dead)
    folder = freeze(load([*tiny, "tracking=wandb"]))
    record = cell.run(folder)
    target = Target(backend="wandb", project="llm-interventions")
    assert not was_sent(target, cell_identity(target, {}, record, folder))
