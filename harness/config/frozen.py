"""A config as YAML: what a cell's folder keeps, and what ``--help`` prints."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from harness.config import Config, ConfigError
from harness.records.files import plain

SCHEMA = OmegaConf.structured(Config)
"""Made once: it takes as long as all the rest of reading a config."""
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""The safe ones; ten times as fast where they are compiled."""
RETIRED = ("reference",)
"""What earlier versions froze and no cell needs: the overlays' doses, already in their places."""


def to_yaml(config: Config) -> str:
    """Return every setting as YAML."""
    text: str = yaml.dump(plain(asdict(config)), Dumper=DUMPER, sort_keys=False, allow_unicode=True)
    return text


def read_config(path: Path) -> Config:
    """Read what `to_yaml` wrote, by this version or an earlier one; all of it as it stands."""
    content = yaml.load(path.read_text(encoding="utf-8"), LOADER)  # noqa: S506
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is no config: it holds no keys")
    kept = {key: _literal(value) for key, value in content.items() if key not in RETIRED}
    config: Config = OmegaConf.to_object(OmegaConf.merge(SCHEMA, kept))  # type: ignore[assignment]
    return config


def _literal(value: Any) -> Any:
    """Escape what OmegaConf would resolve: a frozen config is values alone."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    if isinstance(value, dict):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_literal(item) for item in value]
    return value
