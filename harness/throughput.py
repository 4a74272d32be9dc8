"""Find the fastest way to run a config here, and what its study would cost.

usage: python -m harness.throughput [scale=gpt2_small] [+study=published] [KEY=VALUE ...]

Trains a few steps on random tokens (no corpus is read), each way in a process of its own: the
largest micro-batch that fits is found by bisection, letting memory run out for real; then speed
and memory over precision, compilation and micro-batch; stderr says what is at work. Ends with
hardware settings and a bill. `python -m harness.bill` computes one for a card that is not at hand.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from harness.cell.console import EXIT_REFUSED
from harness.config import Config, ConfigError, PrecisionConfig
from harness.records.files import CONF_DIR
from harness.records.terminal import complain, printing
from harness.study.price import bill
from harness.study.side_by_side import StepError, measure

if TYPE_CHECKING:
    from harness.cell.speed.step_timing import Trial

Measure = Callable[[Config], "Trial | None"]


@dataclass(frozen=True, slots=True)
class Row:
    """One way to run the config, measured."""

    config: Config
    trial: Trial

    def __str__(self) -> str:
        t, hardware = self.trial, self.config.hardware
        return (
            f"{precision_name(self.config.precision):9} {hardware.compile!s:8} "
            f"{hardware.micro_batch:11} {t.tokens_per_second:12,.0f} {t.mfu:6.1%} "
            f"{t.memory_bytes / 1e9:10.2f} {t.first_step_seconds:11.1f}"
        )


TOO_LOW = """MFU of 100%: every product of large matrices that was timed to find the device's peak
was slower than training itself, as on a busy machine. The peak is at least what is printed;
measure again when nothing else runs."""
HEADER = "precision compile  micro_batch     tokens/s    MFU  memory, GB  1st step, s"


@cache
def precisions() -> dict[str, PrecisionConfig]:
    """Return the number formats of ``conf/precision`` by name."""
    schema = OmegaConf.structured(PrecisionConfig)
    found: dict[str, Any] = {
        file.stem: OmegaConf.to_object(OmegaConf.merge(schema, OmegaConf.load(file)))
        for file in sorted((CONF_DIR / "precision").glob("*.yaml"))
    }
    return found


def precision_name(precision: PrecisionConfig) -> str:
    """Return the preset's name, or ``custom``."""
    return next((name for name, p in precisions().items() if p == precision), "custom")


def with_hardware(config: Config, **changes: object) -> Config:
    """Return the config with other hardware settings."""
    return replace(config, hardware=replace(config.hardware, **changes))  # type: ignore[arg-type]


def micro_batches(config: Config) -> list[int]:
    """Return the sizes that divide one process's share of the batch, ascending."""
    share = config.train.batch_size // config.hardware.n_devices
    return [size for size in range(1, share + 1) if share % size == 0]


def largest_that_fits(sizes: list[int], fits: Callable[[int], bool]) -> int | None:
    """Return the largest of the ascending `sizes` that fits, by bisection; None: none does."""
    n_fit, too_many = 0, len(sizes) + 1
    while too_many - n_fit > 1:
        middle = (n_fit + too_many) // 2
        if fits(sizes[middle - 1]):
            n_fit = middle
        else:
            too_many = middle
    return sizes[n_fit - 1] if n_fit else None


def survey(config: Config, measure: Measure, *, on_gpu: bool) -> Iterator[Row]:
    """Measure precisions, compilation and micro-batches; the config's own precision first."""
    formats = list(precisions().values()) if on_gpu else []
    formats = [config.precision, *(p for p in formats if p != config.precision)]
    for precision, compiled in product(formats, [False, True] if on_gpu else [False]):
        variant = with_hardware(replace(config, precision=precision), compile=compiled)
        yield from _over_micro_batches(variant, measure)


def _over_micro_batches(config: Config, measure: Measure) -> Iterator[Row]:
    sizes, seen = micro_batches(config), {}

    def fits(size: int) -> bool:
        variant = with_hardware(config, micro_batch=size)
        trial = seen[size] = measure(variant)
        return trial is not None

    largest = largest_that_fits(sizes, fits)
    if largest is not None:
        for size in sizes[: sizes.index(largest)][-2:]:  # often no slower, and leaves memory
            if size not in seen:
                fits(size)
    for size, trial in sorted(seen.items()):
        if trial is not None:
            yield Row(with_hardware(config, micro_batch=size), trial)


def best_row(config: Config, rows: list[Row]) -> Row:
    """Return the fastest way in the config's own precision, which is no setting of the hardware."""
    own = [row for row in rows if row.config.precision == config.precision]
    return max(own, key=lambda row: row.trial.tokens_per_second)


def measure_apart(config: Config) -> Trial | None:
    """Measure in a new process: a killed one means that memory ran out."""
    trials = measure(config)
    return trials[0] if trials else None


def told(measure: Measure) -> Measure:
    """Return a way to measure that says on stderr what is at work, and what came of it."""
    numbers = itertools.count(1)

    def measured(config: Config) -> Trial | None:
        hardware, started = config.hardware, time.monotonic()
        compiled = ", compiled" if hardware.compile else ""
        what = f"{precision_name(config.precision)}{compiled}, micro-batch {hardware.micro_batch}"
        print(f"measuring {next(numbers)}: {what} ...", end="", file=sys.stderr, flush=True)
        trial = measure(config)
        rate = f"{trial.tokens_per_second:,.0f} tokens/s" if trial else "does not fit"
        print(f" {rate}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        return trial

    return measured


@printing()
def main(arguments: list[str] | None = None) -> int:
    """Measure the config that the command line describes; return the exit code."""
    overrides = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(overrides):
        print(__doc__)
        return 0
    from harness.cell.sources import source_hashes
    from harness.config.compose import load

    try:
        config = load(overrides)
        source_hashes(config)  # refuses a target that is not there
        from harness.engine.devices import choose_device

        on_gpu = choose_device(config.hardware.device).type == "cuda"
    except ConfigError as error:
        complain(error)
        return EXIT_REFUSED
    print(HEADER)
    rows = []
    try:
        for row in survey(config, told(measure_apart), on_gpu=on_gpu):
            print(row, flush=True)
            rows.append(row)
    except StepError as error:
        complain(error)
        return 1
    if not any(row.config.precision == config.precision for row in rows):
        print("error: not one sequence fits in memory: take a smaller model", file=sys.stderr)
        return 1
    best = best_row(config, rows)
    hardware = best.config.hardware
    print(f"\nhardware.micro_batch={hardware.micro_batch} hardware.compile={hardware.compile}")
    print(f"hardware.peak_flops={best.trial.peak_flops:.3g}")
    print(bill(config, best.trial))
    if best.trial.mfu >= 1:
        print(TOO_LOW)
    return 0


if __name__ == "__main__":
    sys.exit(main())
