"""The one error that tells a person what to change in what they asked for."""

from __future__ import annotations


class AnalysisError(ValueError):
    """The input cannot be analysed; the message says what, its value, and what to do next."""


def require_between(what: str, value: float, low: float, high: float, example: float) -> None:
    """Refuse a figure that is not above `low` and below `high`."""
    if not low < value < high:
        raise AnalysisError(
            f"{what} is {value:g}: allowed is between {low:g} and {high:g}, e.g. {example:g}"
        )
