"""A config as YAML: what a cell's folder keeps, and what ``--help`` prints."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.config import Config, ConfigError
from harness.records.files import plain
from harness.records.reading import RecordError, check_depth, read_bytes, said

SCHEMA = OmegaConf.structured(Config)
"""Made once: it takes as long as all the rest of reading a config."""
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""The safe ones; ten times as fast where they are compiled."""
RETIRED = ("reference",)
"""What earlier versions froze and no cell needs: the overlays' doses, already in their places."""


def to_yaml(config: Config) -> str:
    """Return every setting as YAML."""
    return "".join(_section(key, json.dumps(part)) for key, part in plain(config).items())


@lru_cache(maxsize=4096)
def _section(key: str, content: str) -> str:
    """Return the YAML of one key, from its JSON: a study's cells differ in few of them."""
    text: str = yaml.dump(
        {key: json.loads(content)}, Dumper=DUMPER, sort_keys=False, allow_unicode=True
    )
    return text


def read_config(path: Path) -> Config:
    """Read what `to_yaml` wrote, by this version or an earlier one; all of it as it stands.

    `ConfigError` where it cannot be read, with its reason.
    """
    try:
        content = read_plain(path)
        kept = {key: _literal(value) for key, value in content.items() if key not in RETIRED}
        config: Config = OmegaConf.to_object(OmegaConf.merge(SCHEMA, kept))  # type: ignore[assignment]
    except RecordError as error:
        raise ConfigError(str(error)) from error
    except (OmegaConfBaseException, ValueError, TypeError, RecursionError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        key = getattr(error, "full_key", None)
        where = f"{key}: " if key else ""
        raise ConfigError(
            f"cannot read {path}: {where}{first}; restore it, or move it away"
        ) from error
    return config


def read_plain(path: Path) -> dict[str, Any]:
    """Read a config as nested plain values (`RecordError` if unreadable)."""
    try:
        content = yaml.load(read_bytes(path).decode("utf-8"), LOADER)  # noqa: S506
        if not isinstance(content, dict):
            raise ValueError("it holds no keys")
        check_depth(content)
    except RecordError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecordError(path, f"{said(error)}; remove it, a new start writes it again") from error
    return content


def _literal(value: Any) -> Any:
    """Escape what OmegaConf would resolve: a frozen config is values alone."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    if isinstance(value, dict):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_literal(item) for item in value]
    return value
