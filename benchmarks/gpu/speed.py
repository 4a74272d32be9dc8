"""Stage speed: the step over number formats, compilation, micro-batches and kernels, and peers."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu import peers, profile
from benchmarks.gpu.bench import Bench, cold_cache
from benchmarks.gpu.stage import Result, figures, nothing
from benchmarks.gpu.turns import Meet, Outcome, in_turns
from benchmarks.report import table
from harness.cell.speed import step_timing
from harness.cell.speed.device import matmul_flops
from harness.cell.speed.step_timing import Trial

PLAIN = ("model.tie_weights=true", "model.dropout=0", "precision=amp_bf16")
"""The conditions in which others publish their speed."""
PUBLISHED = ("precision=amp_bf16",)
COMPILED = "hardware.compile=true"
COLUMNS = ("conditions", "way", "micro-batch")
SIDE_BY_SIDE = 5
"""Rows that are made ready at once; the largest takes about 30 GB of the GPU."""


@dataclass(frozen=True, slots=True)
class Way:
    """A row: who trains, in which conditions, how."""

    conditions: str
    way: str
    overrides: tuple[str, ...]
    micro_batch: int = 12
    peer: str = ""

    @property
    def names(self) -> tuple[str, str, str]:
        """The row's first columns."""
        return self.conditions, self.way, str(self.micro_batch)


def measure(bench: Bench, way: Way, meet: Meet) -> Trial | None:
    """Time the row at the published scale; None: memory ran out."""
    overrides = [word for word in way.overrides if bench.on_gpu or word != COMPILED]
    config = bench.config("scale=gpt2_small", *overrides)
    if bench.on_gpu:
        config.hardware.micro_batch = way.micro_batch
    if way.peer:
        return peers.measure(way.peer, config, bench.nanogpt, meet)
    return step_timing.run(config, meet)


def alone(bench: Bench) -> list[Way]:
    """Return the rows whose first step is timed, too: of an empty cache and of a full one."""
    ours = Way("published, bf16", "ours", (*PUBLISHED, COMPILED))
    again = Way("published, bf16", "ours, again: a warm cache", ours.overrides)
    return [Way("tied, no dropout", "ours", (*PLAIN, COMPILED)), ours, *[again] * bench.on_gpu]


def side_by_side(bench: Bench) -> list[Way]:
    """Return the other rows in order of what they teach: the stage may run out of time."""
    found = [
        *(Way("tied, no dropout", name, (*PLAIN, COMPILED), peer=name)
          for name in peers.PEERS if peers.available(name, bench)),
        Way("published, fp16 and scaler", "ours", ("precision=amp_fp16", COMPILED)),
        Way("published, bf16", "ours, not compiled", PUBLISHED),
    ]  # fmt: skip
    if not bench.on_gpu:
        return found
    switches = {
        "attention: cudnn": "hardware.attention=cudnn",
        "attention: flash": "hardware.attention=flash",
        "all logits at once": "hardware.head_rows=12288",
        "CUDA graphs": "hardware.compile_mode=reduce_overhead",
    }
    found += [
        Way("tied, no dropout", f"ours, {name}", (*PLAIN, COMPILED, switch))
        for name, switch in switches.items()
    ]
    larger = [Way("tied, no dropout", "ours", (*PLAIN, COMPILED), size) for size in (24, 48)]
    slowest = (*PLAIN, COMPILED, "hardware.compile_mode=max_autotune")
    return [*found, *larger, Way("tied, no dropout", "ours, max-autotune", slowest)]


def run(bench: Bench) -> Result:
    """Measure each row, show it against the first, then say where the time goes."""
    rows, first, found, fastest = [], None, set(), 0.0
    with tempfile.TemporaryDirectory(prefix="inductor-") as folder, cold_cache(Path(folder)):
        for way, outcome in _measured(bench):
            trial = outcome if isinstance(outcome, Trial) else None
            first = first or trial
            shown = figures(trial, first.tokens_per_second) if trial and first else nothing(outcome)
            if way not in alone(bench):
                shown["first step, s"] = ""  # beside others
            found.add(way)
            fastest = max(fastest, trial.mfu * trial.peak_flops if trial else 0.0)
            rows.append(dict(zip(COLUMNS, way.names, strict=True)) | shown)
            print(" | ".join(rows[-1].values()), flush=True)
        compiled = (COMPILED,) if bench.on_gpu else ()
        where = profile.lines(bench.config("scale=gpt2_small", *PLAIN, *compiled))
    parts = [
        table(rows),
        _product(bench, fastest),
        f"Where a step's time goes:\n\n```\n{where}\n```",
    ]
    if missing := [way for way in (*alone(bench), *side_by_side(bench)) if way not in found]:
        names = "; ".join(" ".join(way.names) for way in missing)
        parts.append(f"Not measured, the time was over: {names}.")
    return Result("\n\n".join(parts), failed=first is None)


def _product(bench: Bench, fastest: float) -> str:
    """Say what a large matrix product reaches in this number format, beside the fastest row."""
    config = bench.config("precision=amp_bf16")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        device = torch.device(bench.device)
        reached = pool.submit(matmul_flops, device, torch.bfloat16, config).result()
    return (
        f"A large bfloat16 matrix product reaches {reached / 1e12:.3g} TFLOP/s here, "
        f"the fastest row {fastest / reached:.0%} of that."
    )


def _measured(bench: Bench) -> Iterator[tuple[Way, Outcome]]:
    for ways, at_once in ((alone(bench), 1), (side_by_side(bench), SIDE_BY_SIDE)):
        jobs = [partial(measure, bench, way) for way in ways]
        for number, outcome in in_turns(jobs, at_once, bench.seconds_left):
            yield ways[number], outcome
