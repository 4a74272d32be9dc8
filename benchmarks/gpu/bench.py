"""What all stages share: the machine, the time that is left, the page."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import write_section
from harness.config import Config
from harness.config.compose import load
from harness.records.files import append_json_lines
from harness.records.reading import read_json_lines

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "gpu.md"
NOT_YET = (
    "**No stage has been run on a GPU yet.** Until somebody has, these are the only figures.\n\n"
)
"""What the page says until a stage has been."""
DEMO = ["scale=demo", "data=stdlib_docs", "hardware=cpu"]
"""How every stage tries itself out without a GPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """One run of some stages."""

    device: str
    out: Path
    """The folder of the page ``gpu.md``; a new one starts as ours."""
    seconds: float = 480.0
    """A stage starts nothing new after so long."""
    nanogpt: str | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    def seconds_left(self) -> float:
        return self.seconds - (time.monotonic() - self.started)

    @property
    def in_time(self) -> bool:
        return self.seconds_left() > 0

    def config(self, *overrides: str) -> Config:
        """Compose for this device; on a CPU everything shrinks to the demo's size."""
        where = [f"hardware.device={self.device}"] if self.on_gpu else DEMO
        names = {word.split("=")[0] for word in where}
        return load([*(word for word in overrides if word.split("=")[0] not in names), *where])

    def write(self, stage: str, text: str) -> None:
        """Print what a stage found, and put it into the page with the machine and the date."""
        section = f"## {stage}\n\n{text}\n\n{self.machine()}"
        print(f"\n{section}", flush=True)
        self.out.mkdir(parents=True, exist_ok=True)
        page = self.out / PAGE.name
        text = (page if page.exists() else PAGE).read_text(encoding="utf-8")
        page.write_text(text.replace(NOT_YET, "") if self.on_gpu else text, encoding="utf-8")
        write_section(f"stage {stage}", section, page)

    def kept(self, stage: str) -> list[dict[str, Any]]:
        """Return what earlier calls kept on this machine today, also of a page put into docs."""
        files = {folder / f"gpu_{stage}.jsonl" for folder in (PAGE.parent, self.out)}
        found = [read_json_lines(file, skip_torn=True) for file in files if file.exists()]
        lines = [line for some in found for line in some]
        return [line for line in lines if line["machine"] == self.machine()]

    def keep(self, stage: str, line: dict[str, Any]) -> None:
        """Print one result and keep it beside the page, so that the next call goes on from it."""
        self.out.mkdir(parents=True, exist_ok=True)
        append_json_lines(self.out / f"gpu_{stage}.jsonl", [{"machine": self.machine(), **line}])
        print(json.dumps(line), flush=True)

    def machine(self) -> str:
        """Return one line on card, driver, versions and date."""
        name = torch.cuda.get_device_name(self.device) if self.on_gpu else "no GPU: a trial run"
        return (
            f"{name}, {driver()}, torch {torch.__version__}, Python {platform.python_version()}, "
            f"{os.cpu_count()} CPU cores; {datetime.datetime.now(datetime.UTC).date().isoformat()}"
        )


def driver() -> str:
    """Return the GPU driver's version, in words."""
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "driver unknown"
    return f"driver {done.stdout.split()[0]}"


def free_memory(device: str) -> float:
    """Return a GPU's free memory in bytes; infinite without one."""
    return torch.cuda.mem_get_info(device)[0] if device != "cpu" else float("inf")


@contextmanager
def cold_cache(folder: Path) -> Iterator[None]:
    """Compile into an empty folder meanwhile."""
    before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["TORCHINDUCTOR_CACHE_DIR"]
        else:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = before
