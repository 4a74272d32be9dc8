"""Stage packing: how many tokens several cells on one GPU train together."""

from __future__ import annotations

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.stage import Result
from benchmarks.report import table
from harness.config import Config
from harness.study.packing import shared_gpus
from harness.study.side_by_side import measure

SMALL = ("scale=proxy", "data=stdlib_docs", "model.vocab_size=4096", "precision=amp_bf16")
"""A proxy with a small vocabulary: 12M parameters in 6 layers of 384."""
STUDY_CELLS, STUDY_TOKENS = 50, 200e6
"""Ten arms with five seeds each."""


def run(bench: Bench) -> Result:
    """Time 1, 2, 4 and 8 cells side by side, in turns and under the multi-process service."""
    config = bench.config(*SMALL, f"hardware.compile={bench.on_gpu}")
    found = []
    with shared_gpus() as how:
        for n in (1, 2, 4, 8) if bench.on_gpu else (1, 2):
            if not found or bench.in_time:
                found.append(row(config, n, how))
                print(" | ".join(found[-1].values()), flush=True)
    if bench.on_gpu and "under" in how and bench.in_time:
        found.append(row(config, 4, "in turns"))
    return Result(table(found), failed=not any(line["all, tokens/s"] for line in found))


def row(config: Config, n: int, how: str) -> dict[str, str]:
    """Time so many cells; the last column is a whole study of this model."""
    trials = measure(config, n)
    line = {"cells": str(n), "how they share": how if n > 1 else "alone"}
    if trials is None:
        return line | {"all, tokens/s": "", "MFU": "out of memory", "study, minutes": ""}
    rate = sum(trial.tokens_per_second for trial in trials)
    return line | {
        "all, tokens/s": f"{rate:,.0f}",
        "MFU": f"{sum(trial.mfu for trial in trials):.1%}",
        "study, minutes": f"{STUDY_CELLS * STUDY_TOKENS / rate / 60:.0f}",
    }
