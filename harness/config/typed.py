"""What is typed: overrides read in the type of their key, and swept settings that name arms."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import is_dataclass
from decimal import Decimal, InvalidOperation
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from harness.config import Config
from harness.records.files import canonical_hash

GROUPS = ("model", "train", "optim", "schedule", "precision", "data")
"""Their settings change a cell's numbers."""
KEYS = ("eval.test_sequences", "eval.spread")
CHOICES = ("scale", "eval", "interventions")
RENAMED = {"study.rope": "study.practical_size"}
"""Former name of a key -> its name."""
LONGEST = 60
_WORD = re.compile(
    r"""(?P<quote>["'])(?:\\.|(?!(?P=quote)).)*(?P=quote)"""
    r"""|(?<![^=,\[\s])[^\s=,\[\](){}"':$]+(?![^,\]\s])"""
)
"""One value, alone, in a sweep or in a list; one in quotes is whole, and stays as it is."""
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
    if key in RENAMED:
        return f"{RENAMED[key]}={value}"
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
    if name not in hints:
        return None
    kind = hints[name]
    if get_origin(kind) is UnionType:
        kind = next(part for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is list:
        kind = get_args(kind)[0]
    return _kind(kind, rest) if rest else kind


def names_arms(keys: Iterable[str]) -> list[str]:
    """Return the swept keys that may make arms: no seed, no hardware, no folder."""
    return [key for key in keys if re.split(r"[.@/]", key)[0] in (*GROUPS, *CHOICES)]


def of_science(changes: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Return the changes that can change a cell's numbers."""
    return {k: v for k, v in changes.items() if k.split(".")[0] in GROUPS or k in KEYS}


def arm_label(value: Any) -> str:
    """Return a value as it stands in an arm's name, which names a folder, too.

    One number has one label, however it was written: the shortest.

    Examples
    --------
    >>> arm_label(0.002), arm_label(32), arm_label(0.1), arm_label(True), arm_label([0.9, 0.95])
    ('2e-3', '32', '0.1', 'true', '0.9_0.95')
    """
    text = _text(value)
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", text)
    if safe != text or len(safe) > LONGEST:
        return f"{safe[:LONGEST]}-{canonical_hash(text, length=6)}"
    return safe


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "_".join(map(_text, value))
    return _shortest(value) if isinstance(value, float) else str(value)


def _shortest(value: float) -> str:
    """Return 0.002 as 2e-3 and 0.01 as 0.01: a power of ten where it is shorter."""
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    whole = "".join(map(str, digits))
    mantissa = whole[0] + ("." + whole[1:] if len(whole) > 1 else "")
    scientific = f"{'-' * sign}{mantissa}e{int(exponent) + len(whole) - 1}"
    return min(repr(value), scientific, key=len)
