"""The command that prepares a corpus, for messages."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from harness.config import DataConfig, Source, plain

GROUPS = Path(__file__).resolve().parents[2] / "conf" / "data"
_GROUP_OF = {
    Source.stdlib_docs: "stdlib_docs",
    Source.text: "text",
    Source.hub: "fineweb",
    Source.hub_tokens: "fineweb_tokens",
}
_UNQUOTED = re.compile(r"[\w/.+%@|-]+")
"""A part of what Hydra reads without quotes."""


def prepare_command(config: DataConfig, data_dir: Path) -> str:
    """Return the command that prepares `config`, quoted for Hydra and for the shell."""
    group = config.name
    if _stated(group).get("source") != config.source.name:
        group = _GROUP_OF[config.source]
    stated = _stated(group)
    options = [f"data={group}"]
    for item in fields(config):
        value = plain(getattr(config, item.name))
        default = stated.get(item.name, plain(item.default))
        if item.name != "shuffle" and value != default:
            options.append(f"data.{item.name}={_quoted(value)}")
    if data_dir != Path("data"):
        options.append(f"data_dir={_quoted(data_dir)}")
    return shlex.join(["python", "-m", "harness.prepare", *options])


def _stated(group: str) -> dict[str, Any]:
    file = GROUPS / f"{group}.yaml"
    return dict(yaml.safe_load(file.read_text(encoding="utf-8"))) if file.exists() else {}


def _quoted(value: Any) -> str:
    text = "null" if value is None else str(value)
    if _UNQUOTED.fullmatch(text):
        return text
    return '"' + text.replace('"', '\\"') + '"'
