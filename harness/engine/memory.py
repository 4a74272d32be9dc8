"""How this process holds memory, and whether an error means that it ran out."""

from __future__ import annotations

import ctypes
import resource
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
"""Parameters of glibc's mallopt(3)."""

TOP_PAD_BYTES = 64 << 20


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
    """Return the most memory that this process ever held; macOS counts bytes, Linux KiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out, on the GPU or the CPU."""
    words = ("out of memory", "alloc_failed", "can't allocate memory", "not enough memory")
    text = f"{type(error).__name__}: {error}".lower()
    return "memoryerror" in text or any(word in text for word in words)
