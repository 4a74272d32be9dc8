"""The commands, run as a user runs them: real processes, from another working directory."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

SWEEP = ["-m", "+intervention=baseline,qkv_bias", "seed=range(2)"]


def records(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("record.json"))]


def test_help_shows_groups_config_and_examples_without_importing_torch(started) -> None:
    done = started("harness", "--help")
    assert done.returncode == 0
    for words in (
        "  intervention: ",
        " baseline, ",
        "batch_size: 16",
        "'seed=range(3)'",
        "+study=demo",
    ):
        assert words in done.stdout


@pytest.mark.thorough
@pytest.mark.parametrize(
    "arguments", [["--help"], ["model.typo=1"], ["+model.typo=1"], ["+intervention=[qkv_bias,foo]"]]
)
def test_neither_help_nor_a_refused_config_imports_torch(tmp_path, arguments: list[str]) -> None:
    code = (
        "import sys; sys.argv[1:] = sys.argv[1:]\n"
        "import atexit; atexit.register(lambda: print('TORCH', 'torch' in sys.modules))\n"
        "from harness.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "TORCH False" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["+intervention=foo"],
        ["model.n_lyer=3"],
        ["+model.n_lyer=3"],
        ["data=fineweb"],
        ["data=text"],
        ["data=text", "data.path=/no/such"],
        ["--seed=3"],
        ["hydra.searchpath=[file:///no/such]", "+intervention=qkv_bias"],
        ["model.mlp._target_=harness.model.MPL"],
        ["runs_dir=/proc/nowhere"],
        ["-m", "+intervention=baseline,foo"],
        ["-m", "log.n_points=3,4"],  # the same cell twice
        ["-m", "seed=range(0)"],  # an empty sweep
        ["+study=demo", "study.arms=[foo]"],
        ["study.arms=[baseline,no_dropout]"],  # a sweep, without -m
        ["+study=demo", f"study_name={'a' * 300}"],
        ["budget.hours=0"],
        ["+intervention=qkv_bias", "+intervention=no_dropout"],
    ],
)
def test_bad_input_gives_one_line_exit_code_two_and_leaves_nothing_behind(
    command, tmp_path, tiny, arguments: list[str]
) -> None:
    done = command("harness", *tiny, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not list(tmp_path.rglob("record.json"))


def test_a_search_path_that_is_not_there_is_told_from_where(command, tmp_path) -> None:
    done = command("harness", "hydra.searchpath=[file://my_conf]")
    assert done.stderr == (
        f"error: hydra.searchpath: there is no folder my_conf, seen from {tmp_path}\n"
    )


def test_one_cell_trains_logs_and_is_skipped_the_second_time(
    command, started, tmp_path, tiny
) -> None:
    first = started("harness", *tiny, "+intervention=weight_tying")
    assert first.returncode == 0, first.stderr
    assert "paired: 15/16 of the baseline's tensors start out the same" in first.stderr
    assert "complete: weight_tying" in first.stderr
    (record,) = tmp_path.rglob("record.json")
    log = (record.parent / "log.txt").read_text()
    assert "step 10/10" in log
    assert "paired: 15/16" in log
    stamp = record.stat().st_mtime_ns
    again = command("harness", *tiny, "+intervention=weight_tying")
    assert again.returncode == 0
    assert "already complete" in again.stderr
    assert record.stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_a_sweep_runs_every_cell_once_and_only_once(command, tmp_path, tiny) -> None:
    done = command("harness", *tiny, *SWEEP)
    assert done.returncode == 0, done.stderr
    found = records(tmp_path)
    assert sorted((r["arm"], r["seeds"]["init"], r["status"]) for r in found) == [
        (arm, seed, "complete") for arm in ("baseline", "qkv_bias") for seed in (0, 1)
    ]
    assert all((path.parent / "log.txt").read_text() for path in tmp_path.rglob("record.json"))
    again = command("harness", *tiny, *SWEEP)
    assert again.returncode == 0
    assert again.stderr.count("skipped, already complete") == 4
    assert records(tmp_path) == found


@pytest.mark.slow
def test_a_stack_in_a_sweep_is_one_arm_of_its_own(command, tmp_path, tiny) -> None:
    done = command("harness", *tiny, "-m", "+intervention=baseline,[qkv_bias,no_dropout]")
    assert done.returncode == 0, done.stderr
    assert {r["arm"] for r in records(tmp_path)} == {"baseline", "no_dropout+qkv_bias"}


@pytest.mark.slow
def test_a_saved_study_runs_its_plan_and_writes_it_down_first(command, tmp_path, tiny) -> None:
    arguments = [*tiny, "+study=demo", "study.arms=[baseline,gradient_clipping+no_dropout]",
                 "study.seeds=1", "study.baseline_seeds=2"]  # fmt: skip
    done = command("harness", *arguments)
    assert done.returncode == 0, done.stderr
    plan = json.loads((tmp_path / "runs" / "demo" / "plan.json").read_text())
    planned = [(cell["arm"], cell["seeds"]["init"]) for cell in plan["cells"]]
    assert planned == [("baseline", 0), ("baseline", 1), ("gradient_clipping+no_dropout", 0)]
    assert {cell["cell"] for cell in plan["cells"]} == {r["cell"] for r in records(tmp_path)}


@pytest.mark.slow
def test_a_failing_cell_stops_no_other_and_the_sweep_exits_non_zero(
    command, tmp_path, tiny
) -> None:
    overlay = tmp_path / "conf" / "intervention" / "broken.yaml"
    overlay.parent.mkdir(parents=True)
    overlay.write_text(
        "# @package _global_\n"
        "interventions: {broken: {summary: s, source: t, event: loss,"
        " fn: {_target_: operator.truediv, _partial_: true}}}\n"
    )
    search = f"hydra.searchpath=[file://{tmp_path / 'conf'}]"
    done = command("harness", *tiny, search, "-m", "+intervention=broken,baseline")
    assert done.returncode == 1
    assert {r["arm"]: r["status"] for r in records(tmp_path)} == {
        "broken": "failed",
        "baseline": "complete",
    }
    assert "TypeError" in done.stderr
    assert "fix what failed, then run the same command again" in done.stderr
    (log,) = (tmp_path / "runs" / "adhoc" / "broken").rglob("log.txt")
    assert "Traceback" in log.read_text()


def test_a_frozen_cell_runs_by_its_folder(started, tmp_path, tiny) -> None:
    from harness.cell.freeze import freeze
    from harness.config.compose import load

    folder = freeze(load(tiny))
    done = started("harness.cell", str(folder))
    assert done.returncode == 0, done.stderr
    assert records(tmp_path)[0]["status"] == "complete"
    for told in (done.stderr, (folder / "log.txt").read_text()):
        assert told.splitlines()[-1].startswith("complete: baseline (seed 0, cell")


def test_a_folder_without_a_frozen_cell_is_refused(command, tmp_path) -> None:
    done = command("harness.cell", str(tmp_path))
    assert done.returncode == 2
    assert "holds no config.yaml" in done.stderr


@pytest.mark.slow
@pytest.mark.proof
def test_kill_9_at_any_moment_loses_nothing(command, tmp_path, tiny) -> None:
    slow = [
        *tiny,
        "train.tokens=25600",
        "model.n_embd=64",
        "checkpoint.every_steps=20",
        "eval.n_val=2",
    ]
    undisturbed = command("harness", *slow, "study_name=undisturbed")
    assert undisturbed.returncode == 0, undisturbed.stderr
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *slow], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 600
    while not list(tmp_path.glob("runs/adhoc/*/*/checkpoints/*.pt")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, 9)
    process.wait()
    resumed = command("harness", *slow)
    assert resumed.returncode == 0, resumed.stderr
    killed, reference = records(tmp_path)
    assert killed["fingerprints"] == reference["fingerprints"]
    assert killed["losses"] == reference["losses"]


def test_a_full_disk_leaves_a_readable_record_and_says_so(tiny, monkeypatch, capsys) -> None:
    import errno

    from harness.cell import train as cell
    from harness.cell.freeze import freeze
    from harness.config.compose import load
    from harness.engine import checkpoint
    from harness.records import Status, read_record

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = freeze(load(tiny))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.torch, "save", full)
        cell.run(folder)
    record = read_record(folder)
    assert record.status is Status.FAILED
    assert "No space left on device" in record.error
    assert not list(folder.rglob("*.partial"))
    assert cell.run(folder).status is Status.COMPLETE


@pytest.mark.parametrize("module", ["harness", "analysis", "interventions"])
def test_a_conf_folder_of_ones_own_beside_the_command_hides_nothing(module, tmp_path, started):
    (tmp_path / "conf" / "intervention").mkdir(parents=True)
    done = started(module, "--help")
    assert done.returncode == 0, done.stderr
