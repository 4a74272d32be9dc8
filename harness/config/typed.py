"""Overrides in the type of their key: Hydra's grammar knows only how a value looks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields, is_dataclass
from decimal import Decimal, InvalidOperation
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from harness.config import Config

_WORD = re.compile(r"(?<![^=,\[\s])[^\s=,\[\](){}\"':$]+(?![^,\]\s])")
"""One value, alone, in a sweep or in a list."""
_NUMBER = re.compile(r"[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:inf|nan)", re.IGNORECASE)


def as_typed(words: Iterable[str]) -> list[str]:
    """Quote numbers where the key is text, and write 1e6 out where it is a whole number.

    Examples
    --------
    >>> as_typed(["study_name=12e4567", "train.tokens=1e6", "tracking.tags=[1e3,a]", "-m"])
    ['study_name="12e4567"', 'train.tokens=1000000', 'tracking.tags=["1e3",a]', '-m']
    """
    return [_typed(word) for word in words]


def _typed(word: str) -> str:
    key, equals, value = word.partition("=")
    kind = _kind(Config, key.lstrip("+").split(".")) if equals and key[:1] not in "-~" else None
    if kind is str:
        return key + equals + _WORD.sub(lambda m: _quoted(m[0]), value)
    if kind is int:
        return key + equals + _WORD.sub(lambda m: _whole(m[0]), value)
    return word


def _quoted(value: str) -> str:
    return f'"{value}"' if _NUMBER.fullmatch(value) else value


def _whole(value: str) -> str:
    with suppress(InvalidOperation, ValueError, OverflowError):
        number = Decimal(value)
        if not value.isdigit() and number == number.to_integral_value() and abs(number) < 1e18:
            return str(int(number))
    return value


def _kind(owner: type, path: list[str]) -> Any:
    """Return the type of a key's value, or of its list's items; None where it has several."""
    hints = get_type_hints(owner) if is_dataclass(owner) else {}
    name, *rest = path
    if name not in {item.name for item in fields(owner)} if is_dataclass(owner) else True:
        return None
    kind = hints[name]
    if get_origin(kind) is UnionType:
        kind = next(part for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is list:
        kind = get_args(kind)[0]
    return _kind(kind, rest) if rest else kind
