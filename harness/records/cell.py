"""One cell by its folder, ``runs/STUDY/ARM/CELL``: its files, and how far it has come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.records import (
    CONFIG_FILE,
    FINISHED,
    LOG_FILE,
    METRICS_FILE,
    RECORD_FILE,
    RunRecord,
    Status,
    read_record,
)
from harness.records.reading import is_there
from harness.records.study import Study


@dataclass(frozen=True)
class Cell:
    """A cell that is known by its folder alone; nothing is read before it is asked for."""

    folder: Path

    def __post_init__(self) -> None:
        # a folder that is named from inside its arm has no parents
        object.__setattr__(self, "folder", self.folder.absolute())

    @property
    def id(self) -> str:
        """The hash that names it."""
        return self.folder.name

    @property
    def arm(self) -> str:
        """Name of its arm."""
        return self.folder.parent.name

    @property
    def study(self) -> Study:
        """The study that it belongs to."""
        return Study(self.folder.parents[1])

    @property
    def config_file(self) -> Path:
        """What it is trained with; a cell that is frozen has one."""
        return self.folder / CONFIG_FILE

    @property
    def record_file(self) -> Path:
        """What is known of it; a cell that has begun has one."""
        return self.folder / RECORD_FILE

    @property
    def metrics_file(self) -> Path:
        """A line for each logged step."""
        return self.folder / METRICS_FILE

    @property
    def log_file(self) -> Path:
        """What it said."""
        return self.folder / LOG_FILE

    def record(self) -> RunRecord | None:
        """Read its record, None before it has begun (`RecordError` if unreadable)."""
        return read_record(self.record_file) if is_there(self.record_file) else None

    def result(self) -> RunRecord | None:
        """Read the record of a cell that needs no more training, None of any other."""
        record = self.record()
        return record if record and record.status in FINISHED else None


def seed_text(seeds: Iterable[int]) -> str:
    """Return one number where all seeds are equal, else all of them."""
    numbers = [str(seed) for seed in seeds]
    return numbers[0] if len(set(numbers)) == 1 else "/".join(numbers)


def describe(record: RunRecord, folder: Path) -> str:
    """Return one line on how a cell ended."""
    name = f"{record.arm} (seed {seed_text(asdict(record.seeds).values())}, cell {record.cell})"
    if record.status is Status.COMPLETE and record.losses.test is not None:
        text = f"test loss {record.losses.test:.4f} after {record.tokens:,} tokens"
    else:
        text = record.error or f"step {record.step} of {record.n_steps}"
    return f"{record.status.value}: {name}: {text}; {folder}"
