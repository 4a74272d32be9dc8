"""Studies as a person runs them: several launchers, kills, changed plans, several devices."""

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from harness.cell import train as cell
from harness.cell.freeze import freeze, load_frozen, locate
from harness.cell.lock import LOCK_FILE, CellBusy, living_owner, locked
from harness.config.compose import load
from harness.records import (
    Losses,
    Provenance,
    RunRecord,
    Seeds,
    Status,
    StudyPlan,
    find_records,
    read_record,
    write_plan,
    write_record,
)
from harness.study.outcome import over_budget, tidy, was_preempted, why
from harness.study.slots import plan_slots
from harness.study.states import CellState, beside, cell_states, summary, table

STUDY = ["+study=demo", "study.arms=[baseline,qkv_bias]", "study.seeds=2"]


def overlay(folder: Path, name: str, event: str, target: str) -> str:
    """Write an intervention of one's own; return the override by which Hydra finds it."""
    file = folder / "conf" / "intervention" / f"{name}.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(
        "# @package _global_\n"
        f"interventions: {{{name}: {{summary: s, source: t, event: {event},"
        f" fn: {{_target_: {target}, _partial_: true}}}}}}\n"
    )
    return f"hydra.searchpath=[file://{folder / 'conf'}]"


def launch(folder: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments], cwd=folder,
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def results(runs: Path) -> dict[str, tuple]:
    found = [read_record(path) for path in sorted(runs.rglob("record.json"))]
    return {r.cell: (r.status, r.fingerprints, r.losses, r.skipped_steps, r.tokens) for r in found}


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
    monkeypatch.setattr("harness.lock.HEARTBEAT_SECONDS", 0.05)
    path = tmp_path / LOCK_FILE
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "x"}))
    assert living_owner(tmp_path) == "elsewhere:1"
    long_ago = time.time() - 1000
    os.utime(path, (long_ago, long_ago))
    assert living_owner(tmp_path) is None
    with locked(tmp_path) as lock:
        path.write_text(json.dumps({"host": "thief", "pid": 1, "token": "y"}))
        deadline = time.monotonic() + 10
        while not lock.lost:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert path.exists()  # what is not ours is not removed


def test_running_out_of_memory_halves_the_micro_batch_at_the_same_batch(
    tiny, monkeypatch, capsys
) -> None:
    import torch

    from harness import loop

    original = loop.accumulate_gradients

    def greedy(training, step):
        if training.micro_batch > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(training, step)

    monkeypatch.setattr(loop, "accumulate_gradients", greedy)
    folder = freeze(load([*tiny, "model.dropout=0"]))
    record = cell.run(folder)
    assert (record.status, record.provenance.micro_batch) == (Status.COMPLETE, 4)
    assert load_frozen(folder).hardware.micro_batch == 4  # for whoever goes on after a kill
    frozen = (folder / "config.yaml").read_bytes()
    assert record.provenance.config_sha256 == hashlib.sha256(frozen).hexdigest()
    monkeypatch.undo()
    plain = cell.run(freeze(load([*tiny, "model.dropout=0", "study_name=plain"])))
    assert record.losses.test == pytest.approx(plain.losses.test, abs=1e-5)
    err = capsys.readouterr().err
    assert "micro-batches of 16 sequences: going on with 8, the global batch stays 16" in err
    assert "going on with 4" in err


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["hardware.slots=1000"], "hardware.slots=1000: this machine has"),
        (["hardware.device=cuda", "hardware.slots=5"], "at most 2 with 2 GPUs"),
        (["hardware.device=cuda", "hardware.n_devices=4", "train.batch_size=16"], "2 are visible"),
        (
            ["hardware.device=cuda:9"],
            "cuda:9 is not here; available: auto, cpu, cuda, cuda:0, cuda:1",
        ),
        (["hardware.device=cuda:1", "hardware.slots=2"], "cuda:1 is one GPU"),
    ],
)
def test_more_than_the_machine_has_is_refused(overrides, words, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    hardware = ["hardware=cpu", *overrides]
    with pytest.raises(ValueError, match=words):
        plan_slots(load(hardware).hardware)


def test_every_gpu_or_core_group_is_one_slot(monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7,9")
    one = plan_slots(load(["hardware.device=auto"]).hardware)
    assert [slot.gpus for slot in one] == [("4",), ("7",), ("9",)]
    two = plan_slots(load(["hardware.device=auto", "hardware.n_devices=2"]).hardware)
    assert [slot.gpus for slot in two] == [("4", "7")]
    (named,) = plan_slots(load(["hardware.device=cuda:1"]).hardware)
    assert named.gpus == ()  # its cell sees all GPUs, and takes the one that it names
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert not any(slot.gpus for slot in plan_slots(load(["hardware.device=auto"]).hardware))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    cpu = plan_slots(load(["hardware.threads=2", "hardware.slots=3"]).hardware)
    assert [slot.cores for slot in cpu] == [(0, 1), (2, 3), (4, 5)]


def test_a_batch_that_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(ValueError, match=r"hardware\.n_devices=3: choose a divisor"):
        load(["hardware.n_devices=3"])


def test_the_budget_is_held_against_what_the_records_cost(tiny, tmp_path) -> None:
    config = load([*tiny, "hardware.usd_per_hour=2"])
    folder = freeze(config)
    study = folder.parent.parent
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
    states = cell_states(tmp_path / "runs" / "demo")
    assert sorted(state.state for state in states) == ["complete", "planned", "planned", "planned"]


@pytest.mark.slow
def test_a_plan_that_changed_under_a_study_is_refused_with_the_difference(
    command, tmp_path, tiny
) -> None:
    assert command("harness", *tiny, *STUDY).returncode == 0
    before = results(tmp_path / "runs")
    for change, words in (
        ("study.seeds=3", "2 cells not planned before"),
        ("study.arms=[baseline]", "2 cells planned but missing now"),
        ("optim.lr=2e-3", "4 cells configured differently (baseline seed 0"),
        ("study.alpha=0.01", "alpha was 0.05, now 0.01"),
    ):
        done = command("harness", *tiny, *STUDY, change)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert words in done.stderr
        assert "study_name=NAME" in done.stderr
        assert (
            "the same command with -m study_name=demo '+intervention=...' in place" in done.stderr
        )
    assert results(tmp_path / "runs") == before


@pytest.mark.slow
def test_status_shows_arms_by_seeds_from_elsewhere(command, tmp_path, tiny) -> None:
    assert command("harness", *tiny, *STUDY).returncode == 0
    done = command("harness.status", "runs/demo")
    assert done.returncode == 0
    for words in ("baseline", "qkv_bias", "seed 1", "4 complete"):
        assert words in done.stdout
    missing = command("harness.status", "runs/nothing")
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"schema_version": 7}', "has schema version 7, this program reads 1"),
        ("{", "move it away"),
    ],
)
def test_a_record_of_another_program_is_refused_in_one_line(
    command, tmp_path, tiny, content: str, words: str
) -> None:
    (freeze(load(tiny)) / "record.json").write_text(content)
    done = command("harness", *tiny)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert words in done.stderr
    shown = command("harness.status", "runs/adhoc", COLUMNS="1000")
    assert (shown.returncode, words in shown.stdout) == (0, True)


