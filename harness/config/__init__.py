"""The configuration: one dataclass a group, every default here, overridden by ``conf/`` and you.

The defaults are the published 163M baseline; ``conf/scale/*.yaml`` shrinks it. Hydra checks
every key and type against these classes; behind `harness.config.compose` nothing else is
passed around.
No heavy import here: refusing a config must be quick.
"""

from __future__ import annotations

import pickle
from collections.abc import Collection
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any, cast

from omegaconf import II

from harness.config.metadata import Slot, slot
from harness.config.running import (
    AttentionKernel,
    Backend,
    CheckpointConfig,
    CompileMode,
    EvalConfig,
    HardwareConfig,
    LogConfig,
    SampleConfig,
    TrackingConfig,
    WandbMode,
)
from harness.config.science import (
    VOCAB_SIZE,
    Autocast,
    Cut,
    DataConfig,
    Matmul,
    ModelConfig,
    OptimConfig,
    PrecisionConfig,
    SeedsConfig,
    Source,
    Tokenizer,
    TrainConfig,
)
from harness.config.steps import Plan, Steps
from harness.config.study import BudgetConfig, CardConfig, Event, StudyConfig
from harness.records.files import flatten, plain

__all__ = [
    "VOCAB_SIZE",
    "AttentionKernel",
    "Autocast",
    "Backend",
    "BudgetConfig",
    "CardConfig",
    "CheckpointConfig",
    "CompileMode",
    "Config",
    "ConfigError",
    "Cut",
    "DataConfig",
    "EvalConfig",
    "Event",
    "Flat",
    "HardwareConfig",
    "LogConfig",
    "Matmul",
    "ModelConfig",
    "OptimConfig",
    "PrecisionConfig",
    "SampleConfig",
    "SeedsConfig",
    "Slot",
    "Source",
    "StudyConfig",
    "Tokenizer",
    "TrackingConfig",
    "TrainConfig",
    "WandbMode",
    "number_at",
    "recipe",
    "scientific",
    "stack_of",
    "tune",
]

Flat = dict[str, Any]
"""Dotted key -> plain value."""


class ConfigError(ValueError):
    """A config that cannot be trained; the message is one line for the person who typed it."""


