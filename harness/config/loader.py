"""Hydra's loader, made quick for many arms: a file is read once, and Hydra's own settings never."""

from __future__ import annotations

from copy import copy, deepcopy
from dataclasses import replace
from functools import lru_cache
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.conf import JobConf, OverridesConf, RuntimeConf
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import GroupDefault, InputDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

CONFIG_NAME = "config"

_header_of = ConfigSource._get_header_dict
# a byte order mark, as some editors write it, would hide an overlay's first line
ConfigSource._get_header_dict = staticmethod(  # type: ignore[method-assign, assignment]
    lambda text: _header_of(text.removeprefix("\ufeff"))
)


@lru_cache(maxsize=1)
def _loader_of_arms(theirs: ConfigLoader) -> ConfigLoader:
    """Return a loader with the same search path as Hydra's present one."""
    ours = ConfigLoaderImpl(theirs.get_search_path())
    ours.repository = _ReadOnce(theirs.get_search_path())
    return ours


def loaded(overrides: list[str]) -> DictConfig:
    """Return what Hydra composes of its search path and these overrides."""
    loader = _loader_of_arms(GlobalHydra.instance().config_loader())
    tree: DictConfig = loader.load_configuration(CONFIG_NAME, overrides, RunMode.RUN)
    OmegaConf.set_struct(tree, False)
    return tree


class _ReadOnce(ConfigRepository):
    """Hydra's files and stored configs, each read once, without the settings of Hydra itself.

    They are half of a composition, and the same for all arms.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        self.known: dict[str, dict[str, ConfigResult | None]] = {}
        super().__init__(config_search_path)

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """Look into other folders, as ``hydra.searchpath`` asks."""
        super().initialize_sources(config_search_path)
        self.read = self.known.setdefault(str(config_search_path), {})

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Return a copy, which Hydra changes."""
        if config_path not in self.read:
            found = super().load_config(config_path)
            self.read[config_path] = found and _without_hydra(found, config_path)
        return deepcopy(self.read[config_path])

    def __deepcopy__(self, _: Any) -> _ReadOnce:
        """Return a copy whose search path a composition may change; what was read is shared."""
        return copy(self)


def _without_hydra(found: ConfigResult, path: str) -> ConfigResult:
    """Drop Hydra's own settings but those that its loader writes to, and all choices among them."""
    if path == "hydra/config":
        node = {"overrides": OverridesConf, "runtime": RuntimeConf, "job": JobConf}
        written = OmegaConf.create({**node, "searchpath": []})
        return replace(found, config=written, defaults_list=[], is_schema_source=True)
    kept = [default for default in found.defaults_list or () if not _chooses_for_hydra(default)]
    return replace(found, defaults_list=kept)


def _chooses_for_hydra(default: InputDefault) -> bool:
    group = default.group if isinstance(default, GroupDefault) and default.override else None
    return group is not None and group.lstrip("/").startswith("hydra/")
