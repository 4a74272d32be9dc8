"""Stage check: the tests that need a GPU."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.gpu.bench import ROOT, Bench
from benchmarks.gpu.stage import Result
from benchmarks.report import table

MOST_AT_ONCE = 6
"""Test processes that share the GPU: compiling is their work, and that is the CPU's."""


def run(bench: Bench) -> Result:
    """Run the tests marked `gpu`, or without a GPU those beside them."""
    if importlib.util.find_spec("pytest") is None:
        return Result("pytest cannot be imported here: nothing was checked", failed=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
                   f"--junitxml={report}", "-m", "gpu" if bench.on_gpu else "not gpu and not slow",
                   "tests/harness/test_gpu.py", *_at_once()]  # fmt: skip
        try:
            subprocess.run(command, cwd=ROOT, check=False, timeout=bench.seconds)
        except subprocess.TimeoutExpired:
            return Result(f"not done within {bench.seconds:.0f} s", failed=True)
        return summarise(report)


def _at_once() -> list[str]:
    if importlib.util.find_spec("xdist") is None:
        return []
    return ["-n", str(MOST_AT_ONCE), "--dist", "worksteal"]


def summarise(report: Path) -> Result:
    """Return a row for each test, with how its cases ended, and every failure's first line."""
    counts: dict[str, Counter[str]] = {}
    failures = []
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.get("name", "").split("[")[0]
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        counts.setdefault(name, Counter())[kinds[0] if kinds else "passed"] += 1
        for child in case:
            if child.tag in ("failure", "error"):
                said = (child.get("message") or "").splitlines()
                failures.append(f"- {case.get('name')}: {said[0] if said else 'failed'}")
    rows = [
        {"test": name.removeprefix("test_").replace("_", " "),
         **{kind: str(ended[kind]) for kind in ("passed", "failure", "error", "skipped")}}
        for name, ended in counts.items()
    ]  # fmt: skip
    if not rows:
        return Result("no test ran", failed=True)
    return Result("\n".join([table(rows), "", *failures]).strip(), failed=bool(failures))
