"""Configs for tests: the same overrides are composed once, and Hydra reads its files once."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from hydra import initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra

from harness.config import Config, compose
from harness.config.typed import as_typed
from harness.records.files import CONF_DIR

FOLDERS = ("runs_dir", "data_dir")
"""What a test's own folder changes; nothing in a config follows from them."""


def load(overrides: Sequence[str] = ()) -> Config:
    """Do as `harness.config.compose.load`; overlays of a test's own are read anew each time."""
    beside = Path.cwd() != CONF_DIR.parent and any(map(os.path.isdir, ("my_conf", "conf")))
    if beside or any("searchpath" in item for item in overrides):
        return compose.load(overrides)
    folders = dict(pair for item in overrides if (pair := item.split("=", 1))[0] in FOLDERS)
    config = _composed(tuple(o for o in overrides if o.partition("=")[0] not in FOLDERS)).copy()
    for name, folder in folders.items():
        setattr(config, name, folder)
    return config


@cache
def _composed(overrides: tuple[str, ...]) -> Config:
    with our_hydra():
        return compose.resolve((), as_typed(overrides))


@contextmanager
def our_hydra() -> Iterator[None]:
    """Initialise Hydra with our folder, whose files are read once for all tests of a process."""
    hydra = _hydra()
    GlobalHydra.instance().clear()
    GlobalHydra.instance().initialize(hydra)
    try:
        yield
    finally:
        GlobalHydra.instance().clear()


@cache
def _hydra() -> Hydra:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3", job_name="harness"):
        hydra: Hydra = GlobalHydra.instance().hydra
    return hydra
