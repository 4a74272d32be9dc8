"""One process a cell: who holds its lock, and when another takes it over."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from harness.cell.lock import LOCK_FILE, CellBusy, living_owner, locked
from tests.harness.studies import wait_until


def test_a_lock_is_held_by_one_process_and_released(tmp_path) -> None:
    with locked(tmp_path):
        assert living_owner(tmp_path) == f"{socket.gethostname()}:{os.getpid()}"
        with pytest.raises(CellBusy, match="is being run by"), locked(tmp_path):
            pass
    assert living_owner(tmp_path) is None
    assert not (tmp_path / LOCK_FILE).exists()


def test_the_lock_of_a_dead_process_is_taken_over_at_once(tmp_path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    content = {"host": socket.gethostname(), "pid": dead.pid, "token": "x"}
    (tmp_path / LOCK_FILE).write_text(json.dumps(content))
    with locked(tmp_path):
        assert living_owner(tmp_path) is not None


def test_a_silent_lock_of_another_machine_is_taken_over_and_its_owner_notices(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("harness.cell.lock.HEARTBEAT_SECONDS", 0.05)
    path = tmp_path / LOCK_FILE
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "x"}))
    assert living_owner(tmp_path) == "elsewhere:1"
    long_ago = time.time() - 1000
    os.utime(path, (long_ago, long_ago))
    assert living_owner(tmp_path) is None
    with locked(tmp_path) as lock:
        path.write_text(json.dumps({"host": "thief", "pid": 1, "token": "y"}))
        wait_until(lambda: lock.lost)
    assert path.exists()  # what is not ours is not removed


def test_a_lock_from_the_future_ages_from_when_it_is_seen(tmp_path, monkeypatch) -> None:
    path = tmp_path / LOCK_FILE
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "x"}))
    ahead = time.time() + 3600
    os.utime(path, (ahead, ahead))
    assert living_owner(tmp_path) == "elsewhere:1"
    monkeypatch.setattr("harness.cell.lock.STALE_SECONDS", 0.05)
    wait_until(lambda: living_owner(tmp_path) is None)


@pytest.mark.parametrize("content", ["5", '{"host": "a"}', "", "\udcff"])
def test_a_lock_that_cannot_be_read_counts_by_its_age(tmp_path, content: str) -> None:
    path = tmp_path / LOCK_FILE
    path.write_text(content, errors="surrogateescape")
    assert living_owner(tmp_path)
    os.utime(path, (0, 0))
    assert living_owner(tmp_path) is None
