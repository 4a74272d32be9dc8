"""A process of this machine that dies gives its cell up at once, one that hangs after a while."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cell.lock import LOCK_FILE, CellBusy, LockLost, living_owner, locked
from harness.records import files
from harness.records.files import flocked
from tests.harness.studies import wait_until

HOLD = """
import sys, time
from pathlib import Path
from harness.cell.lock import LockLost, locked

with locked(Path(sys.argv[1])) as lock:
    print("held", flush=True)
    sys.stdin.readline()
    try:
        lock.check()
    except LockLost:
        print("lost", flush=True)
"""


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """Yield a process that holds the lock of `tmp_path` until it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_killed_process_gives_its_cell_up_at_once_even_as_a_zombie(owner, tmp_path) -> None:
    assert living_owner(tmp_path).endswith(f":{owner.pid}")
    with pytest.raises(CellBusy), locked(tmp_path):
        pass
    os.kill(owner.pid, signal.SIGKILL)
    os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet buried
    assert living_owner(tmp_path) is None
    with locked(tmp_path):
        assert living_owner(tmp_path).endswith(f":{os.getpid()}")


def test_a_process_that_hangs_loses_its_cell_after_a_while_and_notices(owner, tmp_path) -> None:
    os.kill(owner.pid, signal.SIGSTOP)
    assert living_owner(tmp_path).endswith(f":{owner.pid}")
    os.utime(tmp_path / LOCK_FILE, (0, 0))  # a long time passes
    with locked(tmp_path):
        os.kill(owner.pid, signal.SIGCONT)
        assert owner.communicate("\n", timeout=600)[0] == "lost\n"
        assert living_owner(tmp_path).endswith(f":{os.getpid()}")
    assert living_owner(tmp_path) is None


def test_those_who_look_at_once_see_no_owner_in_each_other(tmp_path) -> None:
    with locked(tmp_path):
        content = (tmp_path / LOCK_FILE).read_text()
    (tmp_path / LOCK_FILE).write_text(content)  # as a dead owner leaves it
    with flocked(tmp_path / LOCK_FILE, shared=True):
        assert living_owner(tmp_path) is None


def test_of_many_who_want_a_cell_at_once_one_gets_it(tmp_path) -> None:
    (tmp_path / LOCK_FILE).write_text("{}")
    os.utime(tmp_path / LOCK_FILE, (0, 0))
    start, got = threading.Barrier(8), []

    def want() -> None:
        start.wait()
        try:
            with locked(tmp_path) as lock:
                got.append(lock)
                wait_until(lambda: len(got) == 8)  # all others have been sent away
                lock.check()
        except (CellBusy, LockLost) as error:
            got.append(error)

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(item).__name__ for item in got) == ["CellBusy"] * 7 + ["Lock"]
    assert [path.name for path in tmp_path.iterdir()] == [".lock.guard"]


def test_an_exclusive_flock_is_held_once_and_freed_at_the_end(tmp_path) -> None:
    file = tmp_path / "lock"
    with flocked(file), pytest.raises(BlockingIOError), flocked(file, busy=BlockingIOError()):
        pass
    with flocked(file, busy=BlockingIOError()):
        pass
    with pytest.raises(FileNotFoundError), flocked(tmp_path / "none", shared=True):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_warned_of_once_and_a_living_owner_stays(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    files._warn_of_no_locks.cache_clear()
    with locked(tmp_path), pytest.raises(CellBusy), locked(tmp_path):
        pass
    files.append_json_lines(tmp_path / "rows.jsonl", [{"a": 1}])
    assert capsys.readouterr().err == (
        "warning: this file system has no file locks (flock): never start two processes on one "
        "study at the same moment\n"
    )
    assert living_owner(tmp_path) is None
    assert (tmp_path / "rows.jsonl").read_text() == '{"a": 1}\n'


def test_a_lock_that_fails_for_another_reason_is_an_error(tmp_path, monkeypatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output error"), flocked(tmp_path / "lock"):
        pass
