"""Put one small fault at a time into the code and print those that no test notices.

    python -m benchmarks.mutate [--of 200] [--seed 0] [--write] [MODULE.py ...]

A fault turns a comparison, an operator or a condition around, moves a number, or leaves a call out.
In a copy of this checkout each is met by tests that reach its line by the last `make coverage`:
of many, the quickest. What fails there without a fault is left out: it would notice everything.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, Literal, cast
from xml.etree import ElementTree

from coverage import CoverageData

from benchmarks.report import machine, table, write_section

ROOT = Path(__file__).parent.parent
COVERAGE = ROOT / "build" / "coverage"
MODULES = (
    *("harness/records", "harness/cell/sources.py", "harness/cell/freeze.py"),
    *("harness/engine/checkpoint.py", "harness/engine/randomness.py", "harness/engine/batches.py"),
    *("harness/study/plan.py", "harness/study/states.py", "harness/data/evaluated.py"),
    *("analysis/comparison", "analysis/stats", "analysis/questions/stack.py", "analysis/audit"),
)
MOST_SECONDS = 30.0
"""Of tests that a fault meets, as they took under `make coverage`."""
SAY_NOTHING = {"eq", "frozen", "kw_only", "maxsize", "slots", "strict", "non_blocking"}
"""Keywords that keep a writer from a mistake, or save time; without them no result changes."""
LONGEST = 200
"""Characters of what is spoilt: a fault is to be read in one line."""
SECONDS = 180
"""A fault that keeps the tests busy for longer (a loop without an end) is counted apart."""
FORKING = f"""
import contextlib, json, os, signal, sys
import hydra, hypothesis, pandas, pytest, scipy.optimize, scipy.stats, torch

for line in sys.stdin:
    if pid := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what the tests have left running
        print(code, flush=True)
        continue
    os.setsid()
    signal.alarm({SECONDS})
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    words = ["-q", "-x", "-p", "no:cacheprovider", "-n", "0"]
    words += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    os._exit(pytest.main([*words, *json.loads(line)]))
"""
"""Runs the tests named in each line of stdin in a child that has PyTorch and pandas already.

