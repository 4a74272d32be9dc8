"""Stage study: what a user sees on a GPU, from the sweep to the table; noise and pairing there."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.gpu.bench import DEMO, ROOT, Bench
from benchmarks.gpu.stage import Result

ARMS = "study.arms=[baseline,no_dropout,weight_tying]"
PROXY = ["scale=proxy", "data=stdlib_docs", "precision=amp_bf16", "train.tokens=6_553_600",
         "eval.test_sequences=512", "eval.val_sequences=64", "eval.n_val=5", "optim.lr=1e-3",
         "hardware.compile=true", "hardware.cells_per_gpu=auto"]  # fmt: skip
TRIAL = [*DEMO, "train.tokens=10240", "eval.test_sequences=16"]


def run(bench: Bench) -> Result:
    """Train three arms with three seeds, with and without deterministic kernels; show the table."""
    parts, failed = [], False
    with tempfile.TemporaryDirectory() as folder:
        for deterministic in (True, False):
            if parts and not bench.in_time:
                parts.append("The other way was not tried: the time was over.")
                break
            result = _study(bench, Path(folder), deterministic)
            parts.append(result.text)
            failed |= result.failed
    return Result("\n\n".join(parts), failed)


def _study(bench: Bench, folder: Path, deterministic: bool) -> Result:
    name = "deterministic" if deterministic else "as_fast_as_it_goes"
    scale = [f"hardware.device={bench.device}", *PROXY] if bench.on_gpu else TRIAL
    start = time.monotonic()
    trained = _command("harness", "+study=demo", *scale, ARMS, "study.seeds=3",
                       f"study_name={name}", f"hardware.deterministic={deterministic}",
                       f"runs_dir={folder}", f"data_dir={folder / 'data'}")  # fmt: skip
    minutes = (time.monotonic() - start) / 60
    if trained.returncode:
        return Result(f"```\n{trained.stderr[-1500:]}\n```", failed=True)
    table = _command("analysis", str(folder / name))
    said = [line for line in trained.stderr.splitlines() if "cells_per_gpu" in line]
    text = "\n".join([f"{name}, {minutes:.1f} minutes", *said, table.stdout.strip()])
    return Result(f"```\n{text}\n```", failed=table.returncode != 0)


def _command(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
