"""The one error that tells a person what to change in what they asked for."""

from __future__ import annotations


class AnalysisError(ValueError):
    """The input cannot be analysed; the message says what, its value, and what to do next."""