@dataclass(kw_only=True, slots=True)
class Config:
    """Everything that one cell needs."""

    study_name: str = "adhoc"
    """Names the folder below ``runs_dir``."""
    seed: int = 0
    """Sets all three of `seeds`."""
    runs_dir: str = "runs"
    """Where studies are written, a folder each."""
    data_dir: str = "data"
    """Where prepared corpora lie."""
    overwrite: bool = False
    """Train again what is already complete."""
    scale_name: str = II("hydra:runtime.choices.scale")
    """The name of the scale's file."""
    seeds: SeedsConfig = field(default_factory=SeedsConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: Slot = slot("harness.schedule.constant")
    """Learning-rate factor as a function of (step, n_steps)."""
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    log: LogConfig = field(default_factory=LogConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    interventions: dict[str, CardConfig] = field(default_factory=dict)
    """The cards of the overlays, by name; see below."""
    changes: dict[str, Any] = field(default_factory=dict)
    """What the interventions change: dotted key -> [baseline's value, this arm's]. Filled in by
    the harness."""
    sweep: list[str] = field(default_factory=list)
    """Settings whose values name arms, where they are not the baseline's: those that a sweep
    varies. Filled in by the sweep."""
    swept: dict[str, Any] = field(default_factory=dict)
    """Setting of `sweep` -> how its value stands in the arm's name. Filled in by the harness."""
    swept_changes: dict[str, Any] = field(default_factory=dict)
    """What the swept settings change, as `changes`. Filled in by the harness."""
    study: StudyConfig = field(default_factory=StudyConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimiser step, the largest where they differ."""
        return self.train.batch_size * self.model.block_size

    @property
    def steps(self) -> Steps:
        """What each optimiser step reads."""
        train = self.train
        return Plan(
            tokens=train.tokens,
            block_size=self.model.block_size,
            batch_size=train.batch_size,
            round_up=train.round_up,
            batch_stages=train.batch_stages,
            length_stages=train.length_stages,
        ).steps()

    @property
    def n_steps(self) -> int:
        """Optimiser steps that the token budget pays for."""
        if self.train.round_up or self.train.batch_stages:
            return self.steps.n_steps
        return self.train.tokens // self.tokens_per_step

    def tokens_after(self, step: int) -> int:
        """Return how many tokens the first `step` steps read."""
        if not self.train.batch_stages:
            return step * self.tokens_per_step
        return self.steps.n_before(step) * self.model.block_size

    @property
    def eval_block_size(self) -> int:
        """Tokens of a sequence in validation and test."""
        return self.eval.block_size or self.model.block_size

    @property
    def test_data(self) -> dict[str, DataConfig]:
        """Test set -> its corpus, tokenised as the training corpus is."""
        tokenizer = self.data.tokenizer
        return {name: replace(data, tokenizer=tokenizer) for name, data in self.eval.data.items()}

    def copy(self) -> Config:
        """Return a copy that shares nothing; ten times as fast as `copy.deepcopy`."""
        return cast(Config, pickle.loads(pickle.dumps(self)))  # noqa: S301 - what it wrote itself

    @property
    def arm(self) -> str:
        """Sorted intervention names joined with ``+``, or ``baseline``; then what is swept."""
        names = "+".join(sorted(self.interventions)) or "baseline"
        values = ",".join(f"{key}={value}" for key, value in sorted(self.swept.items()))
        return f"{names}[{values}]" if values else names


_HASHED = ("seeds", "model", "train", "optim", "schedule", "precision")


def scientific(config: Config, dataset_sha256: str) -> dict[str, Any]:
    """Return what can change a cell's numbers, as plain data: the cell id is its hash.

    Hardware, tracking, paths, logging and the wording of the cards are left out.
    """
    cards = config.interventions.items()
    kept: dict[str, Any] = {name: _hashed(getattr(config, name)) for name in _HASHED}
    kept |= {
        "interventions": {name: {"event": card.event, "fn": card.fn} for name, card in cards},
        "dataset": dataset_sha256,
        "shuffle": config.data.shuffle,
        "test_sequences": config.eval.test_sequences,
    }
    added = {
        "pipeline": config.data.pipeline,
        "eval_block_size": config.eval.block_size,
        "spread": config.eval.spread,
        "test_set": config.eval.test_set,
    }
    kept |= {name: value for name, value in added.items() if value}
    kept["train"].pop("init_from", None)  # where the weights lay; their hash is there
    for how in ("equal_flops", "equal_seconds", "relative_seconds"):
        kept["train"].pop(how, None)  # how the tokens were found; they are there
    result: dict[str, Any] = plain(kept)
    return result


def _hashed(group: Any) -> dict[str, Any]:
    """Return a group's values, without fields that were added later and have their default."""
    if isinstance(group, dict):
        return group
    default = type(group)()
    return {
        item.name: getattr(group, item.name)
        for item in fields(group)
        if "later" not in item.metadata or getattr(group, item.name) != getattr(default, item.name)
    }


def recipe(config: Config, dataset_sha256: str) -> Flat:
    """Return the science that the arm's interventions are applied to: their changes undone.

    Cells of one arm that share it differ in seeds or in the arm itself. Seeds are left out, and so
    is what is None: that stands for a setting of the arm alone, too.
    """
    bare = stack_of(config, ())
    for key, (baselines, _) in config.swept_changes.items():
        _set(bare, key.split("."), baselines)
    science = scientific(bare, dataset_sha256)
    groups = science.keys() - {"seeds", "interventions"}
    return {
        key: value
        for key, value in flatten(science).items()
        if key.split(".")[0] in groups and value is not None
    }


def all_changes(config: Config) -> dict[str, list[Any]]:
    """Return what an arm changes, by its interventions and by what is swept."""
    both = config.swept_changes | config.changes
    baselines = {key: pair[0] for key, pair in (config.changes | config.swept_changes).items()}
    return {key: [baselines[key], both[key][1]] for key in sorted(both)}


def stack_of(config: Config, names: Collection[str]) -> Config:
    """Return a copy with these interventions alone; what only the others change is undone."""
    smaller = config.copy()
    cards = smaller.interventions = {n: c for n, c in config.interventions.items() if n in names}
    kept = {key: pair for card in cards.values() for key, pair in card.changes.items()}
    for key, (baselines, _) in config.changes.items():
        if key not in kept:
            _set(smaller, key.split("."), baselines)
    smaller.changes = kept
    return smaller


def tune(config: Config) -> None:
    """Multiply the settings of ``study.tuned``, as a part of what the arm changes."""
    for key, factor in config.study.tuned.items():
        own = number_at(config, key)
        value = type(own)(round(own * factor) if isinstance(own, int) else own * factor)
        baselines = config.changes.get(key, [own])[0]
        if value != own:
            config.changes[key] = [baselines, value]
            _set(config, key.split("."), value)


def number_at(config: Config, key: str) -> int | float:
    """Return the number that stands at a dotted key; `ConfigError` if there is none."""
    node: Any = config
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else getattr(node, name, None)
    if isinstance(node, bool) or not isinstance(node, int | float):
        raise ConfigError(f"study.tune: {key} is {node!r:.40}, not a number that factors multiply")
    return node


def _set(node: Any, path: list[str], value: Any) -> None:
    name, *rest = path
    if rest:
        child = node[name] if isinstance(node, dict) else getattr(node, name)
        _set(child, rest, value)
        if child == {} and isinstance(node, dict):  # a slot that the baseline does not have
            del node[name]
    elif not isinstance(node, dict):
        kind = type(getattr(node, name))
        setattr(node, name, kind[value] if issubclass(kind, Enum) else value)
    elif value is None:  # a slot's argument that the baseline does not have
        node.pop(name, None)
    else:
        node[name] = value
