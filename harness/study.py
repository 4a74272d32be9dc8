"""Run many cells on this machine: each in its own process, forked from one that has the imports.

A failing cell never stops its neighbours; a finished one is skipped.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from pathlib import Path

from harness.config import Config, ConfigError
from harness.freeze import describe, finished_record, freeze
from harness.log import LOG_FILE
from harness.records import Status, StudyPlan, now, read_record, write_plan


class StudyFailed(Exception):  # noqa: N818 - an outcome: the failures have been listed
    """At least one cell failed."""


@dataclass(kw_only=True, slots=True)
class _Job:
    folder: Path
    config: Config
    slot: int = 0
    process: multiprocessing.process.BaseProcess | None = None


def run_study(configs: Sequence[Config]) -> None:
    """Freeze every cell, then run those without a result, as many at once as there are slots.

    Raises
    ------
    ConfigError
        There is no cell, or two of one study would be the same.
    StudyFailed
        Some cells failed; the others are complete.
    """
    if not configs:
        raise ConfigError("an empty sweep: name at least one arm and one seed")
    jobs = [_Job(folder=freeze(config), config=config) for config in configs]
    _refuse_twins(jobs)
    if configs[0].study.arms:
        _write_plan(jobs)
    todo = []
    for job in jobs:
        done = finished_record(job.folder, job.config)
        if done is None:
            todo.append(job)
        else:
            _say(f"skipped, already {describe(done, job.folder)}")
    slots = count_slots(configs[0])
    if todo:
        _say(f"{len(todo)} cells to train, {min(slots, len(todo))} at a time")
        _run(todo, slots)
    _summarise(jobs)


def count_slots(config: Config) -> int:
    """Return how many cells run at once: one per GPU, or per `hardware.threads` CPU cores."""
    hardware = config.hardware
    if hardware.slots is not None:
        return hardware.slots
    n_gpus = len(_gpus()) if hardware.device in ("auto", "cuda") else 0
    return n_gpus or max(1, len(os.sched_getaffinity(0)) // hardware.threads)


def _gpus() -> list[str]:
    """Return the indices of the visible GPUs, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [index for index in visible.split(",") if index]
    if shutil.which("nvidia-smi") is None:
        return []
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(i) for i, _ in enumerate(done.stdout.splitlines())] if not done.returncode else []


def _run(todo: list[_Job], slots: int) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", str(todo[0].config.hardware.threads))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["harness.cell", "torch._dynamo"])  # the optimiser imports it
    gpus, free = _gpus(), list(range(slots))
    waiting, started = list(todo), time.perf_counter()
    running: list[_Job] = []
    finished = 0
    try:
        while waiting or running:
            while waiting and free:
                job = waiting.pop(0)
                job.slot = free.pop(0)
                gpu = gpus[job.slot % len(gpus)] if gpus else None
                job.process = context.Process(target=_run_cell, args=(job.folder, gpu))
                job.process.start()
                running.append(job)
            wait([job.process.sentinel for job in running if job.process])
            for job in [job for job in running if job.process and not job.process.is_alive()]:
                running.remove(job)
                free.append(job.slot)
                finished += 1
                left = _time_left(started, finished, len(todo) - finished)
                _say(f"[{finished}/{len(todo)}] {_outcome(job)}  ({left} left)")
    except KeyboardInterrupt:
        _say("stopping: every running cell saves its state first")
        for job in running:
            if job.process is not None:
                job.process.join()
        raise


def _run_cell(folder: Path, gpu: str | None) -> None:
    """Child process: everything it prints goes to the cell's log."""
    log = os.open(folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    from harness.cell import report

    sys.exit(report(folder))


def _outcome(job: _Job) -> str:
    try:
        return describe(read_record(job.folder), job.folder)
    except ValueError:
        log = job.folder / LOG_FILE
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return f"failed: {job.config.arm}: {lines[-1] if lines else 'no output'}; {log}"


def _time_left(started: float, n_done: int, n_left: int) -> str:
    return f"{(time.perf_counter() - started) / n_done * n_left / 60:.1f} min"


def _summarise(jobs: list[_Job]) -> None:
    records = [read_record(job.folder) for job in jobs if (job.folder / "record.json").exists()]
    counts = Counter(record.status.value for record in records)
    missing = len(jobs) - len(records)
    text = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    study = jobs[0].folder.parent.parent
    _say(f"{text}{f', {missing} without a record' if missing else ''}; {study}")
    bad = [job for job in jobs if not _has_result(job.folder)]
    if bad:
        for job in bad:
            _say(f"  {_outcome(job)}")
        raise StudyFailed(f"{len(bad)} of {len(jobs)} cells have no result: run it again to retry")


def _has_result(folder: Path) -> bool:
    try:
        return read_record(folder).status in (Status.COMPLETE, Status.DIVERGED)
    except ValueError:
        return False


def _refuse_twins(jobs: list[_Job]) -> None:
    counts = Counter(job.folder for job in jobs)
    twins = [folder for folder, count in counts.items() if count > 1]
    if twins:
        raise ConfigError(
            f"{counts[twins[0]]} cells of this sweep are the same one ({twins[0].parent.name}): "
            "sweep over something that changes the training, for example 'seed=range(3)'"
        )


def _write_plan(jobs: list[_Job]) -> None:
    config = jobs[0].config
    cells = [
        {"arm": job.config.arm, "seeds": asdict(job.config.seeds), "cell": job.folder.name}
        for job in jobs
    ]
    plan = StudyPlan(
        study=config.study_name,
        alpha=config.study.alpha,
        rope=config.study.rope,
        cells=cells,
        created=now(),
    )
    write_plan(jobs[0].folder.parent.parent, plan)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
