"""Measure how fast documents become token files, and that memory does not grow with them.

    python benchmarks/tokenise.py [--tokenizer gpt2] [--million-tokens 60] [--threads N]

Feeds the standard library's prose over and over through the code that prepares every corpus,
onto the disk below the temporary folder. Prints tokens per second and the peak of resident memory
after a quarter of the work and at its end.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from harness.config import DataConfig, Tokenizer
from harness.data.build import build
from harness.data.stdlib_docs import documents
from harness.data.tokens import batched
from harness.engine.machine import n_cores
from harness.engine.memory import peak_resident_bytes


class Meter:
    """Notes when a quarter of the work is done, and the memory used until then."""

    def __init__(self, target_tokens: int) -> None:
        self.target_tokens = target_tokens
        self.tokens = 0
        self.quarter_mib = 0.0

    def __call__(self, tokens: int, _frac: float | None) -> None:
        self.tokens = tokens
        if not self.quarter_mib and tokens > self.target_tokens / 4:
            self.quarter_mib = peak_mib()


def peak_mib() -> float:
    return peak_resident_bytes() / 2**20


def endless(texts: list[str]) -> Iterator[tuple[str, float]]:
    while True:
        for text in texts:
            yield text, 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", choices=[item.name for item in Tokenizer], default="gpt2")
    parser.add_argument("--million-tokens", type=int, default=60)
    parser.add_argument("--threads", type=int, default=n_cores())
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: options.threads]))
    texts = [text for text, _ in documents() if text]
    target = options.million_tokens * 1_000_000
    meter = Meter(target)
    config = DataConfig(tokenizer=Tokenizer[options.tokenizer], max_tokens=target)
    with tempfile.TemporaryDirectory() as folder:
        start, cpu_start = time.perf_counter(), time.process_time()
        build(Path(folder), config, lambda _: batched(endless(texts)), meter)
        seconds = time.perf_counter() - start
        cores_used = (time.process_time() - cpu_start) / seconds
    print(
        f"{options.tokenizer}: {meter.tokens / 1e6:.1f} M tokens in {seconds:.1f} s = "
        f"{meter.tokens / seconds / 1e6:.2f} Mtok/s with {n_cores()} threads "
        f"on {cores_used:.2f} cores (splitting, writing and hashing included)"
    )
    print(
        f"peak memory {meter.quarter_mib:.0f} MiB after a quarter, {peak_mib():.0f} MiB at end; "
        f"Python {platform.python_version()}, {platform.machine()}"
    )


if __name__ == "__main__":
    main()
