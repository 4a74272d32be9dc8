"""The parts of a machine that cells get."""

import os
from pathlib import Path

import pytest

from harness.engine import machine
from harness.study.slots import plan_slots
from tests.configs import load


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["hardware.slots=1000"], "hardware.slots=1000: this process may use"),
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


@pytest.mark.parametrize(
    ("own", "files", "n_slots"),
    [
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "400000 100000"}, 4),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/a/b", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/of/the/host", {"cpu.max": "250000 100000"}, 2),
        ("0::/", {"cpu.max": "9900000 100000"}, 8),
        (
            "5:cpu,cpuacct:/x\n4:memory:/x\n0::/",
            {"cpu/x/cpu.cfs_quota_us": "600000", "cpu/x/cpu.cfs_period_us": "100000"},
            6,
        ),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        (None, {}, 8),
    ],
)
def test_a_container_gets_as_many_slots_as_its_quota_keeps_busy(
    own, files, n_slots, tmp_path: Path, monkeypatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    if own is not None:
        (tmp_path / "own").write_text(f"{own}\n")
    monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(machine, "GROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    slots = plan_slots(load(["hardware=cpu"]).hardware)
    assert len(slots) == n_slots
    confined = [slot.cores for slot in slots if slot.cores]
    assert confined == ([(i,) for i in range(8)] if n_slots == 8 else [])


@pytest.mark.parametrize(
    ("own", "n_cores", "n_devices", "expected"),
    [(None, 16, 1, "2"), (None, 16, 2, "2"), (None, 4, 1, "1"), ("5", 16, 1, "5")],
)
def test_processes_that_compile_at_once_share_the_cores(
    own, n_cores, n_devices, expected, monkeypatch
) -> None:
    variable = "TORCHINDUCTOR_COMPILE_THREADS"
    monkeypatch.setenv(variable, own or "")
    if own is None:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(n_cores)))
    hardware = load(["hardware=auto", f"hardware.n_devices={n_devices}"]).hardware
    slots = plan_slots(hardware, cells_per_gpu=2)
    assert len(slots) == 8 // n_devices
    slots[0].occupy()
    assert os.environ[variable] == expected
