"""What a cell's folder holds beside its record: each file read by one reader, or refused."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.records import (
    METRICS_FILE,
    SAMPLES_FILE,
    TEST_DOCUMENTS_FILE,
    TEST_LOSSES_FILE,
    RecordError,
    RunRecord,
    Sample,
    Status,
    test_losses_file,
)
from harness.records.reading import decoder, is_there, metrics_row, read_bytes, read_json_lines

LARGEST = 1e30
"""The square of a number below it is finite, and the sum of many such squares."""


def read_metrics(folder: Path, holding: str = "") -> list[dict[str, Any]]:
    """Return the logged steps of a cell, of those lines alone that contain `holding`."""
    return read_json_lines(folder / METRICS_FILE, metrics_row, holding=holding)


def read_samples(folder: Path) -> list[Sample]:
    """Return the completions along training."""
    found: list[Sample] = read_json_lines(folder / SAMPLES_FILE, decoder(Sample))
    return found


def read_numbers(file: Path) -> NDArray[np.float64]:
    """Return a ``.npy`` file's row of finite numbers."""
    raw = read_bytes(file)
    try:
        values = _array(raw)
        if values.ndim != 1 or not len(values) or values.dtype.kind not in "fiu":
            raise ValueError(f"it holds {values.dtype} of shape {values.shape}, and no numbers")
        numbers: NDArray[np.float64] = values.astype(np.float64)
        if not (np.abs(numbers) < LARGEST).all():
            raise ValueError("one of its numbers is not finite, or absurdly large")
    except (ValueError, TypeError, EOFError, SyntaxError, MemoryError, OverflowError) as error:
        raise RecordError(file, f"{' '.join(str(error).split())}; move it away") from error
    return numbers


def _array(raw: bytes) -> NDArray[Any]:
    """Return the array; refuse a header that promises more than there is, or Python objects."""
    size = 2 if raw[6:7] == b"\x01" else 4  # bytes that say how long the header is, by version
    begin = 8 + size + int.from_bytes(raw[8 : 8 + size], "little")
    shape, kind = _header(raw[:begin])
    promised, there = kind.itemsize * math.prod(shape), len(raw) - begin
    if promised != there:
        raise ValueError(f"it holds {there} bytes where {promised} are promised")
    return np.frombuffer(raw, kind, offset=begin).reshape(shape)


@lru_cache
def _header(raw: bytes) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and type; a study's arrays share one header, which is a Python expression."""
    file = io.BytesIO(raw)
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise ValueError(f"it is of version {version} of numpy's format")
    shape, _, kind = read_header(file)
    if kind.hasobject:
        raise ValueError("it holds Python objects")
    return shape, kind


def found_in(read: Callable[[Path], list[Any]], folder: Path) -> list[Any]:
    """Return what a reader finds; nothing if it cannot be read, for `broken_files` lists it."""
    try:
        return read(folder)
    except RecordError:
        return []


def broken_files(folder: Path, record: RunRecord) -> list[RecordError]:
    """Return the errors of a cell's files that cannot be read, its record aside."""
    readers: list[tuple[Callable[[Path], Any], Path]] = [
        (read_metrics, folder),
        (read_samples, folder),
    ]
    if record.status is Status.COMPLETE:  # the losses of one that diverged are no numbers
        arrays = sorted(folder.glob(test_losses_file("*"))) if record.losses.tests else []
        arrays += [folder / name for name in (TEST_LOSSES_FILE, TEST_DOCUMENTS_FILE)]
        readers += [(read_numbers, file) for file in arrays]
    broken = []
    for read, place in readers:
        try:
            read(place)
        except RecordError as error:
            broken += [error] if is_there(error.file) else []
    return broken
