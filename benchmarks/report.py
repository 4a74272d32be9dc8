"""Write measured tables into docs/benchmarks.md, each between its own marks."""

from __future__ import annotations

import datetime
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def write_section(name: str, text: str, page: Path = PAGE) -> None:
    """Replace what stands between ``<!-- name -->`` and ``<!-- /name -->``, or append it."""
    section = f"<!-- {name} -->\n{text.strip()}\n<!-- /{name} -->"
    old = page.read_text(encoding="utf-8") if page.exists() else "# Benchmarks\n"
    pattern = re.compile(f"<!-- {name} -->.*?<!-- /{name} -->", re.DOTALL)
    if pattern.search(old):
        page.write_text(pattern.sub(lambda _: section, old), encoding="utf-8")
    else:
        page.write_text(f"{old.rstrip()}\n\n{section}\n", encoding="utf-8")


def table(rows: list[dict[str, str]]) -> str:
    """Return rows as a Markdown table."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([row[key] for key in head] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine(*packages: str) -> str:
    """Return one line on where and when: processor, Python, package versions, date."""
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return f"{_processor()}, Python {platform.python_version()}, {versions}; {today}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """Return the processor's name, as Linux knows it, and the number of cores."""
    info = Path("/proc/cpuinfo")
    names = (
        re.findall(r"model name\s*: (.+)", info.read_text(encoding="utf-8"))
        if info.exists()
        else []
    )
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"
