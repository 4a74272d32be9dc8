"""Put one small fault at a time into the code and print those that no test notices.

    python -m benchmarks.mutate [--of 200] [--seed 0] [--write] [MODULE.py ...]

A fault turns a comparison, an operator or a condition around, moves a number, or leaves a call out.
Each is met by the tests that import its module, the slow ones aside, in a copy of this checkout.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from benchmarks.report import machine, table, write_section

ROOT = Path(__file__).parent.parent
COPIED = ("analysis", "benchmarks", "conf", "harness", "hydra_plugins", "interventions", "tests")
MODULES = (
    *("harness/records", "harness/cell/sources.py", "harness/cell/freeze.py"),
    *("harness/engine/checkpoint.py", "harness/engine/randomness.py", "harness/engine/batches.py"),
    *("harness/study/plan.py", "harness/study/states.py", "harness/data/evaluated.py"),
    *("analysis/comparison", "analysis/stats", "analysis/questions/stack.py", "analysis/audit"),
)
RELATED = {
    "analysis/comparison": (
        "test_compare*.py",
        "test_other_tables.py",
        "test_sequential.py",
        "test_tuning.py",
    ),
    "analysis/comparison/noise_band": ("test_components.py",),
    "analysis/audit": ("test_verify*.py", "test_rerun.py"),
    "analysis/questions/stack": ("test_stack*.py",),
    "analysis/stats/solvers": ("test_solvers.py", "test_mixed.py"),
    "harness/cell": ("test_cell_sources.py", "test_cell_freeze.py", "test_own_folders.py"),
    "harness/engine/batches": ("test_cell_life.py",),
    "harness/engine/checkpoint": ("test_cell_resume.py",),
    "harness/records": ("test_records*.py", "test_secrets*.py", "test_boundary.py"),
}
"""Tests of modules that are reached through a package."""
SAY_NOTHING = {"eq", "frozen", "kw_only", "slots", "strict", "non_blocking"}
"""Keywords that keep a writer from a mistake, or save time; without them no result changes."""
LONGEST = 200
"""Characters of what is spoilt: a fault is to be read in one line."""
SECONDS = 600
"""A fault that keeps the tests busy for longer (a loop without an end) is counted apart."""
OTHER = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.And: ast.Or,
    ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """A node of a module's syntax tree that can be spoilt."""

    module: Path
    node: int


@dataclass(frozen=True, slots=True)
class Fault:
    """One change of a module."""

    module: Path
    line: int
    before: str
    after: str
    code: str
    """The whole module with it."""

    def __str__(self) -> str:
        return f"`{self.module}:{self.line}`: `{self.before}` became `{self.after}`"


