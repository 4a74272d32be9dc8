"""Stage check: the tests that need a GPU."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.gpu.bench import ROOT, Bench
from benchmarks.gpu.stage import Result
from benchmarks.report import table
from harness.engine.machine import n_cores

TESTS = "tests/harness/test_gpu.py"
MOST_AT_ONCE = 12
"""Test processes that share the GPU: compiling is their work, and that is the CPU's."""
GRACE_SECONDS = 60
"""For the tests under way when the time is over."""
ENDED = ("failure", "error", "skipped")


def run(bench: Bench) -> Result:
    """Run the tests marked `gpu` that have not passed here; without a GPU, those beside them."""
    if importlib.util.find_spec("pytest") is None:
        return Result("pytest cannot be imported here: nothing was checked", failed=True)
    passed = {line["test"]: line for line in bench.kept("check") if line["ended"] == "passed"}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        done = _pytest(bench, report, list(passed))
        found = cases(report) if report.exists() else []
    for case in found:
        bench.keep("check", case)
    result = summarise([*passed.values(), *found])
    return result if done else Result(f"{result.text}\n\nNot all ran: run the stage again.", True)


def _pytest(bench: Bench, report: Path, passed: list[str]) -> bool:
    """Run the tests but those that passed; False where the time did not suffice."""
    n = max(1, min(MOST_AT_ONCE, n_cores() - 2))
    xdist = importlib.util.find_spec("xdist") is not None
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
               f"--junitxml={report}", "-m", "gpu" if bench.on_gpu else "not gpu and not slow",
               *(f"--deselect={TESTS}::{name}" for name in passed),
               *(["-n", str(n), "--dist", "worksteal"] if xdist else []), TESTS]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        process.wait(max(0.0, bench.seconds_left()))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # pytest then writes what it has
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        return False
    return True


def cases(report: Path) -> list[dict[str, Any]]:
    """Return each test of a JUnit report with how it ended, and a failure's first line."""
    found = []
    for case in ElementTree.parse(report).iter("testcase"):
        ends = [child for child in case if child.tag in ENDED]
        words = (ends[0].get("message") or "").splitlines() if ends else []
        ended = ends[0].tag if ends else "passed"
        found.append({"test": case.get("name", ""), "ended": ended, "said": (words or [""])[0]})
    return found


def summarise(found: list[dict[str, Any]]) -> Result:
    """Return a row for each test, with how its cases ended, and every failure's first line."""
    counts: dict[str, Counter[str]] = {}
    for case in found:
        counts.setdefault(case["test"].split("[")[0], Counter())[case["ended"]] += 1
    rows = [
        {"test": name.removeprefix("test_").replace("_", " "),
         **{kind: str(ended[kind]) for kind in ("passed", *ENDED)}}
        for name, ended in counts.items()
    ]  # fmt: skip
    if not rows:
        return Result("no test ran", failed=True)
    failures = [
        f"- {case['test']}: {case['said'] or 'failed'}"
        for case in found
        if case["ended"] in ("failure", "error")
    ]
    return Result("\n".join([table(rows), "", *failures]).strip(), failed=bool(failures))
