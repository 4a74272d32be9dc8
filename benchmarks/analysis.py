"""Measure the analysis and its report on studies of several sizes, from their record files.

    python -m benchmarks.analysis [--write]

The runs are simulated; each command is a process of its own, imports included. A page is opened
in headless chromium where there is one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import machine, table, write_section
from tests.analysis.full_study import full_study

TABLES = ((10, 10, 2), (400, 25, 2))
"""Arms, seeds, and logged points of each curve."""
REPORTS = ((20, 3, 200), (200, 5, 200))
OPENINGS = 5


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command took."""

    wall: float
    processor: float
    peak_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:
        rows = [measure("table", Path(base), *size) for size in TABLES]
        rows += [measure("report", Path(base), *size) for size in REPORTS]
    text = f"{table(rows)}\n\n{machine('pandas', 'scipy', 'vl-convert-python')}."
    print(text)
    if options.write:
        write_section("analysis", text)


def measure(what: str, base: Path, n_arms: int, n_seeds: int, n_points: int) -> dict[str, str]:
    arms = {"baseline": 0.0} | {f"arm{i:03}": -0.001 * (i % 9) for i in range(1, n_arms)}
    study = full_study(base / f"{what}{n_arms}", arms, n_seeds, n_points=n_points)
    words = ["report"] if what == "report" else []
    command = [sys.executable, "-m", "analysis", *words, str(study)]
    cost = min((run(command) for _ in range(3)), key=lambda cost: cost.wall)
    page = study / "report.html"
    return {
        "what": what,
        "runs": f"{n_arms * n_seeds:,} in {n_arms} arms",
        "wall, s": f"{cost.wall:.1f}",
        "processor, s": f"{cost.processor:.1f}",
        "peak memory, MB": f"{cost.peak_bytes / 1e6:.0f}",
        "page, MB": f"{page.stat().st_size / 1e6:.2f}" if page.exists() else "",
        "interactive, s": opening(page) if page.exists() else "",
    }


def run(command: list[str]) -> Cost:
    """Run a command to its end."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"error: {' '.join(command)} failed")
    seconds = time.perf_counter() - start
    return Cost(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def opening(page: Path) -> str:
    """Return the seconds until the page answers to clicks, the median of a few openings."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        return "no browser here"
    from playwright.sync_api import sync_playwright

    ready = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        seconds = []
        for _ in range(OPENINGS):
            tab = chromium.new_page()
            tab.goto(page.as_uri())
            seconds.append(tab.evaluate(ready) / 1000)
            tab.close()
        chromium.close()
    return f"{statistics.median(seconds):.2f}"


if __name__ == "__main__":
    main()
