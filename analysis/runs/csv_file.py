"""CSV as programs and spreadsheets write it: with commas, semicolons or tabs."""

from __future__ import annotations

import codecs
import csv
import io
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.errors import AnalysisError
from analysis.text import unguarded

DELIMITERS = (",", ";", "\t")
DECIMAL_COMMA = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:\.\d{3})+)(?:,\d+)?(?:[eE][+-]?\d+)?")
"""A number where the columns are separated by semicolons."""


@dataclass(frozen=True, slots=True)
class CsvFile:
    """What a CSV file holds, as text."""

    frame: pd.DataFrame
    lines: list[str]
    """What a message calls each row."""
    notes: tuple[str, ...] = ()


def read_csv(path: Path) -> CsvFile:
    """Read a file; an error names the line and the column."""
    delimiter, text = _delimiter(path, _text(path))
    csv.field_size_limit(sys.maxsize)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise AnalysisError(f"cannot read {path}: {error}") from error
    if len(rows) < 2:
        raise AnalysisError(f"{path} has no rows: a header and one line a run are needed")
    (_, header), *body = rows
    header = [unguarded(name.strip()) for name in header]
    cells = [_fitted(row, header, f"{path}, line {line}") for line, row in body]
    frame = pd.DataFrame(cells, columns=header, dtype=object)
    changed = _decimal_points(frame) if delimiter == ";" else []
    notes = (f"decimal commas in {', '.join(changed)}",) if changed else ()
    return CsvFile(frame, [f"line {line}" for line, _ in body], notes)


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        two_bytes = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return raw.decode("utf-16" if two_bytes else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnalysisError(f"cannot read {path}: {error}; save it as UTF-8") from error
    except OSError as error:
        raise AnalysisError(f"cannot read {path}: {error}") from error


def _delimiter(path: Path, text: str) -> tuple[str, str]:
    """Return what separates the columns, and the table: a spreadsheet may say it on a line."""
    first, _, rest = text.partition("\n")
    if first.strip().startswith("sep=") and len(first.strip()) == 5:
        return first.strip()[-1], rest
    preferred = "\t" if path.suffix.lower() == ".tsv" else ","
    order = sorted(DELIMITERS, key=lambda mark: mark != preferred)
    return max(order, key=lambda mark: len(next(csv.reader([first], delimiter=mark), []))), text


def _fitted(row: list[str], header: list[str], where: str) -> list[str]:
    """Return a row as long as the header, blank cells at its end aside."""
    while len(row) > len(header) and not row[-1].strip():
        row = row[:-1]
    if len(row) != len(header):
        missing = header[len(row)] if len(row) < len(header) else f"number {len(header) + 1}"
        raise AnalysisError(
            f"{where}, column {missing!r}: {len(row)} values where the header has {len(header)}"
        )
    return [unguarded(cell) for cell in row]


def _decimal_points(frame: pd.DataFrame) -> list[str]:
    """Write 3,31 as 3.31 in the columns of such numbers, in place; return their names."""
    changed = []
    for i, name in enumerate(frame.columns):
        texts = [str(value).strip() for value in frame.iloc[:, i]]
        known = [text for text in texts if text]
        commas = any("," in text for text in known)
        if commas and all(DECIMAL_COMMA.fullmatch(text) for text in known):
            frame.isetitem(i, [text.replace(".", "").replace(",", ".") for text in texts])
            changed.append(str(name))
    return changed
