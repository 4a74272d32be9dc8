"""The Hydra boundary: overrides in, one checked `Config` out. Nothing behind it sees a DictConfig.

An arm is composed once; its cells differ in their seeds alone. It is held against its baseline:
see `harness.config.overlays`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import II, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from harness.config import Config, ConfigError, Flat, doses, tune
from harness.config.frozen import SCHEMA
from harness.config.loader import CONFIG_NAME, loaded
from harness.config.messages import explain
from harness.config.overlays import changes, check_agreement, check_effects
from harness.config.typed import arm_label, as_typed, of_science
from harness.config.validate import check_bounds, validate
from harness.records.files import CONF_DIR, flatten

NOT_COMPARED = (
    *("interventions", "changes", "study", "study_name"),
    *("sweep", "swept", "swept_changes"),
)
SEARCHPATH = "hydra.searchpath"
SEED_KEYS = ("seed", "seeds.init", "seeds.data", "seeds.loop")

ConfigStore.instance().store(name="harness_schema", node=Config)
doses.register()


def load(overrides: Sequence[str] = ()) -> Config:
    """Compose a config from outside Hydra's command line, as the other commands do."""
    return load_all([overrides])[0]


def load_all(cells: Sequence[Sequence[str]]) -> list[Config]:
    """Compose several configs at one go: what they share is composed once."""
    GlobalHydra.instance().clear()
    _composed.cache_clear()
    _flat.cache_clear()
    _resolved.cache_clear()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3", job_name="harness"):
        return [_of_a_command(as_typed(overrides)) for overrides in cells]


def _of_a_command(overrides: Sequence[str]) -> Config:
    """Resolve overrides that did not come through Hydra's command line; let it check its own."""
    theirs = [item for item in overrides if _is_hydras(item)]
    if any(_key(item) != SEARCHPATH for item in theirs):
        loader = GlobalHydra.instance().config_loader()
        with _in_one_line():
            loader.load_configuration(CONFIG_NAME, theirs, RunMode.RUN)
    return resolve(theirs, [item for item in overrides if item not in theirs])


def resolve(hydra_overrides: Sequence[str], overrides: Sequence[str]) -> Config:
    """Compose and check one cell; needs an initialised Hydra, whose own overrides stand apart."""
    names, rest = _split(overrides)
    seeds = dict(pair for item in rest if (pair := _seed(item)))
    others = tuple(item for item in rest if _seed(item) is None)
    paths = tuple(item for item in hydra_overrides if _key(item) == SEARCHPATH)
    arm = _Arm(searchpath=paths, others=others, overlays=tuple(names))
    composed = _composed(arm)
    config = _resolved(arm, tuple(seeds.items()) * composed.follows_seeds).copy()
    with _in_one_line():
        tree = composed.with_seeds(seeds)
        config.seed, config.seeds = tree.seed, OmegaConf.to_object(tree.seeds)  # type: ignore[assignment]
    check_bounds(config, only=("seed", "seeds"))
    return config


@lru_cache(maxsize=256)
def _resolved(arm: _Arm, seeds: tuple[tuple[str, str], ...]) -> Config:
    """Return an arm's config, checked; its cells have copies."""
    config = _composed(arm).typed(dict(seeds))
    validate(config)
    if sorted(arm.overlays) != sorted(config.interventions):
        raise ConfigError(
            f"the overlays {list(arm.overlays)} carry cards for {sorted(config.interventions)}: "
            "each conf/intervention/NAME.yaml must carry exactly the card interventions.NAME"
        )
    if arm.overlays:
        _compare(config, arm)
    if config.study.tuned:
        tune(config)
        validate(config)
    if config.sweep:
        _name_by_sweep(config, arm)
    return config


@dataclass(frozen=True, kw_only=True, slots=True)
class _Arm:
    """What is composed: a command line without its seeds."""

    searchpath: tuple[str, ...]
    """Of Hydra's own overrides, the one that says where files lie."""
    others: tuple[str, ...]
    overlays: tuple[str, ...]

    def but(self, *overlays: str) -> _Arm:
        """Return the same with other overlays, without the values of what these do not bring.

        No overlay is the baseline.
        """
        other = replace(self, overlays=overlays)
        return replace(other, others=_with_a_place(other))


