"""Measure how the code is laid out: rooms, arrows between them, circles, lines, functions.

    python -m benchmarks.structure [FOLDER]     FOLDER: another checkout, e.g. of an earlier version

A room is a file or folder directly inside a package. Its floor is the length of the longest chain
of imports below it; an arrow is an import from one room to another, and a circle is a set of
modules that import each other, imports for types included.
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGES = ("harness", "analysis")
ENDINGS = {".py", ".js", ".css", ".html"}
PRIVATE = re.compile(r"_(?!_)")
Graph = dict[str, set[str]]


@dataclass(frozen=True, slots=True)
class Function:
    """One function of a module."""

    module: str
    name: str
    length: int
    """Lines without the docstring."""
    n_arguments: int


def modules(root: Path, package: str) -> dict[str, Path]:
    """Return the package's modules by dotted name."""
    found = {}
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: Iterable[str]) -> set[str]:
    """Return which of the known modules a file imports, anywhere in it."""
    names, known = set(), set(known)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    inner = {name for name in names if name in known}
    return inner - {name for name in inner if any(o.startswith(f"{name}.") for o in inner)}


def graph(root: Path, package: str) -> Graph:
    """Return the imports between the package's modules."""
    found = modules(root, package)
    return {name: imports(path, found) - {name} for name, path in found.items()}


def circles(edges: Graph) -> list[list[str]]:
    """Return the sets of modules that import each other, directly or around corners."""
    reach = {name: _below(name, edges) for name in edges}
    rings = {frozenset(o for o in reach[n] if n in reach[o]) for n in edges if n in reach[n]}
    return sorted(sorted(ring) for ring in rings)


def _below(start: str, edges: Graph) -> set[str]:
    seen: set[str] = set()
    todo = list(edges[start])
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += edges.get(name, ())
    return seen


def rooms(edges: Graph) -> tuple[Graph, Counter[tuple[str, str]]]:
    """Return the imports between rooms, and how many module imports stand behind each."""
    room = lambda name: ".".join(name.split(".")[:2])  # noqa: E731
    arrows = Counter(
        (room(name), room(other))
        for name, others in edges.items()
        for other in others
        if room(name) != room(other)
    )
    between: Graph = {room(name): set() for name in edges}
    for a, b in arrows:
        between[a].add(b)
    return between, arrows


def floors(between: Graph) -> dict[str, int]:
    """Return each room's floor; rooms in a circle stand on one floor."""
    ring = {name: f"ring {i}" for i, c in enumerate(circles(between)) for name in c}
    merged: Graph = {}
    for name, others in between.items():
        merged.setdefault(ring.get(name, name), set()).update(ring.get(o, o) for o in others)
    level: dict[str, int] = {}
    for name in TopologicalSorter({n: o - {n} for n, o in merged.items()}).static_order():
        level[name] = 1 + max((level[o] for o in merged.get(name, ()) if o != name), default=0)
    return {name: level[ring.get(name, name)] for name in between}


def arrows_up(between: Graph) -> int:
    """Return the arrows of room circles that would have to be turned to leave none: at least."""
    return sum(len(circle) - 1 for circle in circles(between))


def functions(root: Path, package: str) -> list[Function]:
    """Return every function of a package."""
    found = []
    for module, path in modules(root, package).items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                doc = ast.get_docstring(node) or ""
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                n = sum(a.arg not in ("self", "cls") for a in arguments)
                found.append(Function(module, node.name, length - len(doc.splitlines()), n))
    return found


def called_once(root: Path, package: str) -> tuple[int, int]:
    """Return how many private functions there are, and how many are named in one place only."""
    names: Counter[str] = Counter()
    private: set[tuple[str, str]] = set()
    for module, path in modules(root, package).items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name | ast.Attribute):
                names[f"{module}:{node.id if isinstance(node, ast.Name) else node.attr}"] += 1
            elif isinstance(node, ast.FunctionDef) and PRIVATE.match(node.name):
                private.add((module, node.name))
    return len(private), sum(names[f"{module}:{name}"] <= 1 for module, name in private)


def lines(root: Path, package: str) -> int:
    """Return the lines of code files of all kinds, docstrings included."""
    files = [p for p in (root / package).rglob("*") if p.suffix in ENDINGS]
    return sum(len(p.read_text(encoding="utf-8").splitlines()) for p in files)


def rows(root: Path) -> list[list[str]]:
    """Return one row of figures a package."""
    table = []
    for package in PACKAGES:
        edges = graph(root, package)
        between, arrows = rooms(edges)
        found = functions(root, package)
        sizes = sorted(f.length for f in found)
        private, once = called_once(root, package)
        side = [p for p in (root / package).iterdir() if p.suffix == ".py" or _has_code(p)]
        largest = max(
            len(list(p.glob("*.py"))) for p in [root / package, *(root / package).rglob("*")]
        )
        table.append(
            [
                package,
                f"{len(side)}",
                f"{largest}",
                f"{max(floors(between).values())}",
                f"{sum(arrows.values())}",
                f"{arrows_up(between)}",
                f"{len(circles(edges))}",
                f"{lines(root, package):,}",
                f"{len(found)}",
                f"{statistics.median(sizes):.0f}",
                f"{sizes[int(0.9 * len(sizes))]}",
                f"{once} of {private}",
            ]
        )
    return table


def _has_code(path: Path) -> bool:
    return path.is_dir() and any(path.glob("*.py"))


HEADER = [
    "package",
    "side by side",
    "largest folder",
    "floors",
    "arrows",
    "arrows up",
    "circles",
    "lines",
    "functions",
    "median",
    "90th percentile",
    "private, called once",
]


def main() -> None:
    """Print the figures of a checkout."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    print("| " + " | ".join(HEADER) + " |")
    print("|" + " --- |" * len(HEADER))
    for row in rows(root):
        print("| " + " | ".join(row) + " |")
    for package in PACKAGES:
        for circle in circles(graph(root, package)):
            print(f"circle: {', '.join(circle)}")


if __name__ == "__main__":
    main()
