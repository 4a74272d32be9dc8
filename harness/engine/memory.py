"""How this process holds memory, and whether an error means that it ran out."""

from __future__ import annotations

import ctypes
import re
import resource
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
"""Parameters of glibc's mallopt(3)."""

TOP_PAD_BYTES = 64 << 20
STATUS = Path("/proc/self/status")


def keep_memory() -> bool:
    """Tell glibc's malloc to keep what is freed; return whether it did.

    By default large tensors are mapped afresh each time, and the kernel fills every page of them
    with zeros: a third of the time of a step whose logits are large. Elsewhere than on glibc, or
    where another allocator is preloaded, nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {
        _M_MMAP_MAX: 0,
        _M_TRIM_THRESHOLD: 2**31 - 1,
        _M_TOP_PAD: TOP_PAD_BYTES,
    }
    return all(mallopt(name, value) for name, value in settings.items())


def peak_resident_bytes() -> int:
    """Return the most memory that this process ever held.

    As its own page of /proc says, where there is one: getrusage also counts, on Linux, the process
    that started this one. macOS counts bytes there, others KiB.
    """
    text = STATUS.read_text(encoding="utf-8") if STATUS.exists() else ""
    if found := re.search(r"^VmHWM:\s*(\d+) kB", text, re.MULTILINE):
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out, on the GPU or the CPU."""
    words = ("out of memory", "alloc_failed", "can't allocate memory", "not enough memory")
    text = f"{type(error).__name__}: {error}".lower()
    return "memoryerror" in text or any(word in text for word in words)
