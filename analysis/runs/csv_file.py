"""CSV as programs and spreadsheets write it: with commas, semicolons or tabs."""

from __future__ import annotations

import codecs
import csv
import io
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.errors import AnalysisError
from analysis.text import unguarded

DELIMITERS = (",", ";", "\t")
DECIMAL_COMMA = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:\.\d{3})+)(?:,\d+)?(?:[eE][+-]?\d+)?")
"""A number where the columns are separated by semicolons."""

PERCENT = re.compile(r"[+-]?\d+(?:[.,]\d+)?\s*%")


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
    (first, header), *body = rows
    _refuse_title(f"{path}, line {first}", header, body[0][1])
    header = [unguarded(name.strip()) for name in header]
    cells = [_fitted(row, header, f"{path}, line {line}") for line, row in body]
    frame = pd.DataFrame(cells, columns=header, dtype=object)
    notes = []
    if changed := _rewritten(frame, "%", PERCENT, lambda text: text.rstrip("% ")):
        notes.append(f"percentages in {', '.join(changed)}")
    if delimiter == ";" and (
        changed := _rewritten(
            frame, ",", DECIMAL_COMMA, lambda text: text.replace(".", "").replace(",", ".")
        )
    ):
        notes.append(f"decimal commas in {', '.join(changed)}")
    return CsvFile(frame, [f"line {line}" for line, _ in body], tuple(notes))


def _refuse_title(where: str, header: list[str], row: list[str]) -> None:
    """Refuse a title above the table: a first line with one filled cell, above one with several."""
    said = [cell for cell in header if cell.strip()]
    several = sum(bool(cell.strip()) for cell in row) > 1 or any(m in row[0] for m in DELIMITERS)
    if len(said) == 1 and several:
        raise AnalysisError(
            f"{where}: {said[0].strip()!r} stands alone, as a title above the table: delete that "
            "line, or begin it with #"
        )


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
    """Return what separates the columns, and the table.

    What stands above it is made blank: comments, and a spreadsheet's line that says the delimiter.
    """
    lines = text.split("\n")
    top = 0
    while top < len(lines) - 1 and _is_comment(lines[top]):
        top += 1
    header, said = lines[top], lines[top].strip()
    if given := said.startswith("sep=") and len(said) == 5:
        top += 1
    table = "\n".join([*[""] * top, *lines[top:]])
    if given:
        return said[-1], table
    preferred = "\t" if path.suffix.lower() == ".tsv" else ","
    order = sorted(DELIMITERS, key=lambda mark: mark != preferred)
    return max(order, key=lambda mark: len(next(csv.reader([header], delimiter=mark), []))), table


def _is_comment(line: str) -> bool:
    """Tell whether a line above the table is blank or a comment; a column may be called #."""
    said = line.strip()
    return not said or (said[0] == "#" and said[1:2] not in DELIMITERS)


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


def _rewritten(
    frame: pd.DataFrame, mark: str, form: re.Pattern[str], plain: Callable[[str], str]
) -> list[str]:
    """Rewrite, in place, the columns whose numbers are all of a form; return their names."""
    changed = []
    for i, name in enumerate(frame.columns):
        texts = [str(value).strip() for value in frame.iloc[:, i]]
        known = [text for text in texts if text]
        if any(mark in text for text in known) and all(map(form.fullmatch, known)):
            frame.isetitem(i, [plain(text) for text in texts])
            changed.append(str(name))
    return changed
