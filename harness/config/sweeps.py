"""Swept settings name arms: which of them do, and how a value stands in a name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from harness.records.files import canonical_hash

GROUPS = ("model", "train", "optim", "schedule", "precision", "data")
"""Their settings change a cell's numbers."""
KEYS = ("eval.test_sequences",)
CHOICES = ("scale", "eval")
LONGEST = 60


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
