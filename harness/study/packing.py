"""How many cells share a GPU: small models leave most of one idle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cell.console import say
from harness.config import Config
from harness.engine.machine import gpu_memory_bytes, visible_gpus
from harness.study.side_by_side import measure

if TYPE_CHECKING:
    from harness.cell.speed.step_timing import Trial

CANDIDATES = (2, 4, 8)
WORTHWHILE = 1.05
"""More cells at once must train so many times the tokens."""
CONTEXT_BYTES = 0.7e9
"""What a process takes of a GPU beside its tensors: CUDA's context and the kernels."""
USABLE = 0.9
"""Of a GPU's memory; the rest is for what differs between arms."""
DAEMON = "nvidia-cuda-mps-control"
PROBE = "import torch; torch.ones(1, device='cuda').sum().item()"
"""In some containers the service starts, and then no program finds it."""
PATIENCE_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Packing:
    """So many cells on each GPU, and what was measured."""

    n: int
    tokens_per_second: dict[int, float]
    """Of all cells of a GPU together, by their number."""

    def __str__(self) -> str:
        rates = ", ".join(f"{n}: {rate:,.0f}" for n, rate in self.tokens_per_second.items())
        return f"hardware.cells_per_gpu={self.n} (tokens/s of all cells on a GPU: {rates})"


@contextmanager
def sharing(config: Config) -> Iterator[int]:
    """Yield how many cells each GPU gets, and let them share it while this lasts."""
    n = config.hardware.cells_per_gpu
    gpus = visible_gpus() if config.hardware.device != "cpu" else []
    if not gpus:
        yield 1
        return
    with ExitStack() as stack:
        how = "alone" if n == 1 else stack.enter_context(shared_gpus())
        if isinstance(n, str):
            packing = choose(lambda k: measure(config, k), gpu_memory_bytes(gpus[0]))
            say(str(packing))
            n = packing.n
        if n == 1:
            stack.close()
        else:
            say(f"{n} cells on each GPU, {how}")
        yield n


def choose(trials_of: Callable[[int], list[Trial] | None], memory_bytes: float) -> Packing:
    """Return the number of cells that train the most tokens together."""
    alone = trials_of(1)
    if alone is None:  # the cell will say so
        return Packing(1, {})
    n_fit = USABLE * memory_bytes / (alone[0].memory_bytes + CONTEXT_BYTES)
    best, rates = 1, {1: alone[0].tokens_per_second}
    for n in CANDIDATES:
        trials = trials_of(n) if n <= n_fit else None
        if trials is None:
            break
        rates[n] = sum(trial.tokens_per_second for trial in trials)
        if rates[n] < WORTHWHILE * rates[best]:
            break
        best = n
    return Packing(best, rates)


@contextmanager
def shared_gpus() -> Iterator[str]:
    """Let cells that share a GPU compute at the same time; yields what came of it, in words.

    Without CUDA's multi-process service they take turns. One that runs already is used.
    """
    if "CUDA_MPS_PIPE_DIRECTORY" in os.environ:
        yield "under the multi-process service that runs here"
    elif shutil.which(DAEMON) is None:
        yield f"in turns: {DAEMON} is not here"
    else:
        with ExitStack() as stack:
            yield stack.enter_context(_service())


@contextmanager
def _service() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="mps-") as folder:
        for kind in ("PIPE", "LOG"):
            directory = Path(folder, kind.lower())
            directory.mkdir()
            os.environ[f"CUDA_MPS_{kind}_DIRECTORY"] = str(directory)
        why_not = _failure([DAEMON, "-d"])
        if not why_not:
            try:
                why_not = _failure([sys.executable, "-c", PROBE])
                if not why_not:
                    yield "under CUDA's multi-process service"
                    return
            finally:
                subprocess.run([DAEMON], input=b"quit\n", capture_output=True, check=False)
                _forget()
        _forget()
        yield f"in turns: {DAEMON} was tried, but {why_not!r}"


def _failure(command: list[str]) -> str:
    """Run a command; return the last line that it said if it failed, else nothing."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {PATIENCE_SECONDS} s"
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return (lines or [f"exit code {done.returncode}"])[-1] if done.returncode else ""


def _forget() -> None:
    for kind in ("PIPE", "LOG"):
        os.environ.pop(f"CUDA_MPS_{kind}_DIRECTORY", None)
