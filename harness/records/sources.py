"""The source files that a cell keeps of its own code, and the hash that they have in its record."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

from harness.records import SOURCES_FOLDER
from harness.records.reading import RecordError, read_bytes, said

OURS = "harness."
"""Our own code is in the record's provenance, not in the cell's identity."""
PACKAGE_FILE = "__init__.py"


def kept_files(folder: Path) -> dict[str, Path]:
    """Return module -> file of the sources that a cell keeps."""
    files = (folder.absolute() / SOURCES_FOLDER).glob("*.py")
    return {file.name.removesuffix(".py").removesuffix(".__init__"): file for file in files}


def closure(target: str, find: Callable[[str], Path | None]) -> dict[str, Path]:
    """Return module -> file of a target and of all that it imports, as far as `find` has them."""
    found: dict[str, Path] = {}
    waiting = prefixes(target)
    while waiting:
        module = waiting.pop()
        file = find(module) if module else None
        if file is not None and module not in found and not module.startswith(OURS):
            found[module] = file
            inside = f"{module}.__init__" if file.name.endswith(PACKAGE_FILE) else module
            # the packages around a module are imported before it
            waiting += [*prefixes(module), *_imports(parsed(file), inside)]
    return found


def hash_of(files: Mapping[str, Path]) -> str:
    """Return the hash of module -> file (`RecordError` if one cannot be read)."""
    content = b"".join(read_bytes(files[name]) for name in sorted(files))
    return hashlib.sha256(content).hexdigest()[:16]


def parsed(file: Path) -> ast.Module:
    """Return a source's syntax tree (`RecordError` if it has none)."""
    return _tree(file, read_bytes(file))


@lru_cache(maxsize=64)
def _tree(file: Path, content: bytes) -> ast.Module:
    try:
        return ast.parse(content)
    except SyntaxError as error:
        raise RecordError(file, f"line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise RecordError(file, said(error)) from error


def prefixes(name: str) -> list[str]:
    """Return the modules that a dotted name may be in, the innermost first."""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1)]


@lru_cache(maxsize=64)
def _imports(tree: ast.Module, importer: str) -> list[str]:
    """Return the modules that a module may import, by their full names, sorted."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = importer.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)}
    return sorted(found)
