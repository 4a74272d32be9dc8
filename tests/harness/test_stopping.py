"""Signals, kills and closed terminals: nothing is lost, nobody is left behind."""

import contextlib
import os
import signal
import sys
import time

import pytest

from harness.cell.lock import living_owner
from harness.records import Status, read_record
from tests.harness.studies import STUDY, descendants, results, shell, wait_until


@pytest.mark.slow
def test_killing_launcher_and_cells_loses_nothing(launch, tmp_path, tiny) -> None:
    arguments = [*tiny, *STUDY, "train.tokens=51200", "checkpoint.every_steps=10"]
    calm = launch(*arguments, f"runs_dir={tmp_path / 'calm'}")
    _, err = calm.communicate(timeout=300)
    assert calm.returncode == 0, err
    for delay in (3.0, 4.5, 6.0):
        killed = launch(*arguments)
        time.sleep(delay)
        for child in descendants(killed.pid):
            with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
                os.kill(child, signal.SIGKILL)
        killed.kill()
        killed.communicate()
    last = launch(*arguments)
    _, err = last.communicate(timeout=300)
    assert last.returncode == 0, err
    assert results(tmp_path / "runs") == results(tmp_path / "calm")


@pytest.mark.slow
def test_sigterm_to_the_launcher_saves_every_cell(launch, tmp_path, tiny) -> None:
    arguments = [
        *tiny,
        *STUDY,
        "train.tokens=2560000",
        "log.n_points=100",
        "checkpoint.every_steps=0",
    ]
    launcher = launch(*arguments)
    deadline = time.monotonic() + 600
    while len(list(tmp_path.rglob("metrics.jsonl"))) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    launcher.terminate()
    _, err = launcher.communicate(timeout=600)
    assert launcher.returncode == 130
    assert "run the same command again to go on" in err
    started = [read_record(path) for path in tmp_path.rglob("record.json")]
    assert started
    assert {record.status for record in started} == {Status.STOPPED}
    assert all(list(path.parent.glob("checkpoints/*.pt")) for path in tmp_path.rglob("record.json"))


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), STUDY])
def test_a_signal_to_the_whole_group_saves_every_cell_and_exits_130(
    launch, tmp_path, tiny, arguments
) -> None:
    launcher = launch(*tiny, *arguments, "train.tokens=2560000", "log.n_points=100",
                      "checkpoint.every_steps=0", "hardware.slots=1")  # fmt: skip
    wait_until(lambda: list(tmp_path.rglob("metrics.jsonl")))
    os.kill(launcher.pid, signal.SIGTERM)  # as `timeout` does it
    if arguments:
        os.killpg(launcher.pid, signal.SIGTERM)
    _, err = launcher.communicate(timeout=600)
    assert launcher.returncode == 130, err
    assert "run the same command again to go on" in err
    records = list(tmp_path.rglob("record.json"))
    assert {read_record(path).status for path in records} == {Status.STOPPED}
    assert all(list(path.parent.glob("checkpoints/*.pt")) for path in records), err


@pytest.mark.slow
def test_cells_save_their_state_and_end_when_their_launcher_is_killed(
    launch, tmp_path, tiny
) -> None:
    launcher = launch(
        *tiny, *STUDY, "train.tokens=2560000", "log.n_points=100", "checkpoint.every_steps=0"
    )
    wait_until(lambda: list(tmp_path.rglob("metrics.jsonl")))
    launcher.kill()
    launcher.communicate()
    begun = [path.parent for path in tmp_path.rglob("record.json")]
    wait_until(lambda: not any(living_owner(folder) for folder in begun))
    statuses = {read_record(folder).status for folder in begun}
    assert Status.STOPPED in statuses
    assert Status.COMPLETE not in statuses


@pytest.mark.slow
@pytest.mark.parametrize("where", ["2>&-", "2>&1 | head -1", "2>&1 >&- | head -1"])
def test_a_study_goes_on_when_nobody_listens(tmp_path, tiny, where: str) -> None:
    sweep = " ".join([sys.executable, "-m harness -m seed=0,1,2 hardware.slots=1", *tiny])
    done = shell(tmp_path, f"umask 002; {sweep} {where}")
    assert done.returncode == 0
    found = results(tmp_path / "runs").values()
    assert [status for status, *_ in found] == [Status.COMPLETE] * 3
    logs = list((tmp_path / "runs").rglob("log.txt"))
    assert {log.stat().st_mode & 0o777 for log in logs} == {0o664}


def test_help_into_a_closed_pipe_is_no_error(tmp_path) -> None:
    done = shell(tmp_path, f"{sys.executable} -m harness --help | head -1")
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
