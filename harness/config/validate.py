"""Refuse what cannot be trained, before data is read or a device is touched.

Each error names the key, its value and what is allowed.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Collection, Iterator
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from harness.config import VOCAB_SIZE, Config, ConfigError, ModelConfig, number_at
from harness.config.steps import refusal
from harness.records.files import flatten

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
BOUNDS = {
    "above": operator.gt,
    "at_least": operator.ge,
    "below": operator.lt,
    "at_most": operator.le,
}
"""What `harness.config.metadata.number` asks of a value."""
LARGEST = 10**9
"""Of a number whose field says nothing else."""
MOST_PARAMETERS = 10**13


def validate(config: Config) -> None:
    """Refuse impossible values."""
    check_finite(config)
    check_bounds(config)
    _check_heads(config.model)
    _check_size(config.model)
    _check_steps(config)
    _check_tuning(config)
    if isinstance(shared := config.hardware.cells_per_gpu, str) and shared != "auto":
        raise ConfigError(f"hardware.cells_per_gpu={shared}: a number, or auto")
    _check_tests(config)
    betas = config.optim.betas
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ConfigError(f"optim.betas={betas}: two numbers in [0, 1), e.g. [0.9,0.999]")
    vocab_size, needed = config.model.vocab_size, VOCAB_SIZE[config.data.tokenizer.name]
    if vocab_size < needed:
        raise ConfigError(
            f"model.vocab_size={vocab_size} is under the {needed} tokens of "
            f"data.tokenizer={config.data.tokenizer.name}: leave it unset"
        )
    if config.budget.usd is not None and config.hardware.usd_per_hour is None:
        raise ConfigError("budget.usd needs hardware.usd_per_hour: the price of one device")
    if not SAFE_NAME.fullmatch(config.study_name):
        raise ConfigError(
            f"study_name={config.study_name!r}: at most 200 letters, digits, '.', '_' and '-'"
        )


def check_finite(config: Any) -> None:
    """Refuse a number that is none, anywhere in a config."""
    for key, value in flatten(asdict(config)).items():
        if not all(map(math.isfinite, _numbers(value))):
            raise ConfigError(f"{key}={value}: must be a finite number")


def _numbers(value: Any) -> Iterator[float]:
    """Yield the floating-point numbers in nested lists and mappings."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _numbers(part)


def check_bounds(group: Any, prefix: str = "", only: Collection[str] = ()) -> None:
    """Hold the numbers of a group, or of a few of its fields, to the bounds of their fields."""
    for item in fields(group):
        if only and item.name not in only:
            continue
        key, value = f"{prefix}{item.name}", getattr(group, item.name)
        if is_dataclass(value):
            check_bounds(value, f"{key}.")
        elif isinstance(value, dict):
            for name, part in value.items():
                if is_dataclass(part):
                    check_bounds(part, f"{key}.{name}.")
        elif isinstance(value, int | float):
            bounds = {name: item.metadata[name] for name in BOUNDS if name in item.metadata}
            if "below" not in bounds:
                bounds.setdefault("at_most", LARGEST)
            if not all(BOUNDS[name](value, bound) for name, bound in bounds.items()):
                raise ConfigError(f"{key}={value}: must be {_allowed(**bounds)}")


def _allowed(
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> str:
    low = f"above {above}" if at_least is None else f"{at_least} or more"
    if below is not None:
        return f"in ({above}, {below})" if at_least is None else f"in [{at_least}, {below})"
    if above is None and at_least is None:
        return f"{at_most} or less"
    return f"{low}, and {at_most} or less"


def _check_size(model: ModelConfig) -> None:
    n_parameters = model.n_embd * (model.vocab_size + 12 * model.n_layer * model.n_embd)
    if n_parameters > MOST_PARAMETERS:
        raise ConfigError(
            f"model.n_layer={model.n_layer}, model.n_embd={model.n_embd} and model.vocab_size="
            f"{model.vocab_size} make a model of {n_parameters:.0e} parameters: lower them"
        )


def _check_tuning(config: Config) -> None:
    for key, factors in config.study.tune.items():
        number_at(config, key)
        numbers = [f for f in factors if type(f) in (int, float) and f > 0]
        if len(set(numbers)) < max(2, len(factors)):
            raise ConfigError(
                f"study.tune: {key}: {factors} must be two or more different factors above 0, such "
                "as [0.5, 1, 2]"
            )
    if config.study.tune and not config.eval.n_val:
        raise ConfigError("study.tune chooses on validation loss: eval.n_val must be 1 or more")


def _check_heads(model: ModelConfig) -> None:
    if model.n_embd % model.n_head:
        divisors = [n for n in range(1, model.n_embd + 1) if model.n_embd % n == 0]
        near = sorted(divisors, key=lambda n: abs(n - model.n_head))[:3]
        raise ConfigError(
            f"model.n_embd={model.n_embd} is not divisible by model.n_head={model.n_head}: "
            f"try n_head={', '.join(map(str, sorted(near)))}"
        )


def _check_steps(config: Config) -> None:
    train, n_devices = config.train, config.hardware.n_devices
    _check_stages(config)
    if config.n_steps < 1:
        raise ConfigError(
            f"train.tokens={train.tokens} pays for no step of {config.tokens_per_step} tokens "
            f"(train.batch_size={train.batch_size} x model.block_size={config.model.block_size}): "
            "raise it"
        )
    for stage in config.steps.stages:
        if stage.batch_size % n_devices:
            raise ConfigError(
                f"train.batch_size={stage.batch_size} cannot be shared out over "
                f"hardware.n_devices={n_devices}: choose a divisor"
            )


def _check_tests(config: Config) -> None:
    evaluation, block_size = config.eval, config.model.block_size
    names = sorted(evaluation.data)
    if evaluation.test_set is not None and evaluation.test_set not in names:
        raise ConfigError(
            f"eval.test_set={evaluation.test_set}: no such corpus in eval.data, which has "
            f"{', '.join(names) or 'none'}: add it with '+data@eval.data.{evaluation.test_set}=...'"
        )
    if wrong := [name for name in names if not SAFE_NAME.fullmatch(name)]:
        raise ConfigError(f"eval.data.{wrong[0]}: letters, digits, '.', '_' and '-' only")
    if config.eval_block_size > block_size:
        raise ConfigError(
            f"eval.block_size={evaluation.block_size}: at most model.block_size={block_size}"
        )


def _check_stages(config: Config) -> None:
    train, block_size = config.train, config.model.block_size
    wrong = {
        "batch_stages": refusal(train.batch_stages, train.batch_size, divides=False),
        "length_stages": refusal(train.length_stages, block_size, divides=True),
    }
    for key, reason in wrong.items():
        if reason:
            raise ConfigError(
                f"train.{key}={getattr(train, key)}: {reason}; e.g. [[0, 0.25], [0.1, 1]]"
            )