@dataclass(frozen=True, slots=True)
class _Composed:
    tree: DictConfig
    seeds: dict[str, Any]
    """As composed: a number, or that it follows ``seed``."""
    follows_seeds: bool
    """Whether any other value refers to a seed, and so may differ from cell to cell."""

    def with_seeds(self, given: dict[str, str]) -> DictConfig:
        """Set all seeds and return the tree, which the cells of an arm share: copies are slow."""
        wanted = self.seeds | given
        for key, value in wanted.items():
            group, _, name = key.rpartition(".")
            # set directly: resolving a reference to `seed` in every cell is slow
            (self.tree[group] if group else self.tree)[name] = (
                wanted["seed"] if value == II("seed") else value
            )
        return self.tree

    def typed(self, seeds: dict[str, str]) -> Config:
        """Return it as dataclasses; ``+model.typo=3``, which slips past Hydra, is refused."""
        with _in_one_line():
            tree = self.with_seeds(seeds)
            try:
                config: Config = OmegaConf.to_object(tree)  # type: ignore[assignment]
            except AttributeError:  # the schema's own refusal names the key
                OmegaConf.merge(SCHEMA, OmegaConf.to_container(tree, resolve=False))
                raise
        return config


@lru_cache(maxsize=256)
def _composed(arm: _Arm) -> _Composed:
    """Let Hydra compose an arm; refuse what Hydra accepts silently."""
    overlays = [f"+intervention=[{','.join(arm.overlays)}]"] if arm.overlays else []
    with _in_one_line():
        tree = loaded([*arm.searchpath, *arm.others, *overlays])
        runtime = tree.pop("hydra").runtime
        _refuse_namesakes("intervention", arm.overlays, runtime.config_sources)
        chosen = runtime.choices.get("study")
        _refuse_namesakes("study", [chosen] if chosen else [], runtime.config_sources)
        tree.scale_name = runtime.choices.get("scale", "")
        composed: dict[str, Any] = OmegaConf.to_container(tree, resolve=False)  # type: ignore[assignment]
        if arm.overlays:
            doses.supply(tree, composed, _flat(arm.but()))
        if missing := OmegaConf.missing_keys(tree):
            raise ConfigError(f"no value for {', '.join(sorted(missing))}: set it")
    values = flatten(composed)
    others = (str(value) for key, value in values.items() if key not in SEED_KEYS)
    follows = any("${" in text and "seed" in text for text in others)
    return _Composed(tree, {key: values[key] for key in SEED_KEYS}, follows)


def _with_a_place(arm: _Arm) -> tuple[str, ...]:
    """Return the arm's overrides without those of a card, or a part's argument, that it lacks."""
    special = [item for item in arm.others if _may_be_an_overlay_s(item)]
    if not special:
        return arm.others
    rest = tuple(item for item in arm.others if item not in special)
    tree = _composed(replace(arm, others=rest)).tree
    return tuple(o for o in arm.others if o not in special or _has(tree, _key(o)))


def _may_be_an_overlay_s(override: str) -> bool:
    """Tell whether an override sets what is not in the schema, so that an overlay may bring it."""
    key = _key(override)
    added = override.startswith(("+", "~")) and not key.startswith("interventions.")
    return "." in key and not added and not _has(SCHEMA, key)


def _has(tree: DictConfig, key: str) -> bool:
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(tree, parent)
    return isinstance(node, DictConfig) and name in node


def _refuse_namesakes(group: str, names: Sequence[str], sources: ListConfig) -> None:
    """Refuse a file that two folders have: Hydra would silently take one of them."""
    paths = (source.path for source in sources if source.schema == "file")
    folders = dict.fromkeys(Path(path).resolve() for path in paths)
    plural, own = (
        ("studies", "yours") if group == "study" else (f"{group}s", "yours, file and card")
    )
    for name in names:
        files = [folder / group / f"{name}.yaml" for folder in folders]
        found = [file for file in files if file.exists()]
        if len(found) > 1:
            raise ConfigError(
                f"two {plural} are called {name!r}: {found[0]} and {found[1]}; the first "
                f"would stand for both: rename {own}"
            )


