"""JSON lines as text: each line a document, its text in one field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.data.manifest import DataError

SUFFIXES = (".jsonl", ".ndjson")


def is_json_lines(file: Path) -> bool:
    """Tell by its name."""
    return file.suffix.lower() in SUFFIXES


def json_documents(file: Path, name: str) -> Iterator[tuple[str, int]]:
    """Yield the text in the field `name` of each line, and the bytes read with it."""
    end = 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            end += len(line)
            if line.strip():
                yield _text(line, name, f"{file}, line {number}"), end


def _text(line: bytes, name: str, where: str) -> str:
    try:
        row: Any = json.loads(line.decode("utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{where} is not JSON: {error}") from error
    fields = row if isinstance(row, dict) else {}
    value = fields.get(name)
    if not isinstance(value, str):
        there = ", ".join(map(str, fields)) or "none"
        raise DataError(
            f"{where} has no text in the field {name!r}; its fields are {there}: "
            "name one with data.text_column"
        )
    return value
