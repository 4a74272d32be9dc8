"""Many cells at once: launchers side by side, crashes, budgets, and how it ends."""

import errno
import json
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.cell import train as cell
from harness.cell.console import StudyFailed
from harness.cell.freeze import freeze
from harness.cell.lock import LOCK_FILE
from harness.records import Status, write_record
from harness.records.cell import Cell
from harness.records.study import Study
from harness.study import process
from harness.study.display import Screen
from harness.study.outcome import over_budget, tidy, why, written_since
from harness.study.plan import PlannedCell
from harness.study.runner import _Runner, _Try, require_results, run_cells
from harness.study.states import cell_states
from tests.configs import load
from tests.harness.studies import STUDY, overlay, results, wait_until


def test_the_budget_is_held_against_what_the_records_cost(tiny, tmp_path) -> None:
    config = load([*tiny, "hardware.usd_per_hour=2"])
    folder = freeze(config)
    study = Cell(folder).study
    assert over_budget(config.budget, study) is None
    cell.run(folder)
    for limits, words in ((["budget.tokens=2560"], "budget.tokens=2560 is spent"),
                          (["budget.hours=1e-9"], "budget.hours"),
                          (["budget.usd=1e-9", "hardware.usd_per_hour=2"], "budget.usd")):  # fmt: skip
        assert words in over_budget(load([*tiny, *limits]).budget, study)
    assert over_budget(load([*tiny, "budget.tokens=2561"]).budget, study) is None
    with pytest.raises(ValueError, match=r"needs hardware\.usd_per_hour"):
        load(["budget.usd=5"])


@pytest.mark.slow
def test_a_spent_budget_starts_no_new_cell(command, tmp_path, tiny) -> None:
    done = command("harness", *tiny, *STUDY, "budget.tokens=1", "hardware.slots=1")
    assert done.returncode == 1
    assert "stopping: budget.tokens=1 is spent (2560); 3 cells are not started" in done.stderr
    assert "no result: budget.tokens=1 is spent (2560): raise it to go on" in done.stderr
    states = cell_states(Study(tmp_path / "runs" / "demo"))
    assert sorted(state.state for state in states) == ["complete", "planned", "planned", "planned"]


@pytest.mark.slow
def test_two_launchers_share_a_study_and_run_no_cell_twice(launch, tmp_path, tiny) -> None:
    arguments = [*tiny, "+study=demo", "study.arms=[baseline,qkv_bias,no_dropout]", "study.seeds=2",
                 "train.tokens=25600"]  # fmt: skip
    launchers = [launch(*arguments) for _ in range(2)]
    outputs = [launcher.communicate(timeout=300)[1] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0, 0], outputs
    found = results(tmp_path / "runs")
    assert len(found) == 6
    for log in (tmp_path / "runs").rglob("log.txt"):
        assert log.read_text().count("step 100/100") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("death", "words"),
    [
        ("os.abort()", "signal 6 (Aborted); its last line: "),
        (
            "os.kill(os.getpid(), 9)",
            "signal 9 (Killed), as Linux sends it when memory runs out: hardware.slots=N runs "
            "fewer cells at once; its last line: step 2/",
        ),
    ],
)
def test_a_crash_is_tried_once_more_and_the_first_log_kept(
    command, tmp_path, tiny, death: str, words: str
) -> None:
    module = tmp_path / "crashing.py"
    module.write_text(
        "import os, pathlib\n"
        "def die_once(model, step):\n"
        "    flag = pathlib.Path('crashed')\n"
        "    if step == 3 and not flag.exists():\n"
        f"        flag.touch(); {death}\n"
    )
    search = overlay(tmp_path, "crash", "step_done", "crashing.die_once")
    done = command("harness", *tiny, search, "-m", "+intervention=crash", "seed=0,1",
                   "hardware.slots=1", PYTHONPATH=str(tmp_path))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"crashed and is tried once more: {words}" in done.stderr
    assert len(list(tmp_path.rglob("log.1.txt"))) == 1
    assert {status for status, *_ in results(tmp_path / "runs").values()} == {Status.COMPLETE}


@pytest.mark.slow
def test_a_rehearsal_that_is_killed_from_outside_breaks_no_arm(command, tmp_path, tiny) -> None:
    (tmp_path / "killing.py").write_text(
        "import os, pathlib, signal, time\n"
        "def kill_once(loss, logits_BTV, y_BT, model):\n"
        "    flag = pathlib.Path('killed')\n"
        "    if not flag.exists():\n"
        "        flag.touch(); os.kill(os.getppid(), signal.SIGKILL); time.sleep(1)\n"
        "    return loss\n"
    )
    search = overlay(tmp_path, "kill", "loss", "killing.kill_once")
    done = command("harness", *tiny, search, "-m", "+intervention=baseline,kill",
                   PYTHONPATH=str(tmp_path))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "kill crashed in its first step: trying once more" in done.stderr
    assert {status for status, *_ in results(tmp_path / "runs").values()} == {Status.COMPLETE}


