"""Memory decides how many cells train at once on a CPU."""

import math
import os
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.config import Config
from harness.engine import machine, memory
from harness.engine.machine import free_memory_bytes
from harness.study.room import estimate, in_memory
from harness.study.side_by_side import memory_of_a_cell
from harness.study.slots import Slot, plan_slots
from tests.configs import load

GB = 10**9
HOST = {"meminfo": "MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n"}
MAX, IDLE = 9223372036854771712, "inactive_file 0"
"""Version 1's word for no limit; a group that holds no files."""


def machine_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    """Let the machine's files be these; ``own`` lists the process's control groups."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(machine, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(machine, "GROUPS", tmp_path)
    monkeypatch.setattr(machine, "MEMORY", tmp_path / "meminfo")


def version_2(folder: str, limit: object, used: int, stat: str = IDLE) -> dict[str, str]:
    names = ("memory.max", "memory.current", "memory.stat")
    return {f"{folder}{n}": str(v) for n, v in zip(names, (limit, used, stat), strict=True)}


def version_1(folder: str, limit: int, used: int, stat: str) -> dict[str, str]:
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
    return {f"memory{folder}{n}": str(v) for n, v in zip(names, (limit, used, stat), strict=True)}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, math.inf),
        (HOST, 8_192_000_000),
        ({"own": "0::/", **version_2("", "max", 5)}, math.inf),
        ({**HOST, "own": "0::/", **version_2("", 3 * GB, GB)}, 2 * GB),
        ({**HOST, "own": "0::/", **version_2("", 30 * GB, GB)}, 8_192_000_000),
        ({"own": "0::/", **version_2("", 3 * GB, 3 * GB, f"file {GB}\ninactive_file 5")}, 5),
        ({"own": "0::/", **version_2("", GB, 2 * GB)}, 0),
        ({"own": "0::/", "memory.max": "7"}, math.inf),
        ({"own": "0::/a/b", **version_2("a/", 4 * GB, GB), **version_2("a/b/", "max", GB)}, 3 * GB),
        ({"own": "0::/of/the/host", **version_2("", 2 * GB, GB)}, GB),
        ({"own": "5:cpu:/x\n4:memory:/x", **version_1("/x/", 3 * GB, 2 * GB,
          f"inactive_file 1\ntotal_inactive_file {GB}")}, 2 * GB),
        ({**HOST, "own": "4:memory:/", **version_1("/", MAX, 5, "total_inactive_file 0")},
         8_192_000_000),
    ],
)  # fmt: skip
def test_free_memory_is_what_the_host_and_every_control_group_leave(
    files, free, tmp_path: Path, monkeypatch
) -> None:
    machine_with(tmp_path, monkeypatch, files)
    assert free_memory_bytes() == free


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that gives this process eight cores and so much memory."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))

    def with_memory(n_bytes: float) -> None:
        machine_with(tmp_path, monkeypatch, {"own": "0::/", **version_2("", int(n_bytes), 0)})

    return with_memory


def never(config: Config) -> int:
    raise AssertionError("measured for nothing")


def slots_for(configs: list[Config], measured=never) -> list[Slot]:
    return in_memory(plan_slots(configs[0].hardware), configs, measured)


def test_no_more_cells_start_than_memory_holds_and_a_line_says_so(tiny, container, capsys) -> None:
    configs = [load([*tiny, f"seed={seed}"]) for seed in range(8)]
    found = {}
    for free in (2, 4, 8):
        container(free * GB)
        found[free] = len(slots_for(configs, lambda _: GB))
    assert found == {2: 1, 4: 3, 8: 6}
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"{n} cell(s) at a time, not 8: each takes 1.1 GB of memory, and 90% of the free {free} GB "
        "may be used (a smaller hardware.micro_batch takes less; hardware.slots=N starts N in any "
        "case)"
        for free, n in found.items()
    ]


def test_a_cell_that_does_not_fit_at_all_is_tried_alone(tiny, container, capsys) -> None:
    container(GB)
    configs = [load([*tiny, f"seed={seed}"]) for seed in range(3)]
    assert len(slots_for(configs, lambda _: None)) == 1
    assert "1 cell(s) at a time, not 3: each takes more than 1 GB" in capsys.readouterr().err
    assert len(slots_for(configs, lambda _: 10 * GB)) == 1


def test_what_surely_fits_is_not_measured_nor_what_somebody_has_set(
    tiny, container, monkeypatch, capsys
) -> None:
    two = [load([*tiny, f"seed={seed}"]) for seed in range(2)]
    container(100 * GB)
    assert len(slots_for(two)) == 8
    container(GB)
    assert len(slots_for(two[:1])) == 8
    assert len(slots_for([load([*tiny, "hardware.slots=3", f"seed={i}"]) for i in (0, 1)])) == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert len(slots_for([load([*tiny, "hardware.device=auto", f"seed={i}"]) for i in (0, 1)])) == 2
    assert capsys.readouterr().err == ""


def test_the_largest_cell_is_measured(tiny, container) -> None:
    small, wide, many = (load([*tiny, *more]) for more in (
        [], ["model.n_embd=64"], ["train.batch_size=512", "train.tokens=1e6"]
    ))  # fmt: skip
    container(GB)
    seen: list[Config] = []
    for configs in ([small, wide], [many, small, wide]):
        in_memory(plan_slots(small.hardware), configs, lambda config: seen.append(config) or 0)
    assert seen == [wide, many]


def test_an_estimate_grows_with_what_a_cell_holds_at_once(tiny) -> None:
    sizes = {
        name: estimate(load([*tiny, *more]))
        for name, more in {
            "plain": [],
            "half": ["hardware.micro_batch=2"],
            "deeper": ["model.n_layer=4"],
            "two devices": ["hardware.n_devices=2"],
        }.items()
    }
    assert sizes["half"] < sizes["plain"] < sizes["deeper"] < sizes["two devices"]


@pytest.mark.slow
def test_the_measured_memory_of_a_cell_is_near_its_estimate() -> None:
    wide = load(["scale=demo", "hardware=cpu", "model.n_embd=256", "train.batch_size=64"])
    own = memory_of_a_cell(wide)
    assert own is not None
    assert 0.5 < own / estimate(wide) < 2
    broken = load(["scale=demo", "hardware=cpu", "model.mlp._target_=builtins.float"])
    assert memory_of_a_cell(broken) == 0


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_what_a_process_held_is_counted_in_the_systems_unit(
    platform, unit, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=3_000))
    assert memory.peak_resident_bytes() == 3_000 * unit


def test_what_a_process_held_is_its_own_and_not_its_parents() -> None:
    held = bytearray(os.urandom(1 << 20)) * 400
    program = "from harness.engine.memory import peak_resident_bytes as p; print(p())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert 10**6 < int(done.stdout) < len(held) < memory.peak_resident_bytes()
