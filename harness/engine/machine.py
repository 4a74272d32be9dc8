"""What a process may use of this machine, found without importing torch: cores, memory, GPUs."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

OWN_GROUPS, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
MEMORY = Path("/proc/meminfo")
_GPU_NAME = re.compile(r"\d+|(GPU|MIG)-.+")


def allowed_cores() -> list[int]:
    """Return the CPU cores that this process may be scheduled on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def n_cores() -> int:
    """Return how many CPU cores this process may keep busy.

    A container with a quota sees all cores of its host, and may use the time of a few.
    """
    return max(1, min([len(allowed_cores()), *map(math.floor, _quotas())]))


def _quotas() -> Iterator[float]:
    """Yield the cores' worth of CPU time that each control group of this process may use.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst (cpu.max) and
    scheduler/sched-bwc.rst (cpu.cfs_quota_us).
    """
    for group, of_version_1 in _control_groups("cpu"):
        names = ["cpu.cfs_quota_us", "cpu.cfs_period_us"] if of_version_1 else ["cpu.max"]
        with suppress(OSError, ValueError):  # a container does not see its host's; "max"
            quota, period = " ".join((group / name).read_text() for name in names).split()
            if int(quota) > 0:
                yield int(quota) / int(period)


def free_memory_bytes() -> float:
    """Return the memory that this process and its children may still take, infinite if unknown.

    A container with a limit sees all memory of its host, and is killed beyond its own.
    """
    return max(0.0, min([_host_memory(), *_memory_left()]))


def _host_memory() -> float:
    text = MEMORY.read_text(encoding="utf-8") if MEMORY.exists() else ""
    found = re.search(r"^MemAvailable:\s*(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024.0 if found else math.inf


def _memory_left() -> Iterator[float]:
    """Yield what each control group of this process leaves of its limit.

    What it holds of files is taken back before anybody is killed, so only that used lately counts.
    Source: Linux, Documentation/admin-guide/cgroup-v2.rst (memory.max, memory.stat) and
    cgroup-v1/memory.rst.
    """
    for group, of_version_1 in _control_groups("memory"):
        limit, used, idle = "memory.max", "memory.current", "inactive_file"
        if of_version_1:
            limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
            idle = "total_inactive_file"
        with suppress(OSError, ValueError, KeyError):  # a container does not see its host's; "max"
            most, taken = (int((group / name).read_text()) for name in (limit, used))
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            yield float(most - taken + int(stat[idle]))


def _control_groups(controller: str) -> Iterator[tuple[Path, bool]]:
    """Yield the folders of this process's groups, inner to outer; True: they are of version 1."""
    lines = OWN_GROUPS.read_text().splitlines() if OWN_GROUPS.exists() else []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers and controller not in controllers.split(","):
            continue
        top = GROUPS / controller if controllers else GROUPS
        own = top / path.lstrip("/")
        for group in (g for g in (own, *own.parents) if g.is_relative_to(top)):
            yield group, bool(controllers)


def share_cores(n_processes: int) -> None:
    """Let the compiler of each of so many processes use its part of the cores.

    Left alone, each of them starts up to 32 more. A user's own number is obeyed.
    """
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(max(1, n_cores() // n_processes)))


def under_torchrun() -> bool:
    """Tell whether torchrun started this process.

    RANK and WORLD_SIZE alone do not say so: operators that train on clusters set them in every pod.
    """
    return "TORCHELASTIC_RUN_ID" in os.environ


def visible_gpus() -> list[str]:
    """Return the visible GPUs, or the slices of divided ones, by index or UUID; no torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        return list(takewhile(_GPU_NAME.fullmatch, names))  # as CUDA reads it
    if shutil.which("nvidia-smi") is None:  # some containers have the devices alone
        return [str(i) for i, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    gpus = re.split(r"^GPU ", done.stdout, flags=re.MULTILINE)[1:]
    slices = [re.findall(r"UUID: (MIG-[^)]+)", gpu) for gpu in gpus]
    found = [name for i, own in enumerate(slices) for name in own or [str(i)]]
    return [] if done.returncode else found


def gpu_memory_bytes(gpu: str) -> float:
    """Return a GPU's memory, infinite where nobody can say."""
    if shutil.which("nvidia-smi") is None:
        return math.inf
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits", "-i", gpu]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    mebibytes = done.stdout.strip()
    return float(mebibytes) * 2**20 if mebibytes.isdecimal() else math.inf