Outcome = Literal["noticed", "survived", "busy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", type=Path, help="(default: the core of the project)")
    parser.add_argument("--of", type=int, default=200, help="so many, drawn from all faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="into docs/mutation.md")
    options = parser.parse_args()
    modules = [path for part in options.modules or map(Path, MODULES) for path in _modules(part)]
    places = [place for module in modules if tests_of(module) for place in places_in(module)]
    drawn = random.Random(options.seed).sample(places, min(options.of, len(places)))
    faults = [fault_at(place) for place in drawn]
    text = _report(dict(zip(faults, _outcomes(faults), strict=True)), len(places))
    print(text)
    if options.write:
        write_section("mutation", text, ROOT / "docs" / "mutation.md")


def _modules(part: Path) -> list[Path]:
    whole = ROOT / part
    found = sorted(whole.rglob("*.py")) if whole.is_dir() else [whole]
    return [path.relative_to(ROOT) for path in found]


def tests_of(module: Path) -> list[str]:
    """Return the test files that import a module, or are known to be about it."""
    parts = module.with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    wanted = (f"from {name} import", f"import {name}\n")
    about = [p for start, names in RELATED.items() if str(module).startswith(start) for p in names]
    return [
        str(file.relative_to(ROOT))
        for file in files
        if any(file.match(pattern) for pattern in about)
        or any(words in file.read_text(encoding="utf-8") for words in wanted)
    ]


def places_in(module: Path) -> list[Place]:
    """Return where a module can be spoilt."""
    tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
    keywords = (node for node in ast.walk(tree) if isinstance(node, ast.keyword))
    silent = {id(keyword.value) for keyword in keywords if keyword.arg in SAY_NOTHING}
    nodes = [(i, node) for i, node in enumerate(ast.walk(tree)) if id(node) not in silent]
    return [Place(module, i) for i, node in nodes if _is_short(node) and _spoil(copy(node))]


def _is_short(node: ast.AST) -> bool:
    return isinstance(node, ast.expr | ast.stmt) and len(ast.unparse(node)) < LONGEST


def fault_at(place: Place) -> Fault:
    """Return the fault of one place."""
    tree = ast.parse((ROOT / place.module).read_text(encoding="utf-8"))
    node: Any = list(ast.walk(tree))[place.node]
    before = ast.unparse(node)
    _spoil(node)
    return Fault(place.module, node.lineno, before, ast.unparse(node), ast.unparse(tree))


def _spoil(node: ast.AST) -> bool:
    """Change a node in place; tell whether there was something to change."""
    match node:
        case ast.Compare(ops=[op]) | ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in OTHER:
            other = OTHER[type(op)]()
            if isinstance(node, ast.Compare):
                node.ops = [other]  # type: ignore[list-item]
            else:
                node.op = other  # type: ignore[assignment]
        case ast.IfExp() | ast.While() | ast.If():
            node.test = ast.UnaryOp(ast.Not(), node.test)
        case ast.Constant(value=bool(value)):
            node.value = not value
        case ast.Constant(value=int(value)):
            node.value = value + 1
        case ast.Constant(value=float(value)):
            node.value = value * 1.5 + 0.1
        case ast.Expr(value=ast.Call()):
            node.value = ast.Constant(None)
        case _:
            return False
    return True


def _outcomes(faults: list[Fault]) -> Iterator[Outcome]:
    n_workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as base, ThreadPoolExecutor(n_workers) as pool:
        free: SimpleQueue[Path] = SimpleQueue()
        for worker in range(n_workers):
            checkout = Path(base) / str(worker)
            for name in COPIED:
                shutil.copytree(ROOT / name, checkout / name)
            shutil.copy(ROOT / "pyproject.toml", checkout)
            free.put(checkout)

        def tried(fault: Fault) -> Outcome:
            checkout = free.get()
            try:
                return outcome(fault, checkout)
            finally:
                free.put(checkout)

        for i, (fault, out) in enumerate(zip(faults, pool.map(tried, faults), strict=True), 1):
            print(f"[{i}/{len(faults)}] {out}: {fault}", file=sys.stderr)
            yield out


def outcome(fault: Fault, checkout: Path) -> Outcome:
    """Run a module's tests with the fault in a copy of the checkout."""
    file = checkout / fault.module
    kept = file.read_text(encoding="utf-8")
    file.write_text(fault.code, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += ["-m", "not slow and not proof and not gpu", *tests_of(fault.module)]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=checkout,
            env=environment,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "busy"
    finally:
        file.write_text(kept, encoding="utf-8")
    return "noticed" if done.returncode else "survived"


def _report(outcomes: dict[Fault, Outcome], n_all: int) -> str:
    tried = Counter(str(fault.module) for fault in outcomes)
    survivors = [fault for fault, out in outcomes.items() if out == "survived"]
    lived = Counter(str(fault.module) for fault in survivors)
    rows = [
        {"module": m, "faults": str(n), "survived": str(lived[m])} for m, n in sorted(tried.items())
    ]
    busy = [f"- {fault}" for fault, out in outcomes.items() if out == "busy"]
    found = f"{len(outcomes)} of {n_all} faults, {len(survivors)} survived."
    if busy:
        found += f" {len(busy)} kept the tests busy for {SECONDS} s, counted as noticed:\n\n"
    parts = [found + "\n".join(busy), table(rows), "\n".join(f"- {fault}" for fault in survivors)]
    return "\n\n".join(filter(None, [*parts, f"{machine('pytest')}."]))


if __name__ == "__main__":
    main()
