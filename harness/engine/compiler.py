"""The compiler of ``hardware.compile`` and what it keeps on disk for the cells of a study."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch
from torch import nn

from harness.config import CompileMode

log = logging.getLogger(__name__)

CACHE = "TORCHINDUCTOR_CACHE_DIR"
FOLDER = ".compiled"
"""In the study's folder, with one numbered folder for each time that a cache was broken."""


def compiled(model: nn.Module, mode: CompileMode) -> nn.Module:
    """Return the model compiled for its device; it shares its weights with the model given."""
    module: nn.Module = torch.compile(model, mode=mode.value)  # type: ignore[assignment]
    return module


def use_cache(study: Path) -> None:
    """Keep what is compiled in the study's folder, unless the user named another place."""
    kept = study / FOLDER
    if CACHE not in os.environ or kept in Path(os.environ[CACHE]).parents:
        numbers = [int(path.name) for path in kept.glob("[0-9]*") if path.name.isdecimal()]
        os.environ[CACHE] = str(kept / str(max(numbers, default=0)))


def renew_cache(error: BaseException) -> bool:
    """After an error of the compiler, start an empty cache of the study; False: another error.

    A process killed while it wrote leaves half a file, on which all later ones fail. The broken
    cache stays for the processes that use it; who starts now finds the new one.
    """
    from torch._dynamo.exc import BackendCompilerFailed

    cache = Path(os.environ.get(CACHE, ""))
    of_compiler = isinstance(error, (BackendCompilerFailed, ImportError, OSError))
    if not of_compiler or cache.parent.name != FOLDER:
        return False
    os.environ[CACHE] = str(cache.parent / str(int(cache.name) + 1))
    Path(os.environ[CACHE]).mkdir(parents=True, exist_ok=True)
    log.warning("the compiler failed, perhaps on a half-written cache: trying with an empty one")
    torch.compiler.reset()
    return True