@pytest.mark.parametrize(("deaths", "starts"), [(2, True), (3, False)])
def test_a_fork_server_that_dies_while_it_is_asked_is_asked_again(
    monkeypatch, deaths: int, starts: bool
) -> None:
    tried: list[int] = []

    class Process:
        def __init__(self, **_: object) -> None:
            pass

        def start(self) -> None:
            tried.append(len(tried))
            if len(tried) <= deaths:
                raise EOFError("unexpected EOF")

    monkeypatch.setattr(process, "_FORKS", type("Context", (), {"Process": Process}))
    monkeypatch.setattr(process.time, "sleep", lambda _: None)
    if starts:
        assert isinstance(process.start(print), Process)
    else:
        with pytest.raises(EOFError):
            process.start(print)
    assert len(tried) == 3


def test_what_a_cell_leaves_that_was_killed_while_it_tidied_up_is_removed(tiny) -> None:
    config = load(tiny)
    folder = freeze(config)
    cell.run(folder)
    (folder / "checkpoints").mkdir()
    (folder / LOCK_FILE).write_text(json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1}))
    run_cells([PlannedCell(config)])
    assert not (folder / "checkpoints").exists()
    assert not (folder / LOCK_FILE).exists()


@pytest.mark.slow
def test_a_study_that_is_moved_while_it_runs_ends_with_a_line_for_each_cell(
    launch, tmp_path, tiny
) -> None:
    launcher = launch(*tiny, *STUDY, "train.tokens=2560000", "log.n_points=100", "hardware.slots=1")
    wait_until(lambda: list(tmp_path.rglob("metrics.jsonl")))
    (tmp_path / "runs" / "demo").rename(tmp_path / "elsewhere")
    _, err = launcher.communicate(timeout=600)
    assert launcher.returncode == 1
    assert "Traceback" not in err
    assert err.count("its folder is gone") == 3  # then the first three have failed alike


def test_a_finished_study_on_a_read_only_file_system_is_left_as_it_is(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    left = {"host": socket.gethostname(), "pid": 2**22 + 1}
    (tmp_path / LOCK_FILE).write_text(json.dumps(left))
    monkeypatch.setattr(Path, "unlink", refuse)
    tidy(Cell(tmp_path))
    assert json.loads((tmp_path / LOCK_FILE).read_text()) == left


def test_the_error_of_an_earlier_try_is_not_that_of_this_one(tiny) -> None:
    folder = freeze(load(tiny))
    record = cell.run(folder)
    record.status, record.error = Status.STOPPED, "stopped"
    write_record(folder, record)
    (folder / "log.txt").write_text("killed\n")
    assert written_since(Cell(folder), record.updated).status is Status.STOPPED
    assert why(Cell(folder), record.updated) == "stopped"
    later = "9999-01-01T00:00:00+00:00"
    assert written_since(Cell(folder), later) is None
    assert why(Cell(folder), later) == "killed"


@pytest.mark.parametrize(
    ("error", "line", "advice"),
    [("boom", "/my/idea.py:3", "fix /my/idea.py:3, then run the same command again"),
     ("boom", None, "fix what failed, then run the same command again"),
     (None, None, "run the same command to retry")],
)  # fmt: skip
def test_a_failed_study_says_what_to_fix_before_it_is_run_again(tiny, error, line, advice) -> None:
    config = load(tiny)
    folder = freeze(config)
    record = cell.run(folder)
    record.status, record.error = Status.FAILED if error else Status.STOPPED, error
    record.line_to_fix = line
    write_record(folder, record)
    with pytest.raises(StudyFailed, match=f"1 of 1 cells have no result: {advice}"):
        require_results([PlannedCell(config)])


def test_a_cell_that_crashes_again_is_not_tried_a_third_time(tiny) -> None:
    planned = PlannedCell(load(tiny))
    planned.freeze()
    runner = _Runner([], [], Screen(planned.study, n_cells=1, n_slots=1))
    crashed = SimpleNamespace(exitcode=-6)
    for waiting, errors in (
        ([planned], []),
        ([], ["signal 6 (Aborted); its last line: no output"]),
    ):
        runner.waiting.clear()
        runner._settle(_Try(cell=planned, slot=None, process=crashed, started=""))
        assert (runner.waiting, runner.errors) == (waiting, errors)


def test_the_largest_cells_begin_first(tiny, monkeypatch) -> None:
    begun = []
    monkeypatch.setattr(process, "prepare", lambda *_: None)
    monkeypatch.setattr(_Runner, "run", lambda self: begun.extend(self.waiting))
    sizes = ["train.tokens=2560", "train.tokens=25600", "model.n_embd=32"]
    with pytest.raises(StudyFailed):
        run_cells([PlannedCell(load([*tiny, size])) for size in sizes])
    assert [cell.config.train.tokens * cell.config.model.n_embd**2 for cell in begun] == [
        25600 * 16**2, 2560 * 32**2, 2560 * 16**2,
    ]  # fmt: skip


def test_the_first_three_that_fail_alike_stop_a_study_and_three_that_differ_do_not(tiny) -> None:
    waiting = PlannedCell(load(tiny))
    for errors, stops in ((["a", "a", "a"], True), (["a", "a"], False), (["a", "b", "a"], False),
                          (["", "", ""], False), (["b", "a", "a", "a"], False)):  # fmt: skip
        runner = _Runner([waiting], [], Screen(waiting.study, n_cells=1, n_slots=1))
        runner.errors = errors
        runner._stop_if_hopeless()
        assert (runner.waiting == []) is stops
