"""Measure on a GPU what a study there depends on: speed, arms, time to the first step.

    python -m benchmarks.gpu [--scale gpt2_small] [--micro-batch 12] [--arms NAME,NAME] [--write]

Each line is a process of its own that trains a few steps on random tokens
(`harness.cell.step_timing`):
the baseline in bfloat16 and in float16 with a loss scaler, compiled and not, and then every arm
of the catalogue compiled in bfloat16. The first compiled line of a format finds a cold cache; the
repeated one finds a warm one. MFU is against a matrix product measured in the same process.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile

from benchmarks.report import machine, table, write_section
from harness.cell.step_timing import Trial
from harness.config import ConfigError
from harness.config.compose import load
from harness.records.files import CONF_DIR
from harness.throughput import measure_apart

OTHER_FORMAT = ("no_amp",)
"""Arms that train in another number format than the one compared here."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", default="gpt2_small")
    parser.add_argument("--micro-batch", type=int, default=12)
    parser.add_argument("--arms", help="default: the catalogue")
    parser.add_argument("--device", default="cuda", help="cpu tries the command out, uncompiled")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args()
    rows = []
    cache = tempfile.TemporaryDirectory(prefix="inductor-")  # cold, whatever ran here before
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache.name
    for precision, compiled in (
        ("amp_bf16", True), ("amp_bf16", True), ("amp_bf16", False), ("amp_fp16", True),
        ("amp_fp16", False),
    ):  # fmt: skip
        rows.append(line(options, "baseline", precision, compiled, rows))
    for arm in options.arms.split(",") if options.arms else catalogue():
        rows.append(line(options, arm, "amp_bf16", True, rows))
    text = f"{table([row for row, _ in rows])}\n\n{device_name(options.device)}; {machine('torch')}"
    print(f"\n{text}")
    if options.write:
        write_section("gpu", text)


def catalogue() -> list[str]:
    names = sorted(path.stem for path in (CONF_DIR / "intervention").glob("*.yaml"))
    return [name for name in names if name not in ("baseline", *OTHER_FORMAT)]


def line(
    options: argparse.Namespace, arm: str, precision: str, compiled: bool, done: list
) -> tuple[dict[str, str], Trial | None]:
    """Measure one way; return its row, with the speed against the first baseline that ran."""
    compiled = compiled and options.device != "cpu"
    overrides = [
        f"scale={options.scale}",
        f"precision={precision}",
        f"hardware.device={options.device}",
        f"hardware.compile={compiled}",
        *([] if arm == "baseline" else [f"+intervention={arm}"]),
    ]
    row = {"arm": arm, "precision": precision, "compiled": str(compiled)}
    try:
        config = load(overrides)
    except ConfigError as error:
        print(f"{arm}: left out: {error}", flush=True)
        return row | dict.fromkeys(COLUMNS, "left out"), None
    config.hardware.micro_batch = math.gcd(options.micro_batch, config.train.batch_size)
    trial = measure_apart(config)
    if trial is None:
        return row | dict.fromkeys(COLUMNS, "out of memory"), None
    first = next((t for _, t in done if t is not None), trial)
    values = (
        f"{config.hardware.micro_batch}",
        f"{trial.tokens_per_second:,.0f}",
        f"{trial.tokens_per_second / first.tokens_per_second:.2f}",
        f"{trial.mfu:.0%}",
        f"{trial.memory_bytes / 1e9:.1f}",
        f"{trial.first_step_seconds:.1f}",
    )
    row |= dict(zip(COLUMNS, values, strict=True))
    print(" ".join(row.values()), flush=True)
    return row, trial


COLUMNS = ("micro-batch", "tokens/s", "of the first", "MFU", "memory, GB", "first step, s")


def device_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device != "cpu" else "no GPU"


if __name__ == "__main__":
    main()
