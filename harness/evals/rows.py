"""Lists that a person wrote: items and instructions, in YAML, JSON or JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from harness.config import ConfigError
from harness.records.reading import RecordError, read_bytes


def read_rows(file: Path, given: str, hint: str) -> Any:
    """Return what a file holds, which should be a list.

    `ConfigError` where it cannot be read; it says what was `given`, and the `hint` what to do.
    """
    try:
        text = read_bytes(file).decode()
        if file.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines()]
        rows = yaml.safe_load(text)
    except RecordError as error:
        raise ConfigError(f"{given}: {error.reason}; {hint}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    return rows