pytest would warn that Hypothesis and Hydra, its plugins, were imported before it.
"""
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
    reached = Reached.read(modules)
    places = [place for module in modules for place in places_in(module)]
    drawn = random.Random(options.seed).sample(places, min(options.of, len(places)))
    faults = [fault_at(place) for place in drawn]
    text = _report(dict(zip(faults, _outcomes(faults, reached), strict=True)), len(places))
    print(text)
    if options.write:
        write_section("mutation", text, ROOT / "docs" / "mutation.md")


def _modules(part: Path) -> list[Path]:
    whole = ROOT / part
    found = sorted(whole.rglob("*.py")) if whole.is_dir() else [whole]
    return [path.relative_to(ROOT) for path in found]


@dataclass(frozen=True, slots=True)
class Reached:
    """Which tests reach a line, by the last `make coverage`."""

    tests: dict[Path, dict[int, list[str]]]
    """Module -> line -> ids of tests."""
    seconds: dict[str, float]
    """Test -> how long it takes."""

    @classmethod
    def read(cls, modules: list[Path]) -> Reached:
        """Read what `make coverage` noted of these modules."""
        data = CoverageData(str(COVERAGE / "data"))
        data.read()
        if not data.measured_files():
            sys.exit(f"error: {COVERAGE} says of no test what it reaches: run make coverage")
        cases = ElementTree.parse(COVERAGE / "tests.xml").iter("testcase")
        seconds = {_id(case): float(case.get("time", 0)) for case in cases}
        tests = {}
        for module in modules:
            lines = data.contexts_by_lineno(str(ROOT / module))
            tests[module] = {n: [c for c in found if c in seconds] for n, found in lines.items()}
        return cls(tests, seconds)

    def by(self, fault: Fault) -> list[str]:
        """Return the tests that a fault meets: of a line that runs at import, all of the module."""
        lines = self.tests[fault.module]
        first = max((n for n in lines if n <= fault.line), default=0)
        found = lines.get(first) or {test for tests in lines.values() for test in tests}
        quickest = sorted(found, key=self.seconds.__getitem__)
        until = accumulate(self.seconds[test] for test in quickest)
        return [test for test, end in zip(quickest, until, strict=True) if end <= MOST_SECONDS]


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


def _outcomes(faults: list[Fault], reached: Reached) -> Iterator[Outcome]:
    n_workers = os.cpu_count() or 1
    tests = {fault: reached.by(fault) for fault in faults}
    with tempfile.TemporaryDirectory() as base, ThreadPoolExecutor(n_workers) as pool:
        copies = [Path(base) / str(worker) for worker in range(n_workers)]
        for checkout in copies:
            copied(checkout, {fault.module for fault in faults})
        sound = passing({test for several in tests.values() for test in several}, copies[0])
        free: SimpleQueue[Copy] = SimpleQueue()
        for checkout in copies:
            free.put(started(checkout, sorted(sound, key=reached.seconds.__getitem__)[:1]))

        def tried(fault: Fault) -> Outcome:
            copy = free.get()
            try:
                return copy.meet(fault, [test for test in tests[fault] if test in sound])
            finally:
                free.put(copy)

        for i, (fault, out) in enumerate(zip(faults, pool.map(tried, faults), strict=True), 1):
            print(f"[{i}/{len(faults)}] {out}: {fault}", file=sys.stderr)
            yield out


def copied(checkout: Path, modules: Iterable[Path]) -> Path:
    """Copy this checkout, these modules without comments, as they are when they have a fault."""
    files = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(files, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(os.path.isfile, [ROOT / line for line in listed.splitlines()]):
        to = checkout / name.relative_to(ROOT)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, to)
    for module in modules:
        tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
        (checkout / module).write_text(ast.unparse(tree), encoding="utf-8")
    return checkout


def passing(tests: Iterable[str], checkout: Path) -> set[str]:
    """Return the tests that pass in a copy of the checkout."""
    listed, report = checkout / "tests.txt", checkout / "tests.xml"
    listed.write_text("\n".join(sorted(tests)), encoding="utf-8")
    words = ["-q", "-p", "no:cacheprovider", "-n", "auto", "--junitxml", str(report), f"@{listed}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=checkout,
        env=_environment(checkout),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        sys.exit(f"error: the tests do not start in a copy: {done.stdout[-500:]}{done.stderr}")
    cases = list(ElementTree.parse(report).iter("testcase"))
    sound = {_id(c) for c in cases if all(c.find(k) is None for k in ("failure", "error"))}
    print(f"{len(sound)} of {len(cases)} tests pass in a copy", file=sys.stderr)
    return sound


def _id(case: ElementTree.Element) -> str:
    return f"{case.get('file')}::{case.get('name')}"


class Copy:
    """A copy of the checkout, and a process that runs its tests; it ends with this one."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self._process = process = subprocess.Popen(
            [sys.executable, "-c", FORKING],
            cwd=checkout,
            env=_environment(checkout),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._asked = cast("IO[str]", process.stdin)
        self._told = cast("IO[str]", process.stdout)

    def meet(self, fault: Fault, tests: list[str]) -> Outcome:
        """Run these tests with the fault."""
        if not tests:
            return "survived"
        file = self.checkout / fault.module
        kept = file.read_text(encoding="utf-8")
        file.write_text(fault.code, encoding="utf-8")
        try:
            code = self.run(tests)
        finally:
            file.write_text(kept, encoding="utf-8")
        return "busy" if code == -signal.SIGALRM else "noticed" if code else "survived"

    def run(self, tests: list[str]) -> int:
        """Return what pytest ends with, or minus the signal that ended it."""
        print(json.dumps(tests), file=self._asked, flush=True)
        return int(self._told.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def started(checkout: Path, tests: list[str]) -> Copy:
    """Return a process in which these tests pass without a fault, or say that they do not."""
    process = Copy(checkout)
    if tests and process.run(tests) != 0:
        process.close()
        sys.exit(f"error: {tests[0]} passes alone, not in a forked process: it notices everything")
    return process


def _environment(checkout: Path) -> dict[str, str]:
    # bytecode of one fault would be taken for another of equal size within a second
    quiet = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return {**os.environ, "PYTHONPATH": str(checkout), **quiet}


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
