"""The one error that tells a person what to change in what they asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.records.reading import RecordError


class AnalysisError(ValueError):
    """The input cannot be analysed; the message says what, its value, and what to do next."""


@contextmanager
def needed() -> Iterator[None]:
    """Turn an unreadable file into a refusal where it is needed; also as a decorator."""
    try:
        yield
    except RecordError as error:
        raise AnalysisError(str(error)) from error


def require_below(what: str, value: float, high: float, example: float) -> None:
    """Refuse a figure that is not between 0 and `high`."""
    if not 0 < value < high:
        raise AnalysisError(
            f"{what} is {value:g}: allowed is between 0 and {high:g}, e.g. {example:g}"
        )


def require_alpha(value: float) -> None:
    """Refuse what is no family error to work with."""
    require_below("alpha", value, 0.5, example=0.05)
