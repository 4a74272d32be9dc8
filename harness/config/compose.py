"""The Hydra boundary: overrides in, one checked `Config` out. Nothing behind it sees a DictConfig.

`resolve` also holds an arm against its baseline: what does each overlay change, do two of them
disagree, does one touch what an intervention may not?
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from conf import CONF_DIR
from harness.config import VOCAB_SIZE, Config, ConfigError, Flat, Tokenizer
from harness.config.messages import explain
from harness.config.validate import validate
from harness.records.files import flatten

CONFIG_NAME = "config"
PROTECTED = ("data", "eval", "seeds", "hardware")
"""What an intervention may touch only if its card declares it."""

NOT_COMPARED = ("interventions", "changes", "study", "study_name")
SEED_KEYS = ("seed", "seeds.init", "seeds.data", "seeds.loop")

ConfigStore.instance().store(name="schema", node=Config)
OmegaConf.register_new_resolver(
    "vocab_size", lambda tokenizer: VOCAB_SIZE[Tokenizer(tokenizer).name], replace=True
)


def load(overrides: Sequence[str] = ()) -> Config:
    """Compose a config from outside Hydra's command line, as the other commands do.

    Raises
    ------
    ConfigError
        An unknown group, key or value; the message is one line.
    """
    GlobalHydra.instance().clear()
    _compose.cache_clear()
    _Loader.flat.cache_clear()
    _Loader.whole.cache_clear()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3", job_name="harness"):
        return resolve((), overrides)


def resolve(hydra_overrides: Sequence[str], overrides: Sequence[str]) -> Config:
    """Compose and check one arm; needs an initialised Hydra.

    Parameters
    ----------
    hydra_overrides
        Overrides of Hydra itself, such as ``hydra.searchpath=[file://my_conf]``.
    overrides
        Everything else, as on the command line.

    Raises
    ------
    ConfigError
        The composition fails, or an overlay breaks a rule.
    """
    loader = _Loader(tuple(hydra_overrides))
    names, rest = _split(overrides)
    config = loader.config((*rest, _with(names)) if names else rest)
    validate(config)
    if sorted(names) != sorted(config.interventions):
        raise ConfigError(
            f"the overlays {names} carry cards for {sorted(config.interventions)}: "
            "each conf/intervention/NAME.yaml must carry exactly the card interventions.NAME"
        )
    if not names:
        return config
    rest = tuple(item for item in rest if _seed(item) is None)
    baseline = loader.flat(rest)
    single = {name: _changes(baseline, loader.flat((*rest, _with([name])))) for name in names}
    _check_effect(config, single)
    _check_conflicts(
        baseline, single, [loader.flat((*rest, _with(o))) for o in (names, names[::-1])]
    )
    config.changes = _changes(baseline, loader.flat((*rest, _with(names))))
    return config


@dataclass(frozen=True, slots=True)
class _Loader:
    """Composes through the running Hydra; the seeds apart, equal requests are answered once."""

    hydra_overrides: tuple[str, ...]

    def config(self, overrides: tuple[str, ...]) -> Config:
        """Return the checked config; the seeds of an arm share the work."""
        others = tuple(item for item in overrides if _seed(item) is None)
        seeds = dict(pair for item in overrides if (pair := _seed(item)))
        config = self.whole(others)
        plain = _compose(self.hydra_overrides, others)
        rest = {key: value for key, value in plain.items() if key not in ("seed", "seeds")}
        if "${seed" in str(rest) or not all(value.isdecimal() for value in seeds.values()):
            return deepcopy(self.whole(overrides))
        return _reseeded(config, plain["seeds"], {key: int(seeds[key]) for key in seeds})

    @lru_cache(maxsize=256)  # noqa: B019 - a loader is two strings
    def whole(self, overrides: tuple[str, ...]) -> Config:
        """Return the checked config, made at one go."""
        checked = self.checked(overrides)
        if missing := OmegaConf.missing_keys(checked):
            raise ConfigError(f"no value for {', '.join(sorted(missing))}: set it")
        config: Config = OmegaConf.to_object(checked)  # type: ignore[assignment]
        return config

    @lru_cache(maxsize=256)  # noqa: B019 - a loader is two strings
    def flat(self, overrides: tuple[str, ...]) -> Flat:
        """Return everything but the cards as dotted keys with plain values."""
        plain = OmegaConf.to_container(self.checked(overrides), enum_to_str=True)
        return flatten({str(k): v for k, v in plain.items() if k not in NOT_COMPARED})  # type: ignore[union-attr]

    def checked(self, overrides: tuple[str, ...]) -> DictConfig:
        """Hold the composition against the schema again: ``+model.typo=3`` slips past Hydra."""
        seeds = {key: value for item in overrides if (pair := _seed(item)) for key, value in [pair]}
        others = tuple(item for item in overrides if _seed(item) is None)
        try:
            plain = _compose(self.hydra_overrides, others)
            checked = OmegaConf.merge(OmegaConf.structured(Config), plain)
            for key, value in seeds.items():
                OmegaConf.update(checked, key, value)
            OmegaConf.resolve(checked)
        except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
            raise ConfigError(explain(error)) from error
        return checked  # type: ignore[return-value]


@lru_cache(maxsize=256)
def _compose(hydra_overrides: tuple[str, ...], overrides: tuple[str, ...]) -> dict[str, Any]:
    composed = (
        GlobalHydra.instance()
        .config_loader()
        .load_configuration(
            config_name=CONFIG_NAME,
            overrides=[*hydra_overrides, *overrides],
            run_mode=RunMode.RUN,
        )
    )
    plain: dict[str, Any] = OmegaConf.to_container(composed, resolve=False)  # type: ignore[assignment]
    plain.pop("hydra")
    return plain


def _reseeded(config: Config, rules: dict[str, Any], seeds: dict[str, int]) -> Config:
    """Return a copy of a config with these seeds; `rules` says which follow ``seed``."""
    new = deepcopy(config)
    new.seed = seeds.get("seed", config.seed)
    for name, rule in rules.items():
        own = new.seed if rule == "${seed}" else getattr(config.seeds, name)
        setattr(new.seeds, name, seeds.get(f"seeds.{name}", own))
    return new


def _seed(override: str) -> tuple[str, str] | None:
    """Return (key, value) of ``seed=3`` or ``seeds.init=3``, else None."""
    key, _, value = override.partition("=")
    return (key, value) if key in SEED_KEYS else None


def _split(overrides: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
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
    return names, tuple(rest)


def _listed(override: str, value: str) -> list[str]:
    try:
        parsed = OverridesParser.create().parse_override(f"x={value}").value()
    except HydraException as error:
        raise ConfigError(f"cannot read {override!r}: quote it: '+intervention=[a,b]'") from error
    chosen = [str(name) for name in (parsed if isinstance(parsed, list) else [parsed])]
    if "" in chosen:
        raise ConfigError(f"{override} names no intervention; see: python -m interventions")
    return chosen


def _with(names: Sequence[str]) -> str:
    return f"+intervention=[{','.join(names)}]"


def _changes(baseline: Flat, other: Flat) -> dict[str, list[Any]]:
    keys = sorted(baseline.keys() | other.keys())
    pairs = {key: [baseline.get(key), other.get(key)] for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _check_effect(config: Config, single: dict[str, dict[str, list[Any]]]) -> None:
    for name, changes in single.items():
        card = config.interventions[name]
        if card.event and not card.fn:
            raise ConfigError(
                f"intervention {name!r} names the event {card.event.name}, but no function to "
                "call there: add fn to its card"
            )
        if not changes and card.fn is None and not card.control:
            raise ConfigError(
                f"intervention {name!r} changes nothing here: scale={config.scale_name} has its "
                f"values already, or the command line overrides them; leave it out"
            )
        rest = [item for other in single if other != name for item in single[other].items()]
        if changes and card.fn is None and all(item in rest for item in changes.items()):
            raise ConfigError(
                f"intervention {name!r} adds nothing to this stack: the others set all of its "
                "values already; leave it out"
            )
        for key in changes:
            group = key.split(".")[0]
            if group in PROTECTED and group not in card.declares:
                raise ConfigError(
                    f"intervention {name!r} sets {key}, but an intervention may not touch "
                    f"{group}: declare it in the card (declares: [{group}]) if it has to"
                )


def _check_conflicts(
    baseline: Flat, single: dict[str, dict[str, list[Any]]], stacks: list[Flat]
) -> None:
    """A stack must be the baseline plus every overlay's own changes, in either order."""
    setter: dict[str, tuple[str, Any]] = {}
    for name, changes in single.items():
        for key, (_, value) in changes.items():
            other, theirs = setter.setdefault(key, (name, value))
            if theirs != value:
                raise ConfigError(
                    f"{other!r} and {name!r} set {key} differently ({theirs} and {value}): "
                    "leave one out"
                )
    union = baseline | {key: value for key, (_, value) in setter.items()}
    for stack in stacks:
        for key, (wanted, found) in _changes(union, stack).items():
            raise ConfigError(
                f"the overlays {sorted(single)} set {key} differently ({wanted} and {found}): "
                "leave one out"
            )
