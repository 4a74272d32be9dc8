"""Configs for tests that are about something else: the same overrides are composed once."""

from collections.abc import Sequence
from functools import cache

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from harness.config import Config, compose
from harness.config.typed import as_typed
from harness.records.files import CONF_DIR

FOLDERS = ("runs_dir", "data_dir")
"""What a test's own folder changes; nothing in a config follows from them."""


def load(overrides: Sequence[str] = ()) -> Config:
    """Do as `harness.config.compose.load`; overlays of a test's own are read anew each time."""
    if any("searchpath" in item for item in overrides):
        return compose.load(overrides)
    folders = dict(pair for item in overrides if (pair := item.split("=", 1))[0] in FOLDERS)
    config = _composed(tuple(o for o in overrides if o.partition("=")[0] not in FOLDERS)).copy()
    for name, folder in folders.items():
        setattr(config, name, folder)
    return config


@cache
def _composed(overrides: tuple[str, ...]) -> Config:
    """Compose as `compose.load` does, which forgets what arms of an earlier call share."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3", job_name="harness"):
        return compose.resolve((), as_typed(overrides))
