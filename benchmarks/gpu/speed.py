"""Stage speed: the step over number formats, compilation, micro-batches and kernels, and peers."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu import floors, peers, profile
from benchmarks.gpu.bench import Bench, cold_cache
from benchmarks.gpu.stage import Result, figures, nothing
from benchmarks.report import table
from harness.cell.speed.step_timing import Trial
from harness.study.side_by_side import measure

PLAIN = ("model.tie_weights=true", "model.dropout=0", "precision=amp_bf16")
"""The conditions in which others publish their speed."""
COMPILED = "hardware.compile=true"
COLUMNS = ("conditions", "way", "micro-batch")


@dataclass(frozen=True, slots=True)
class Way:
    """A row: who trains, in which conditions, how."""

    conditions: str
    way: str
    overrides: tuple[str, ...]
    micro_batch: int = 12
    peer: str = ""


def ways(bench: Bench) -> list[Way]:
    """Return the rows in order of what they teach: the stage may run out of time."""
    published = ("precision=amp_bf16", COMPILED)
    found = [
        Way("tied, no dropout", "ours", (*PLAIN, COMPILED)),
        *(Way("tied, no dropout", name, (*PLAIN, COMPILED), peer=name)
          for name in peers.PEERS if peers.available(name, bench)),
        Way("published, bf16", "ours", published),
        Way("published, bf16", "ours, again: a warm cache", published),
        Way("published, fp16 and scaler", "ours", ("precision=amp_fp16", COMPILED)),
        Way("published, bf16", "ours, not compiled", ("precision=amp_bf16",)),
    ]  # fmt: skip
    switches = {
        "attention: cudnn": ("hardware.attention=cudnn",),
        "attention: flash": ("hardware.attention=flash",),
        "CUDA graphs": ("hardware.compile_mode=reduce_overhead",),
        "max-autotune": ("hardware.compile_mode=max_autotune",),
    }
    found += [
        Way("tied, no dropout", f"ours, {name}", (*PLAIN, COMPILED, *more))
        for name, more in switches.items()
        if bench.on_gpu
    ]
    return found + [
        Way("tied, no dropout", "ours", (*PLAIN, COMPILED), micro_batch=size)
        for size in (24, 48)
        if bench.on_gpu
    ]


def run(bench: Bench) -> Result:
    """Measure one row after the other, each against the first, then say where the time goes."""
    rows, first, left_out = [], None, []
    with tempfile.TemporaryDirectory(prefix="inductor-") as folder, cold_cache(Path(folder)):
        where = profile.lines(bench.config("scale=gpt2_small", *PLAIN, *_eager(bench)))
        for way in ways(bench):
            if rows and not bench.in_time:
                left_out.append(f"{way.way} ({way.conditions}, {way.micro_batch})")
                continue
            trial, why = _measure(bench, way)
            first = first or trial
            names = (way.conditions, way.way, str(way.micro_batch))
            shown = figures(trial, first.tokens_per_second) if trial and first else nothing(why)
            rows.append(dict(zip(COLUMNS, names, strict=True)) | shown)
            print(" | ".join(rows[-1].values()), flush=True)
    parts = [table(rows), f"Where a step's time goes:\n\n```\n{where}\n```", floors.text()]
    if left_out:
        parts.append(f"Not measured, the time was over: {'; '.join(left_out)}.")
    return Result("\n\n".join(parts), failed=first is None)


def _eager(bench: Bench) -> tuple[str, ...]:
    return (COMPILED,) if bench.on_gpu else ()


def _measure(bench: Bench, way: Way) -> tuple[Trial | None, str]:
    overrides = [word for word in way.overrides if bench.on_gpu or word != COMPILED]
    try:
        config = bench.config("scale=gpt2_small", *overrides)
        if bench.on_gpu:
            config.hardware.micro_batch = way.micro_batch
        if way.peer:
            trial = peers.measure(way.peer, config, bench)
        else:
            trials = measure(config)
            trial = trials[0] if trials else None
    except Exception as error:  # a kernel or a peer that cannot run here must not cost the stage
        return None, f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
    return trial, "out of memory"
