"""The English prose that every CPython carries: its library's docstrings, and pydoc's topics."""

from __future__ import annotations

import ast
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from harness.data.manifest import DataError

PACKAGED_APART = {"distutils", "ensurepip", "idlelib", "lib2to3", "tkinter", "turtle", "turtledemo"}
"""Linux distributions leave these out or ship them apart: without them, one version of Python
carries one corpus."""

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def stdlib_files() -> list[Path]:
    """Return the library's source files in a fixed order, tests left out."""
    root = Path(sysconfig.get_path("stdlib"))
    names = sys.stdlib_module_names - PACKAGED_APART
    found = []
    for file in root.rglob("*.py"):
        parts = file.relative_to(root).with_suffix("").parts
        if parts[0] in names and not {"test", "tests"} & set(parts):
            found.append((parts, file))
    if not found:
        raise DataError(
            f"this Python has no library source below {root}: "
            "use a full CPython, or data=text data.path=FOLDER"
        )
    return [file for _, file in sorted(found)]


def documents() -> Iterator[tuple[str, float]]:
    """Yield one document a module (its docstrings, in order) and one a topic; nothing is imported.

    With each comes the fraction of the modules done. A docstring that occurs twice counts once,
    where it comes first.
    """
    from pydoc_data.topics import topics

    files = stdlib_files()
    seen: set[str] = set()
    for number, file in enumerate(files, 1):
        new = [text for text in dict.fromkeys(_docstrings(file)) if text not in seen]
        seen.update(new)
        yield "\n\n".join(new), number / len(files)
    for name in sorted(topics):
        yield topics[name], 1.0


def _docstrings(file: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in the library's own strings
        try:
            tree = ast.parse(file.read_bytes())
        except SyntaxError:
            return  # templates and deliberately bad examples document nothing
    yield from _in_order(tree)


def _in_order(node: ast.AST) -> Iterator[str]:
    if isinstance(node, _DOCUMENTED):
        text = ast.get_docstring(node)
        if text:
            yield text
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield from _in_order(child)