@lru_cache(maxsize=256)
def _flat(arm: _Arm) -> Flat:
    """Return everything but the cards as dotted keys with plain values."""
    with _in_one_line():
        tree = OmegaConf.to_container(_composed(arm).with_seeds({}), resolve=True, enum_to_str=True)
    return flatten({str(k): v for k, v in tree.items() if k not in NOT_COMPARED})  # type: ignore[union-attr]


def _compare(config: Config, arm: _Arm) -> None:
    """Note what the arm and each of its overlays change; refuse those that break a rule."""
    baseline = _flat(arm.but())
    for name, card in config.interventions.items():
        card.changes = changes(baseline, _flat(arm.but(name)))
    check_effects(config)
    check_agreement(config, baseline, [_flat(arm), _flat(arm.but(*arm.overlays[::-1]))])
    config.changes = changes(baseline, _flat(arm))


def _name_by_sweep(config: Config, arm: _Arm) -> None:
    """Note which swept settings differ from the baseline's, and so name the arm."""
    given = {_key(item): item for item in arm.others}
    swept = {key: given[key] for key in config.sweep if key in given}
    bare = arm.but()
    plain = replace(bare, others=tuple(o for o in bare.others if o not in swept.values()))
    baseline = _flat(plain)
    config.swept_changes = of_science(changes(baseline, _flat(bare)))
    for key, override in swept.items():
        if override not in bare.others:
            _name_by_overlay_s(config, arm, override)
            continue
        alone = _flat(replace(plain, others=(*plain.others, override)))
        if of_science(changes(baseline, alone)):
            config.swept[key] = arm_label(alone.get(key, override.partition("=")[2]))


def _name_by_overlay_s(config: Config, arm: _Arm, override: str) -> None:
    """Name the arm by a swept value of its overlay, where the overlay's file has another."""
    key = _key(override)
    filed = _composed(replace(arm, others=tuple(o for o in arm.others if o != override))).tree
    value = OmegaConf.select(_composed(arm).tree, key)
    if value != OmegaConf.select(filed, key):
        config.swept[key] = arm_label(value)


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except ConfigError:
        raise
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        raise ConfigError(explain(error)) from error


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _is_hydras(override: str) -> bool:
    return re.match("hydra([./=@]|$)", override.lstrip("+~")) is not None


def _seed(override: str) -> tuple[str, str] | None:
    """Return (key, value) of ``seed=3`` or ``seeds.init=3``, else None."""
    key, _, value = override.partition("=")
    return (key, value) if key in SEED_KEYS else None


def _split(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the overlays' names (baseline is none) from all other overrides."""
    names: list[str] = []
    rest: list[str] = []
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key != "intervention":
            rest.append(override)
            continue
        names += [name for name in _listed(override, value) if name != "baseline"]
    if len(set(names)) < len(names):
        raise ConfigError(f"an intervention is named twice in {names}: name each once")
    return names, rest


@lru_cache(maxsize=256)
def _listed(override: str, value: str) -> list[str]:
    try:
        found = OverridesParser.create().parse_override(f"x={value}")
    except HydraException as error:
        raise ConfigError(f"cannot read {override!r}: quote it: '+intervention=[a,b]'") from error
    if found.is_sweep_override():
        raise ConfigError(
            f"{override} is a sweep, which `python -m harness -m` runs: name one arm or stack, "
            "'+intervention=[a,b]', or a study's arms, 'study.arms=[baseline,a]' study.seeds=5"
        )
    parsed = found.value()
    chosen = [str(name) for name in (parsed if isinstance(parsed, list) else [parsed])]
    if "" in chosen:
        raise ConfigError(f"{override} names no intervention; see: python -m interventions")
    return chosen
