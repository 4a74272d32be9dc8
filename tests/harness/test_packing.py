"""Several cells on one GPU."""

import math
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cell.speed.step_timing import Trial
from harness.engine.machine import gpu_memory_bytes
from harness.study import packing
from harness.study.side_by_side import measure
from harness.study.slots import plan_slots
from tests.configs import load

ONE = Trial(
    tokens_per_second=100.0, eval_tokens_per_second=400.0, mfu=0.1, peak_flops=1e12,
    memory_bytes=8 * 10**9, first_step_seconds=1.0,
)  # fmt: skip


def gpu_where(speeds: dict[int, float]):
    """A GPU on which so many cells train so many times the tokens of one; memory ends behind."""

    def trials_of(n: int) -> list[Trial] | None:
        speed = speeds.get(n)
        return speed and [replace(ONE, tokens_per_second=100.0 * speed / n)] * n

    return trials_of


@pytest.mark.parametrize(
    ("speeds", "memory", "best"),
    [
        ({1: 1, 2: 1.8, 4: 3, 8: 4}, 80e9, 8),
        ({1: 1, 2: 1.8, 4: 1.85, 8: 9}, 80e9, 2),
        ({1: 1, 2: 1.02}, 80e9, 1),
        ({1: 1, 2: 1.8, 4: 3, 8: 4}, 40e9, 4),
        ({1: 1, 2: 1.8}, 80e9, 2),
        ({1: 1, 2: 1.8}, math.inf, 2),
        ({}, 80e9, 1),
    ],
    ids=[
        "all gain",
        "no more gain",
        "none",
        "memory forecast",
        "out of memory",
        "memory unknown",
        "one is too large",
    ],
)
def test_as_many_cells_share_a_gpu_as_gain_by_it(speeds, memory, best) -> None:
    assert packing.choose(gpu_where(speeds), memory).n == best


def test_slots_go_round_the_gpus(monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    hardware = load(["hardware=auto"]).hardware
    assert [slot.gpus[0] for slot in plan_slots(hardware, 2)] == ["4", "7", "4", "7"]
    one_gpu = load(["hardware=auto", "hardware.device=cuda:1"]).hardware
    assert len(plan_slots(one_gpu, 3)) == 3


def program(folder, name: str, text: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    return tmp_path


@pytest.fixture
def service(two_gpus, monkeypatch):
    """A service that can be reached; what it was told is in this file."""
    log = two_gpus / "log"
    program(
        two_gpus, packing.DAEMON, f'echo "$1 $(cat) $CUDA_MPS_PIPE_DIRECTORY" </dev/stdin >>{log}'
    )
    monkeypatch.setattr(packing, "PROBE", "")
    return log


def test_the_service_runs_while_cells_share_and_ends_with_them(service, capsys) -> None:
    with packing.sharing(load(["hardware=auto", "hardware.cells_per_gpu=2"])) as n:
        assert n == 2
        pipes = os.environ["CUDA_MPS_PIPE_DIRECTORY"]
        assert Path(pipes).is_dir()
    assert "2 cells on each GPU, under CUDA's multi-process service" in capsys.readouterr().err
    started, ended = service.read_text().splitlines()
    assert started.split() == ["-d", pipes]
    assert ended.split() == ["quit", pipes]
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
    assert not Path(pipes).exists()


def test_a_service_that_cannot_start_is_said_and_cells_take_turns(two_gpus, capsys) -> None:
    program(two_gpus, packing.DAEMON, "echo no permission >&2; exit 1")
    with packing.sharing(load(["hardware=auto", "hardware.cells_per_gpu=2"])) as n:
        assert (n, os.environ.get("CUDA_MPS_PIPE_DIRECTORY")) == (2, None)
    assert "in turns" in (said := capsys.readouterr().err)
    assert "no permission" in said


def test_a_service_that_says_nothing_is_described_by_its_exit_code(two_gpus) -> None:
    program(two_gpus, packing.DAEMON, "exit 3")
    with packing.shared_gpus() as how:
        assert how == "in turns: nvidia-cuda-mps-control was tried, but 'exit code 3'"


@pytest.mark.parametrize(("speed_of_two", "n"), [(1.9, 2), (1.0, 1)])
def test_cells_are_measured_as_they_will_run(speed_of_two, n, service, monkeypatch) -> None:
    served = []

    def measured(config, k):
        served.append("CUDA_MPS_PIPE_DIRECTORY" in os.environ)
        return gpu_where({1: 1, 2: speed_of_two, 4: 1})(k)

    monkeypatch.setattr(packing, "measure", measured)
    with packing.sharing(load(["hardware=auto", "hardware.cells_per_gpu=auto"])) as found:
        assert found == n
        assert ("CUDA_MPS_PIPE_DIRECTORY" in os.environ) == (n > 1)
    assert served
    assert all(served)


def test_a_service_that_no_program_reaches_is_ended_and_cells_take_turns(
    service, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(packing, "PROBE", "raise SystemExit('mapping of buffer object failed')")
    with packing.sharing(load(["hardware=auto", "hardware.cells_per_gpu=2"])) as n:
        assert (n, os.environ.get("CUDA_MPS_PIPE_DIRECTORY")) == (2, None)
        assert [line.split()[0] for line in service.read_text().splitlines()] == ["-d", "quit"]
    said = capsys.readouterr().err
    assert "in turns: nvidia-cuda-mps-control was tried" in said
    assert "mapping of buffer object failed" in said


def test_alone_nothing_is_started_and_a_cpu_is_not_asked(two_gpus) -> None:
    program(two_gpus, packing.DAEMON, f"touch {two_gpus}/started")
    with packing.sharing(load(["hardware=auto"])) as n:
        assert n == 1
    with packing.sharing(load(["hardware=cpu", "hardware.cells_per_gpu=auto"])) as n:
        assert n == 1
    assert not (two_gpus / "started").exists()


def test_memory_is_read_from_the_driver_and_unknown_without_it(two_gpus, monkeypatch) -> None:
    program(two_gpus, "nvidia-smi", 'test "$4" = 1 && echo 81559')
    assert gpu_memory_bytes("1") == 81559 * 2**20
    assert gpu_memory_bytes("0") == float("inf")
    monkeypatch.setenv("PATH", "")
    assert gpu_memory_bytes("1") == float("inf")


def test_another_word_than_auto_is_refused() -> None:
    with pytest.raises(ValueError, match=r"hardware\.cells_per_gpu=many: a number, or auto"):
        load(["hardware.cells_per_gpu=many"])


@pytest.mark.slow
def test_cells_side_by_side_are_timed_in_the_same_seconds() -> None:
    tiny = ["model.n_layer=1", "model.n_head=2", "model.n_embd=16", "model.block_size=16"]
    trials = measure(load([*tiny, "train.batch_size=2", "hardware=cpu"]), 2)
    assert trials is not None
    assert len(trials) == 2
    assert all(trial.tokens_per_second > 0 for trial in trials)
