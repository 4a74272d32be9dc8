"""The GPUs that a process may use, found without importing torch."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from itertools import takewhile
from pathlib import Path

_GPU_NAME = re.compile(r"\d+|(GPU|MIG)-.+")


def visible_gpus() -> list[str]:
    """Return the visible GPUs, or the slices of divided ones, by index or UUID; no torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        return list(takewhile(_GPU_NAME.fullmatch, names))  # as CUDA reads it
    if shutil.which("nvidia-smi") is None:  # some containers have the devices alone
        return [str(i) for i, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    gpus = re.split(r"^GPU ", done.stdout, flags=re.MULTILINE)[1:]
    slices = [re.findall(r"UUID: (MIG-[^)]+)", gpu) for gpu in gpus]
    found = [name for i, own in enumerate(slices) for name in own or [str(i)]]
    return [] if done.returncode else found


def gpu_memory_bytes(gpu: str) -> float:
    """Return a GPU's memory, infinite where nobody can say."""
    if shutil.which("nvidia-smi") is None:
        return math.inf
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits", "-i", gpu]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    mebibytes = done.stdout.strip()
    return float(mebibytes) * 2**20 if mebibytes.isdecimal() else math.inf
