"""Values that follow from others: OmegaConf's resolvers of this project.

An overlay says in its own file how large its change is, whatever the scale::

    optim: {lr: "${times:3.5}"}                                  # 3.5 times the baseline's
    optim: {grad_clip: "${per_scale:{gpt2_small: 3.5, default: 1.0}}"}  # one for each scale
    eval: {block_size: "${baseline:model.block_size}"}     # what another key is in the baseline

A scale is the name of its file in ``conf/scale``; without a ``default``, a scale that is not named
is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from omegaconf import DictConfig, OmegaConf

from harness.config import VOCAB_SIZE, ConfigError, Flat, Tokenizer
from harness.records.files import flatten

_FACTOR = "${times:"
_OTHERS = re.compile(r"\$\{baseline:([\w.]+)\}")


def supply(tree: DictConfig, composed: dict[str, Any], baseline: Flat) -> None:
    """Give every factor in an arm's tree what it multiplies: the baseline's value of its key.

    That is another tree's: an overlay's ``optim.lr`` that refers to ``optim.lr`` is a circle.
    """
    for key, value in flatten(composed).items():
        if isinstance(value, str) and _FACTOR in value:
            theirs = json.dumps(baseline.get(key))
            OmegaConf.update(tree, key, value.replace(_FACTOR, f"{_FACTOR}{theirs},"))
        elif isinstance(value, str) and (named := _OTHERS.fullmatch(value)):
            OmegaConf.update(tree, key, baseline.get(named[1]))


def times(*numbers: Any) -> float:
    """Multiply in decimals: 3 times 4e-4 is 0.0012, without a float's last digits."""
    if len(numbers) == 1:
        raise ConfigError(
            "times is a factor of the baseline's value, for overlays; print what it comes to with "
            "python -m harness --help +intervention=NAME"
        )
    value, factor = numbers
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"the baseline has {value} here, no number to take {factor} times")
    product = Decimal(str(value)) * Decimal(str(factor))
    if isinstance(value, float):
        return float(product)
    if product % 1:
        raise ConfigError(f"{factor} times the baseline's {value} is {product}, no whole number")
    return int(product)


def per_scale(doses: Mapping[str, Any], *, _root_: DictConfig) -> Any:
    """Choose by the scale's name, or ``default``."""
    scale = _root_.scale_name
    if scale not in doses and "default" not in doses:
        raise ConfigError(
            f"no dose for scale={scale}, only for {', '.join(doses)}: add it, or default, to the "
            "overlay's per_scale"
        )
    return doses[scale if scale in doses else "default"]


def _refuse(what: str) -> None:
    raise ConfigError(f"${{{what}}} stands for a baseline's value, for overlays alone")


def register() -> None:
    """Make the resolvers known to OmegaConf."""
    resolvers: dict[str, Callable[..., Any]] = {
        "times": times,
        "baseline": lambda key: _refuse(f"baseline:{key}"),
        "per_scale": per_scale,
        "vocab_size": lambda tokenizer: VOCAB_SIZE[Tokenizer(tokenizer).name],
        "end_of_text": lambda tokenizer: VOCAB_SIZE[Tokenizer(tokenizer).name] - 1,
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)
