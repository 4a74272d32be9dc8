"""Find what the ``_target_``s of a config point to, and which source that is.

Read as text, never imported: a typo is refused before anything heavy is loaded, and an edited
function is another cell.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.config import Config, ConfigError
from harness.records import SOURCES_FOLDER, write_atomic

OURS = "harness."
"""Our own code is in the record's provenance, not in the cell's identity."""


def source_hashes(config: Config) -> dict[str, str]:
    """Return target -> hash of the file that defines it, for every target outside the harness.

    Raises
    ------
    ConfigError
        No module of that name can be found, or it does not define the name.
    """
    hashes = {target: _hash(target) for target in sorted(_targets(config))}
    return {target: found for target, found in hashes.items() if not target.startswith(OURS)}


def keep_sources(config: Config, folder: Path) -> dict[str, str]:
    """Copy the files behind the cell's own targets into its folder; return target -> hash."""
    hashes = source_hashes(config)
    for target in hashes:
        path, name = _locate(target)
        if path is not None:
            module = target.rpartition(f".{name}")[0]
            write_atomic(folder / SOURCES_FOLDER / f"{module}.py", path.read_bytes())
    return hashes


def _targets(config: Config) -> set[str]:
    model = config.model
    slots = [model.norm, model.mlp, model.attention, model.position, model.head]
    slots += [config.optim.optimizer, config.schedule]
    slots += [card.fn for card in config.interventions.values() if card.fn]
    return {target for slot in slots for target in _walk(slot)}


def _walk(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [str(node["_target_"])] if "_target_" in node else []
        return own + [target for value in node.values() for target in _walk(value)]
    if isinstance(node, list):
        return [target for value in node for target in _walk(value)]
    return []


def _hash(target: str) -> str:
    path, name = _locate(target)
    if path is None:  # built in or compiled
        return ""
    source = path.read_bytes()
    names = _top_level(source)
    if names is not None and name not in names:
        close = ", ".join(get_close_matches(name, sorted(names), n=8, cutoff=0))
        raise ConfigError(f"_target_={target}: {path} defines no {name!r}; it has: {close}")
    return hashlib.sha256(source).hexdigest()[:16]


def _locate(target: str) -> tuple[Path | None, str]:
    """Return the file of the longest module prefix of a target, and the name wanted from it."""
    parts = target.split(".")
    for n in range(len(parts) - 1, 0, -1):
        try:
            spec = find_spec(".".join(parts[:n]))
        except (ImportError, ValueError):
            continue
        if spec is not None:
            is_source = spec.origin is not None and spec.origin.endswith(".py")
            return (Path(str(spec.origin)) if is_source else None), parts[n]
    raise ConfigError(
        f"_target_={target}: no module {parts[0]!r}; put it into {sys.path[0] or 'this folder'} "
        "or a folder of PYTHONPATH"
    )


def _top_level(source: bytes) -> set[str] | None:
    """Return the names a module binds, None if that cannot be told from its text."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign):
            names |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        else:  # an if, a try, exec ...: may bind anything
            if not isinstance(node, ast.Expr):
                return None
    return None if "*" in names or "__getattr__" in names else names