def test_a_frozen_cell_that_never_started_is_planned_with_or_without_a_plan(tiny, tmp_path) -> None:
    folder = freeze(load([*tiny, "+intervention=qkv_bias", "seed=3"]))
    (state,) = cell_states(folder.parent.parent)
    assert (state.arm, state.seed, state.state) == ("qkv_bias", "3", "planned")


def test_of_two_versions_of_a_cell_the_table_shows_the_planned_or_else_the_latest(tmp_path) -> None:
    study = tmp_path / "runs" / "twice"
    for loss, cell_id in ((3.1, "c"), (3.2, "a"), (3.3, "b")):
        record = RunRecord(
            study="twice", arm="baseline", interventions=[], cell=cell_id,
            seeds=Seeds(init=0, data=0, loop=0), status=Status.COMPLETE, losses=Losses(test=loss),
            n_steps=1, started=f"2026-01-{int(10 * loss)}",
        )  # fmt: skip
        write_record(study / "baseline" / cell_id, record)
    assert "3.3000" in shown(study)
    cells = [{"arm": "baseline", "seeds": {"init": 0}, "cell": "a"}]
    write_plan(study, StudyPlan(study="twice", cells=cells))
    assert "3.2000" in shown(study)


def test_cells_that_differ_in_one_of_their_seeds_are_all_shown(tmp_path) -> None:
    from harness.study.states import shown as first_and_others

    for cell_id, (data, loop) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        record = RunRecord(
            study="s", arm="baseline", interventions=[], cell=str(cell_id), n_steps=1,
            seeds=Seeds(init=0, data=data, loop=loop),
        )  # fmt: skip
        write_record(tmp_path / "baseline" / str(cell_id), record)
    first, others = first_and_others(cell_states(tmp_path))
    assert sorted(state.seed for state in first) == ["0", "0/0/1", "0/1/0", "0/1/1"]
    assert not others


def test_a_version_of_an_arm_asked_for_again_is_the_one_shown(
    tiny, own_arm, tmp_path, capsys
) -> None:
    from harness.study.plan import Cell, settle

    study, losses = tmp_path / "runs" / "adhoc", {}
    for eps in ("0.1", "0.9", "0.1"):
        config = load([*tiny, *own_arm(eps)])
        one = Cell(folder=locate(config), config=config)
        settle([one], 1)
        assert "warning" not in capsys.readouterr().err  # an edited arm is no other setting
        losses[eps] = f"{cell.run(one.folder).losses.test:.4f}"
        assert losses[eps] in shown(study)
    assert losses["0.1"] != losses["0.9"]
    assert "1 superseded (the arm was edited and asked for again)" in beside(cell_states(study))
    lines = (study / "commands.jsonl").read_text().splitlines()
    assert len(lines) == 3
    settle([one], 1)
    assert (study / "commands.jsonl").read_text().splitlines() == lines  # asked once more
    assert [c["arm"] for c in json.loads(lines[-1])["cells"]] == ["own"]


def test_a_command_behind_a_torn_line_is_not_lost(tmp_path) -> None:
    from harness.records.versions import last_asked, note_command, read_commands

    cells = [{"arm": "a", "seeds": {"init": i}, "cell": f"c{i}"} for i in range(2)]
    note_command(tmp_path, cells[:1])
    file = tmp_path / "commands.jsonl"
    with file.open("ab") as torn:
        torn.write(b'{"time": "2026", "cells": [{"cel\x00\xff')
    note_command(tmp_path, cells)
    assert [command["cells"] for command in read_commands(tmp_path)] == [cells[:1], cells]
    assert last_asked(read_commands(tmp_path)).keys() == {"c0", "c1"}
    assert file.read_bytes().count(b"\n") == 3


