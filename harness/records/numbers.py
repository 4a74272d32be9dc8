"""Numbers that a command line may give: finite, and within bounds; else the option is named."""

from __future__ import annotations

import argparse
import math
import operator
from collections.abc import Callable

BOUNDS = {"above": operator.gt, "at_least": operator.ge, "below": operator.lt,
          "at_most": operator.le}  # fmt: skip


def number(kind: type[int] | type[float], **bounds: float) -> Callable[[str], float]:
    """Return the type of an option that is a finite number within `above`, `at_least` ... bounds.

    Examples
    --------
    >>> number(int, at_least=1)("3"), number(float, above=0, below=1)("0.25")
    (3, 0.25)
    """

    def read(text: str) -> float:
        try:
            value = kind(text)
            fits = math.isfinite(value) and all(
                BOUNDS[name](value, bound) for name, bound in bounds.items()
            )
        except (ValueError, OverflowError):
            fits = False
        if not fits:
            allowed = " and ".join(f"{n.replace('_', ' ')} {b:g}" for n, b in bounds.items())
            what = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"{text!r} is no {what} {allowed}".rstrip())
        return value

    return read
