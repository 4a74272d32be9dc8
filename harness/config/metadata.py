"""Fields of the configuration that say more than a type and a default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any

Slot = dict[str, Any]
"""A part named by config: ``{"_target_": "module.Class", **keyword_arguments}``."""


def slot(target: str, *, later: bool = False) -> Any:
    """Return a field whose default is the slot with this target; `later` as in `later`."""
    return field(default_factory=lambda: {"_target_": target}, metadata=_LATER if later else None)


_LATER = {"later": True}


def later(default_factory: Callable[[], Any]) -> Any:
    """Return a field that was added when cells had been hashed without it.

    While it has its default it is left out of the hash, so that those cells keep their ids.
    """
    return field(default_factory=default_factory, metadata=_LATER)


def number(default: Any, *, unit: str = "", later: bool = False, **bounds: float) -> Any:
    """Return a field that `harness.config.validate` holds to its bounds; `later` as in `later`.

    They are `above`, `at_least`, `below` and `at_most`; without the last two it is 10^9 at most.
    """
    metadata = {**bounds, **({"unit": unit} if unit else {}), **(_LATER if later else {})}
    return field(default=default, metadata=metadata)