@pytest.fixture
def own_arm(tmp_path, monkeypatch):
    """Return what gives the overrides of an arm of one's own, its overlay edited to some eps."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_smoothing.py").write_text(
        "from torch.nn.functional import cross_entropy\n"
        "def smooth(loss, logits, y, model, eps):\n"
        "    return cross_entropy(logits.flatten(0, 1), y.flatten(), label_smoothing=eps)\n"
    )
    search = overlay(tmp_path, "own", "loss", "own_smoothing.smooth, eps: 0")
    file = tmp_path / "conf" / "intervention" / "own.yaml"

    def edited(eps: str) -> list[str]:
        file.write_text(re.sub(r"eps: [\d.]+", f"eps: {eps}", file.read_text()))
        return [search, "+intervention=own"]

    yield edited
    sys.modules.pop("own_smoothing", None)


@pytest.mark.slow
def test_a_single_run_is_noted_too(command, tiny, tmp_path) -> None:
    for _ in range(2):
        assert command("harness", *tiny, "seed=3").returncode == 0
    (line,) = (tmp_path / "runs" / "adhoc" / "commands.jsonl").read_text().splitlines()
    (asked,) = json.loads(line)["cells"]
    assert (asked["arm"], asked["seeds"]) == ("baseline", {"init": 3, "data": 3, "loop": 3})
    assert json.loads(line)["command"][-1] == "seed=3"


def shown(study: Path) -> str:
    console = Console(width=80, file=io.StringIO())
    console.print(table(cell_states(study), "", 80))
    return console.file.getvalue()


def test_a_run_whose_process_died_is_shown_as_interrupted(tiny, tmp_path) -> None:
    folder = freeze(load(tiny))
    record = cell.run(folder)
    record.status = Status.RUNNING
    from harness.records import write_record

    write_record(folder, record)
    states = cell_states(folder.parent.parent)
    assert states[0].state == "interrupted"
    assert "interrupted: baseline seed 0: step 10/10" in summary(states)


@pytest.mark.slow
def test_two_launchers_share_a_study_and_run_no_cell_twice(tmp_path, tiny) -> None:
    arguments = [*tiny, "+study=demo", "study.arms=[baseline,qkv_bias,no_dropout]", "study.seeds=2",
                 "train.tokens=25600"]  # fmt: skip
    launchers = [launch(tmp_path, *arguments) for _ in range(2)]
    outputs = [launcher.communicate(timeout=300)[1] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0, 0], outputs
    found = results(tmp_path / "runs")
    assert len(found) == 6
    for log in (tmp_path / "runs").rglob("log.txt"):
        assert log.read_text().count("step 100/100") == 1


@pytest.mark.slow
def test_killing_launcher_and_cells_loses_nothing(tmp_path, tiny) -> None:
    arguments = [*tiny, *STUDY, "train.tokens=51200", "checkpoint.every_steps=10"]
    calm = launch(tmp_path, *arguments, f"runs_dir={tmp_path / 'calm'}")
    _, err = calm.communicate(timeout=300)
    assert calm.returncode == 0, err
    for delay in (3.0, 4.5, 6.0):
        killed = launch(tmp_path, *arguments)
        time.sleep(delay)
        for child in _descendants(killed.pid):
            os.kill(child, signal.SIGKILL)
        killed.kill()
        killed.communicate()
    last = launch(tmp_path, *arguments)
    _, err = last.communicate(timeout=300)
    assert last.returncode == 0, err
    assert results(tmp_path / "runs") == results(tmp_path / "calm")


def _descendants(pid: int) -> list[int]:
    done = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True)
    parents = dict(map(int, line.split()) for line in done.stdout.splitlines()[1:])
    found = [child for child, parent in parents.items() if parent == pid]
    return found + [grand for child in found for grand in _descendants(child)]


@pytest.mark.slow
def test_sigterm_to_the_launcher_saves_every_cell(tmp_path, tiny) -> None:
    arguments = [*tiny, *STUDY, "train.tokens=2560000", "checkpoint.every_steps=0"]
    launcher = launch(tmp_path, *arguments)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.rglob("metrics.jsonl"))) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    launcher.terminate()
    _, err = launcher.communicate(timeout=120)
    assert launcher.returncode == 130
    assert "run the same command again to go on" in err
    started = [read_record(path) for path in tmp_path.rglob("record.json")]
    assert started
    assert {record.status for record in started} == {Status.PREEMPTED}
    assert all(list(path.parent.glob("checkpoints/*.pt")) for path in tmp_path.rglob("record.json"))


@pytest.mark.slow
def test_a_crash_is_tried_once_more_and_the_first_log_kept(command, tmp_path, tiny) -> None:
    module = tmp_path / "crashing.py"
    module.write_text(
        "import os, pathlib\n"
        "def die_once(model, step):\n"
        "    flag = pathlib.Path('crashed')\n"
        "    if step == 3 and not flag.exists():\n"
        "        flag.touch(); os.abort()\n"
    )
    search = overlay(tmp_path, "crash", "step_done", "crashing.die_once")
    done = command("harness", *tiny, search, "-m", "+intervention=crash", "seed=0,1",
                   "hardware.slots=1", PYTHONPATH=str(tmp_path))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "crashed and is tried once more" in done.stderr
    assert len(list(tmp_path.rglob("log.1.txt"))) == 1
    assert {status for status, *_ in results(tmp_path / "runs").values()} == {Status.COMPLETE}


@pytest.mark.slow
@pytest.mark.parametrize("n_processes", [2, 4])
def test_several_processes_train_the_same_model_as_one(
    command, tmp_path, tiny, n_processes
) -> None:
    arguments = [*tiny, "model.dropout=0"]
    single = freeze(load([*arguments, "study_name=single"]))
    alone = cell.run(single)
    folder = freeze(load([*arguments, f"hardware.n_devices={n_processes}"]))
    done = command("torch.distributed.run", "--standalone", f"--nproc_per_node={n_processes}",
                   "-m", "harness.cell", str(folder))  # fmt: skip
    record = read_record(folder)
    assert record.status is Status.COMPLETE, done.stderr
    assert record.cell == alone.cell
    assert record.losses.test == pytest.approx(alone.losses.test, abs=1e-5)
    rows, expected = (
        [json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()]
        for f in (folder, single)
    )
    assert [r["step"] for r in rows] == [r["step"] for r in expected]
    for ours, theirs in zip(rows, expected, strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-5)


@pytest.mark.slow
def test_one_command_trains_a_cell_on_two_devices(command, tmp_path, tiny) -> None:
    done = command("harness", *tiny, "hardware.n_devices=2")
    assert done.returncode == 0, done.stderr
    (record,) = [read_record(path) for path in tmp_path.rglob("record.json")]
    assert (record.status, record.provenance.n_devices) == (Status.COMPLETE, 2)


@pytest.mark.slow
def test_a_killed_cell_of_three_devices_ends_with_the_weights_of_an_undisturbed_one(
    command, tmp_path, tiny
) -> None:
    """The order in which three gradients are summed must not depend on where a process began."""
    (tmp_path / "crashing.py").write_text(
        "import os, pathlib\n"
        "def die_once(model, step):\n"
        "    flag = pathlib.Path('crashed')\n"
        "    if step == 4 and os.environ['RANK'] == '1' and not flag.exists():\n"
        "        flag.touch(); os.abort()\n"
    )
    search = overlay(tmp_path, "crash", "step_done", "crashing.die_once")
    arguments = [*tiny, search, "+intervention=crash", "hardware.n_devices=3", "model.n_layer=2",
                 "train.batch_size=6", "checkpoint.every_steps=2"]  # fmt: skip
    crashed = command("harness", *arguments, PYTHONPATH=str(tmp_path))
    resumed = command("harness", *arguments, PYTHONPATH=str(tmp_path))
    command("harness", *arguments, "runs_dir=undisturbed", PYTHONPATH=str(tmp_path))
    assert (crashed.returncode, resumed.returncode) == (1, 0), resumed.stderr
    assert "going on from step 4" in resumed.stderr
    one, other = (read_record(path) for path in find_records(tmp_path))
    assert one.status is other.status is Status.COMPLETE
    assert one.fingerprints == other.fingerprints


@pytest.mark.slow
def test_memory_that_runs_out_on_one_of_two_devices_halves_the_micro_batch(
    command, tmp_path, tiny
) -> None:
    (tmp_path / "hungry.py").write_text(
        "import os\n"
        "def eat(loss, logits_BTV, y_BT, model):\n"
        "    if os.environ['RANK'] == '1' and len(y_BT) > 1:\n"
        "        raise MemoryError('out of memory')\n"
        "    return loss\n"
    )
    search = overlay(tmp_path, "hungry", "loss", "hungry.eat")
    done = command("harness", *tiny, search, "+intervention=hungry", "hardware.n_devices=2",
                   "train.batch_size=4", PYTHONPATH=str(tmp_path))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "with micro-batches of 2 sequences: going on with 1" in done.stderr
    (path,) = tmp_path.rglob("record.json")
    record, config = read_record(path), (path.parent / "config.yaml").read_bytes()
    assert record.status is Status.COMPLETE
    assert record.provenance.config_sha256 == hashlib.sha256(config).hexdigest()


@pytest.mark.parametrize(("dropout", "same"), [(0.1, False), (0.0, True)])
def test_ranks_draw_different_dropout_masks(make_training, dropout: float, same: bool) -> None:
    import numpy as np
    import torch

    from harness.loop import accumulate_gradients

    training = make_training([f"model.dropout={dropout}"])
    training.batches.indices = lambda _: np.tile(np.arange(8), 2)  # equal data for both ranks
    training.world.size = 2
    training.world.average_gradients = lambda model: None
    gradients = []
    for rank in (0, 1):
        training.world.rank = rank
        training.model.zero_grad()
        accumulate_gradients(training, 0)
        gradients.append(training.model.head.weight.grad.clone())
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert torch.equal(*gradients) is same


@pytest.mark.slow
def test_a_sequential_study_spends_seeds_on_undecided_arms_only(command, tmp_path, tiny) -> None:
    arguments = [*tiny, "+study=demo", "hydra/sweeper=sequential", "hydra.sweeper.looks=[2,3]",
                 "study.arms=[baseline,weight_tying,weight_decay_gpt2]", "eval.test_sequences=64"]  # fmt: skip
    done = command("harness", *arguments)
    assert done.returncode == 0, done.stderr
    study = tmp_path / "runs" / "demo"
    plan = json.loads((study / "plan.json").read_text())
    assert plan["looks"] == [2, 3]
    assert len(plan["cells"]) == 9
    looks = [json.loads(line) for line in (study / "looks.jsonl").read_text().splitlines()]
    assert [look["look"] for look in looks] == [1, 2]
    first = {row["arm"]: row["decision"] for row in looks[0]["arms"]}
    seeds = {arm: len(list((study / arm).glob("*/record.json"))) for arm in first}
    assert seeds == {arm: 2 if decision == "stop" else 3 for arm, decision in first.items()}
    again = command("harness", *arguments)
    assert again.returncode == 0
    assert "cells to train" not in again.stderr
    assert (study / "looks.jsonl").read_text().count("\n") == 2


def test_the_sequential_sweeper_needs_a_saved_study(command, tiny) -> None:
    done = command("harness", *tiny, "-m", "hydra/sweeper=sequential")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "add +study=NAME" in done.stderr


@pytest.mark.slow
def test_submitits_local_executor_runs_the_same_cells(command, tmp_path, tiny) -> None:
    arguments = [*tiny, *STUDY]
    local = command("harness", *arguments, "hydra/launcher=submitit_local")
    assert local.returncode == 0, local.stderr
    assert {status for status, *_ in results(tmp_path / "runs").values()} == {Status.COMPLETE}
    mixed = command("harness", *arguments)
    assert mixed.returncode == 0, mixed.stderr
    assert mixed.stderr.count("skipped, already complete") == 4


@pytest.mark.slow
def test_a_cell_without_a_result_is_an_error_whoever_ran_it(command, tiny) -> None:
    done = command("harness", *tiny, "-m", "seed=0,1", "hydra/launcher=submitit_local",
                   "hardware.device=cuda:93")  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("hardware.device=cuda:93 is not here") == 2
    assert "2 of 2 cells have no result" in done.stderr


def test_overwriting_happens_once_and_is_no_part_of_a_job() -> None:
    from omegaconf import OmegaConf

    from hydra_plugins.study_plugins import StudySweeper

    nothing_planned = OmegaConf.create(
        {"study": {"arms": []}, "hydra": {"runtime": {"choices": {}}}}
    )
    jobs = StudySweeper(None).jobs(nothing_planned, ["overwrite=true", "seed=0,1", "optim.lr=0.1"])
    assert jobs == [("seed=0", "optim.lr=0.1"), ("seed=1", "optim.lr=0.1")]


@pytest.mark.slow
def test_a_refused_sweep_leaves_nothing_behind(command, tiny, tmp_path) -> None:
    for refused in ("+intervention=baseline,[higher_lr,scheduled_lr,typo]", "model.block_size=8,512",
                    "model.block_size=8,8"):  # fmt: skip
        assert command("harness", *tiny, "-m", refused).returncode == 2
        assert not (tmp_path / "runs").exists()
    assert command("harness", *STUDY, *tiny).returncode == 0
    before = sorted((tmp_path / "runs").rglob("*"))
    changed = command("harness", *STUDY, *tiny, "optim.lr=0.1")
    assert (changed.returncode, "configured differently" in changed.stderr) == (2, True)
    assert sorted((tmp_path / "runs").rglob("*")) == before


def test_a_saved_study_without_arms_is_refused(command, tiny) -> None:
    done = command("harness", "+study=demo", "study.arms=[]", *tiny)
    assert done.returncode == 2
    assert done.stderr == "error: an empty sweep: name at least one arm and one seed\n"


def test_a_saved_study_without_a_baseline_is_refused(command, tiny) -> None:
    done = command("harness", "+study=demo", "study.arms=[qkv_bias]", *tiny)
    assert done.returncode == 2
    assert "study.arms=['qkv_bias'] has nothing to compare with: add baseline" in done.stderr


@pytest.mark.parametrize("swept", ["+intervention=qkv_bias,no_dropout", "seed=range(2)"])
def test_a_sweep_without_its_flag_is_told_of_it(command, tiny, swept) -> None:
    done = command("harness", *tiny, swept)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "add -m" in done.stderr


@pytest.mark.slow
def test_the_last_line_counts_this_sweep_alone(command, tiny) -> None:
    for seeds in ("seed=0,1", "seed=2,3"):
        assert "\n2 complete\n" in command("harness", *tiny, "-m", seeds).stderr


@pytest.mark.slow
def test_a_sweep_that_overwrites_trains_again(command, tiny, tmp_path) -> None:
    sweep = [*tiny, "-m", "seed=0,1"]
    assert command("harness", *sweep).returncode == 0
    before = results(tmp_path / "runs")
    assert "2 cells to train" in command("harness", *sweep, "overwrite=true").stderr
    assert results(tmp_path / "runs") == before


def test_a_clusters_settings_lie_on_its_plugins_schema_without_a_warning(command) -> None:
    done = command("harness", "hydra/launcher=submitit_slurm", "--cfg", "hydra")
    assert (done.returncode, done.stderr) == (0, "")
    assert "max_num_timeout: 20" in done.stdout  # ours
    assert "cpus_per_gpu: null" in done.stdout  # theirs
    typo = command("harness", "hydra/launcher=submitit_slurm", "hydra.launcher.partion=gpu")
    assert typo.returncode == 2
    assert "partion" in typo.stderr


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (119, "119 s"), (200, "3.3 min"), (8000, "2.2 h")]
)
def test_what_is_left_is_told_in_the_unit_that_suits_it(tmp_path, monkeypatch, seconds, text):
    from harness.study import display as screen

    watched = screen.Screen(tmp_path, n_cells=2, n_slots=1)
    watched.n_done = 1
    monkeypatch.setattr(screen.time, "perf_counter", lambda: watched.start + seconds)
    assert watched._left() == text


def test_so_many_seeds_that_they_find_no_room_are_counted() -> None:
    import io

    from rich.console import Console

    from harness.study.states import CellState, table

    states = [CellState("baseline", str(i), "planned", "") for i in range(50)]
    states[0] = CellState("baseline", "0", "complete", "2.5")
    states[1] = CellState("baseline", "1", "complete", "2.6")
    states[2] = CellState("baseline", "2", "running", "2.7 40%")
    shown = io.StringIO()
    Console(width=80, file=shown).print(table(states, "runs/demo", 80))
    for words in ("2.5500", "2: 2.7 40%", "47"):
        assert words in shown.getvalue()


@pytest.mark.slow
def test_cells_save_their_state_and_end_when_their_launcher_is_killed(tmp_path, tiny) -> None:
    launcher = launch(tmp_path, *tiny, *STUDY, "train.tokens=2560000", "checkpoint.every_steps=0")
    wait_until(lambda: list(tmp_path.rglob("metrics.jsonl")))
    launcher.kill()
    launcher.communicate()
    begun = [path.parent for path in tmp_path.rglob("record.json")]
    wait_until(lambda: not any(living_owner(folder) for folder in begun))
    statuses = {read_record(folder).status for folder in begun}
    assert Status.PREEMPTED in statuses
    assert Status.COMPLETE not in statuses


def wait_until(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_a_cell_leaves_that_was_killed_while_it_tidied_up_is_removed(tiny) -> None:
    from harness.study.plan import Cell
    from harness.study.runner import run_cells

    config = load(tiny)
    folder = freeze(config)
    cell.run(folder)
    (folder / "checkpoints").mkdir()
    (folder / LOCK_FILE).write_text(json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1}))
    run_cells([Cell(folder=folder, config=config)])
    assert not (folder / "checkpoints").exists()
    assert not (folder / LOCK_FILE).exists()


def test_a_cell_s_words_do_not_steer_the_terminal(study, command):
    (file, *_) = sorted(study.glob("*/*/record.json"))
    record = read_record(file)
    record.status, record.error = Status.FAILED, "boom \x1b[2J\x07\u202e[red]"
    write_record(file.parent, record)
    shown = command("harness.status", str(study)).stdout
    assert "boom" in shown
    assert not set("\x1b\x07\u202e") & set(shown)


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
    assert "kill died in its first step, which is tried once more" in done.stderr
    assert {status for status, *_ in results(tmp_path / "runs").values()} == {Status.COMPLETE}


@pytest.mark.parametrize(("deaths", "starts"), [(2, True), (3, False)])
def test_a_fork_server_that_dies_while_it_is_asked_is_asked_again(
    tiny, monkeypatch, deaths: int, starts: bool
) -> None:
    from harness.study import runner
    from harness.study.plan import Cell

    config = load(tiny)
    cell_ = Cell(folder=locate(config), config=config)
    tried: list[int] = []

    class Process:
        def __init__(self, **_: object) -> None:
            pass

        def start(self) -> None:
            tried.append(len(tried))
            if len(tried) <= deaths:
                raise EOFError("unexpected EOF")

    study = runner._Runner(plan_slots(config.hardware), screen=None)
    monkeypatch.setattr(study, "context", type("Context", (), {"Process": Process}))
    monkeypatch.setattr(runner.time, "sleep", lambda _: None)
    if starts:
        study._start(print, cell_)
        assert len(study.running) == 1
    else:
        with pytest.raises(EOFError):
            study._start(print, cell_)
    assert len(tried) == 3


def test_cells_of_an_earlier_version_that_never_started_are_counted_as_such() -> None:
    states = [CellState("a", "0", "planned", "", cell) for cell in ("new", "old")]
    assert beside(states) == "not shown: 1 never started"


@pytest.mark.parametrize("file", ["record.json", "config.yaml"])
def test_a_cell_that_cannot_be_read_is_shown_as_such_beside_the_others(tiny, file) -> None:
    folder = freeze(load([*tiny, "seed=1"]))
    (freeze(load(tiny)) / file).write_text("{")
    states = cell_states(folder.parent.parent)
    assert sorted(state.state for state in states) == ["planned", "unreadable"]
    assert "1 planned" in summary(states)
    assert "unreadable: baseline" in summary(states)


def test_a_view_never_stops_a_study(tmp_path) -> None:
    from rich.live import Live

    from harness.study.display import Screen

    (tmp_path / "plan.json").write_text("{")
    screen = Screen(tmp_path, 1, 1)
    screen.live = Live(console=Console(file=io.StringIO()), auto_refresh=False)
    screen.refresh(now=True)
    assert screen.shown


def shell(folder: Path, line: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


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


@pytest.mark.slow
def test_a_study_that_is_moved_while_it_runs_ends_with_a_line_for_each_cell(tmp_path, tiny) -> None:
    launcher = launch(tmp_path, *tiny, *STUDY, "train.tokens=2560000", "hardware.slots=1")
    wait_until(lambda: list(tmp_path.rglob("metrics.jsonl")))
    (tmp_path / "runs" / "demo").rename(tmp_path / "elsewhere")
    _, err = launcher.communicate(timeout=120)
    assert launcher.returncode == 1
    assert "Traceback" not in err
    assert err.count("its folder is gone") == 3  # then the first three have failed alike


def test_a_finished_study_on_a_read_only_file_system_is_left_as_it_is(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    tidy(tmp_path)


def test_the_error_of_an_earlier_try_is_not_that_of_this_one(tiny) -> None:
    folder = freeze(load(tiny))
    record = cell.run(folder)
    record.status, record.error = Status.PREEMPTED, "stopped"
    write_record(folder, record)
    (folder / "log.txt").write_text("killed\n")
    assert (why(folder, record.updated), was_preempted(folder, record.updated)) == ("stopped", True)
    later = "9999-01-01T00:00:00+00:00"
    assert (why(folder, later), was_preempted(folder, later)) == ("killed", False)


@pytest.mark.parametrize(
    ("error", "advice"),
    [("boom; fix /my/idea.py:3 and run it again",
      "fix /my/idea.py:3, then run the same command again"),
     ("boom", "mend what failed, then run the same command again"),
     (None, "run the same command to retry")],
)  # fmt: skip
def test_a_failed_study_says_what_to_fix_before_it_is_run_again(tiny, error, advice) -> None:
    from harness.cell.exits import StudyFailed
    from harness.study.plan import Cell
    from harness.study.runner import require_results

    config = load(tiny)
    folder = freeze(config)
    record = cell.run(folder)
    record.status, record.error = Status.FAILED if error else Status.PREEMPTED, error
    write_record(folder, record)
    with pytest.raises(StudyFailed, match=f"1 of 1 cells have no result: {advice}"):
        require_results([Cell(folder=folder, config=config)])


def planned(tiny, *overrides: str) -> list:
    """Settle a saved study of two arms, as its sweeper does; return its cells."""
    from harness.study.plan import Cell, settle

    arms = {"baseline": [], "qkv_bias": [*overrides]}
    configs = [load([*tiny, "study.arms=[baseline,qkv_bias]", f"+intervention={arm}", *more])
               for arm, more in arms.items()]  # fmt: skip
    cells = [Cell(folder=locate(config), config=config) for config in configs]
    settle(cells, len(cells))
    return cells


def test_an_arm_is_planned_anew_until_it_has_logged_a_loss(tiny) -> None:
    from harness.records import read_plan

    baseline, arm = planned(tiny)
    study = baseline.folder.parent.parent
    first = read_plan(study)
    cell.run(baseline.folder)
    (arm.folder / "log.txt").write_text("it failed in its first step\n")
    *_, again = planned(tiny, "optim.lr=0.01")  # as own code does that was fixed
    second = read_plan(study)
    assert [entry["cell"] for entry in second.cells] == [baseline.folder.name, again.folder.name]
    assert second.created == first.created
    cell.run(again.folder)
    with pytest.raises(ValueError, match="1 cells configured differently \\(qkv_bias seed 0"):
        planned(tiny)
    assert read_plan(study) == second


def test_a_study_without_a_loss_may_still_change_its_plan(tiny) -> None:
    from harness.records import read_plan

    study = planned(tiny)[0].folder.parent.parent
    planned([*tiny, "study.alpha=0.01"])
    assert read_plan(study).alpha == 0.01


@pytest.mark.parametrize(
    ("end", "open_"),
    [(Status.DIVERGED, False), (Status.COMPLETE, False), (Status.FAILED, True),
     (Status.PREEMPTED, True)],
)  # fmt: skip
def test_a_result_that_logged_no_loss_holds_the_plan_too(tiny, end: Status, open_: bool) -> None:
    from harness.records import read_plan

    _, arm = planned(tiny)
    record = RunRecord(
        study="adhoc", arm="qkv_bias", interventions=["qkv_bias"], cell=arm.folder.name,
        seeds=Seeds(init=0, data=0, loop=0), status=end, n_steps=10,
    )  # fmt: skip
    write_record(arm.folder, record)
    with contextlib.nullcontext() if open_ else pytest.raises(ValueError, match="differs: alpha"):
        planned([*tiny, "study.alpha=0.01"])
    assert (read_plan(arm.folder.parent.parent).alpha == 0.01) == open_


def test_nobody_is_told_to_overwrite_again(monkeypatch) -> None:
    from harness.cell.exits import same_command

    monkeypatch.setattr(sys, "argv", ["harness", "-m", "seed=0,1"])
    assert same_command() == "the same command"
    sys.argv.append("overwrite=true")
    assert same_command() == "the same command, without overwrite=true,"


def test_a_lock_from_the_future_ages_from_when_it_is_seen(tmp_path, monkeypatch) -> None:
    path = tmp_path / LOCK_FILE
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "x"}))
    ahead = time.time() + 3600
    os.utime(path, (ahead, ahead))
    assert living_owner(tmp_path) == "elsewhere:1"
    monkeypatch.setattr("harness.lock.STALE_SECONDS", 0.05)
    wait_until(lambda: living_owner(tmp_path) is None)


@pytest.mark.parametrize("content", ["5", '{"host": "a"}', "", "\udcff"])
def test_a_lock_that_cannot_be_read_counts_by_its_age(tmp_path, content: str) -> None:
    path = tmp_path / LOCK_FILE
    path.write_text(content, errors="surrogateescape")
    assert living_owner(tmp_path)
    os.utime(path, (0, 0))
    assert living_owner(tmp_path) is None


@pytest.mark.parametrize("stack", ["[qkv_bias,no_dropout]", '"[qkv_bias,no_dropout]"'])
def test_a_stack_among_the_arms_may_be_a_list(stack: str) -> None:
    from omegaconf import OmegaConf

    from hydra_plugins.study_plugins import StudySweeper

    arms = ["baseline", ["qkv_bias", "no_dropout"] if stack[0] == "[" else stack.strip('"')]
    planned = OmegaConf.create(
        {"study": {"arms": arms, "seeds": 1, "baseline_seeds": None}, "hydra": {}}
    )
    jobs = StudySweeper(None).jobs(planned, [f"study.arms=[baseline,{stack}]"])
    chosen = "study.arms=[baseline,qkv_bias+no_dropout]"
    assert jobs == [
        (chosen, "+intervention=[baseline]", "seed=0"),
        (chosen, "+intervention=[qkv_bias,no_dropout]", "seed=0"),
    ]


def test_cells_that_one_arm_and_seed_name_alike_are_pointed_out(tiny, capsys) -> None:
    from harness.study.plan import Cell, settle

    configs = [load([*tiny, f"train.batch_size={size}"]) for size in (8, 16)]
    settle([Cell(folder=locate(config), config=config) for config in configs], 2)
    err = capsys.readouterr().err
    words = (
        "warning: 2 cells of study adhoc are all baseline seed 0 and differ in train.batch_size: "
    )
    assert err.startswith(words)
    assert err.count("\n") == 1
    settle([Cell(folder=locate(c), config=c) for c in (load(tiny), load([*tiny, "seed=1"]))], 2)
    assert not capsys.readouterr().err
    cell.run(locate(configs[0]))
    capsys.readouterr()
    settle([Cell(folder=locate(configs[1]), config=configs[1])], 1)
    assert capsys.readouterr().err.startswith(words)
    (locate(configs[0]) / "config.yaml").write_text("of_another_version: 1\n")
    settle([Cell(folder=locate(configs[1]), config=configs[1])], 1)
    elsewhere = load([*tiny, "train.batch_size=16", "study_name=other"])
    settle([Cell(folder=locate(elsewhere), config=elsewhere)], 1)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("n_arms", "n", "n_baseline", "shared"),
    [(1, 3, 3, True), (1, 4, 4, True), (1, 3, 3, False), (1, 3, 2, True), (2, 2, 2, True),
     (2, 3, 3, True), (3, 2, 2, True), (3, 1, 1, True), (3, 1, 3, True), (3, 1, 4, True)],
)  # fmt: skip
def test_the_runner_knows_which_studies_the_analysis_must_leave_undecided(
    n_arms: int, n: int, n_baseline: int, shared: bool
) -> None:
    from analysis import compare
    from harness.study.plan import FEWEST_DF, degrees_of_freedom, seeds_for_verdicts
    from tests.analysis.studies import study as simulated

    deltas = {f"arm{i}": -0.5 for i in range(n_arms)}
    runs = simulated(deltas, n, n_baseline=n_baseline, shared=shared)
    df = degrees_of_freedom(list(zip(runs["arm"], map(str, runs["init_seed"]), strict=True)))
    verdicts = set(compare(runs, rope=0.01).table.query("arm != 'baseline'")["verdict"])
    assert verdicts == {"better" if df >= FEWEST_DF else "undecided"}
    enough = simulated(deltas, seeds_for_verdicts(n_arms + 1))
    assert "undecided" not in set(compare(enough, rope=0.01).table["verdict"])


def test_one_initialisation_alone_leaves_no_degrees_of_freedom() -> None:
    from harness.study.plan import degrees_of_freedom

    assert degrees_of_freedom([(arm, "0") for arm in ("baseline", "mine") for _ in range(5)]) == 0


def test_a_sweep_that_can_only_end_undecided_is_told_before_it_trains(tiny, capsys) -> None:
    from harness.study.plan import Cell, settle

    def warning(arms: list[str], n_seeds: int, *study: str) -> str:
        configs = [load([*tiny, *study, f"study_name=s{n_seeds}{len(arms)}{len(study)}",
                         f"+intervention={arm}", f"seed={seed}"])
                   for arm in arms for seed in range(n_seeds)]  # fmt: skip
        settle([Cell(folder=locate(config), config=config) for config in configs], len(configs))
        return capsys.readouterr().err

    two = ["baseline", "qkv_bias"]
    assert warning(two, 3) == (
        "warning: expect no verdict but undecided: the 6 runs of 2 arms leave 2 of the 3 degrees "
        "of freedom that it needs; 4 seeds of every arm are enough: 'seed=range(4)'\n"
    )
    assert warning(two, 3, "study.arms=[baseline,qkv_bias]").endswith("enough: study.seeds=4\n")
    assert not warning(two, 4)
    assert not warning(["baseline"], 1)
    assert "0 of the 3" in warning([*two, "no_dropout"], 1)
    assert not warning([*two, "[no_dropout,qkv_bias]"], 1)  # a screening design


def test_an_arm_that_is_planned_twice_is_refused(tiny) -> None:
    from harness.study.plan import Cell, settle

    configs = [load([*tiny, "study.arms=[baseline,baseline]"]) for _ in range(2)]
    with pytest.raises(ValueError, match=r"\(baseline seed 0\): name each arm of study.arms once"):
        settle([Cell(folder=locate(config), config=config) for config in configs], 2)


def test_status_counts_what_it_shows_and_lists_the_studies_of_a_folder(command, tmp_path) -> None:
    study = tmp_path / "runs" / "edited"
    for cell_id, source, status in (("a", "1", Status.COMPLETE), ("b", "2", Status.COMPLETE),
                                    ("c", "2", Status.FAILED)):  # fmt: skip
        seed = 1 if cell_id == "c" else 0
        record = RunRecord(
            study="edited", arm="mine", interventions=["mine"], cell=cell_id, n_steps=1,
            seeds=Seeds(init=seed, data=seed, loop=seed), status=status,
            losses=Losses(test=3.0), provenance=Provenance(sources={"f": source}),
            error="a, b, c " * 20, started=f"2026-01-{ord(cell_id)}",
        )  # fmt: skip
        write_record(study / "mine" / cell_id, record)
    counted = "1 complete, 1 failed"
    words = "not shown: 1 superseded (the arm was edited and asked for again)"
    one = command("harness.status", "runs/edited").stdout
    assert counted in one
    assert words in one
    assert "…" in one
    all_of_them = command("harness.status", "runs", COLUMNS="200").stdout
    assert all_of_them == f"runs/edited: {counted}; {words}\n"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), STUDY])
def test_a_signal_to_the_whole_group_saves_every_cell_and_exits_130(
    tmp_path, tiny, arguments
) -> None:
    launcher = launch(tmp_path, *tiny, *arguments, "train.tokens=2560000", "log.n_points=100",
                      "checkpoint.every_steps=0", "hardware.slots=1")  # fmt: skip
    wait_until(lambda: list(tmp_path.rglob("metrics.jsonl")))
    os.kill(launcher.pid, signal.SIGTERM)  # as `timeout` does it
    if arguments:
        os.killpg(launcher.pid, signal.SIGTERM)
    _, err = launcher.communicate(timeout=120)
    assert launcher.returncode == 130, err
    assert "run the same command again to go on" in err
    records = list(tmp_path.rglob("record.json"))
    assert {read_record(path).status for path in records} == {Status.PREEMPTED}
    assert all(list(path.parent.glob("checkpoints/*.pt")) for path in records), err
