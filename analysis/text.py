"""Figures and names as text for terminals, markdown, LaTeX and CSV: no name works as code there."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from typing import Any, NamedTuple

from harness.records.files import printable

DASH = "–"
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|-", re.IGNORECASE)


def guarded(text: str) -> str:
    """Return a text for a CSV cell that no spreadsheet runs as a formula (OWASP, CSV injection).

    Examples
    --------
    >>> guarded("=HYPERLINK(1)"), guarded("-0.5"), guarded("'+a"), guarded("a=b")
    ("'=HYPERLINK(1)", '-0.5', "''+a", 'a=b')
    >>> unguarded(guarded("'+a"))
    "'+a"
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def unguarded(cell: str) -> str:
    """Return what `guarded` was given."""
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell


def width(text: str) -> int:
    """Return the columns that a text takes in a terminal: some letters take two, accents none."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(bool(unicodedata.combining(c)) for c in text)


def number(value: Any, digits: int, *, sign: bool = False) -> str:
    """Return a number with a fixed number of decimals, or a dash where there is none."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def p_value(p: Any) -> str:
    """Return a p value in three decimals; below 0.001 as such.

    Examples
    --------
    >>> p_value(0.0312), p_value(0.00002)
    ('0.031', '<0.001')
    """
    if p is None or not math.isfinite(p):
        return DASH
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def digits(sd: float | None) -> int:
    """Return decimals enough to show a tenth of the sd, between 4 and 6."""
    if not sd or sd <= 0:
        return 4
    return int(min(6, max(4, math.ceil(-math.log10(sd)) + 1)))


class TimeUnit(NamedTuple):
    """A unit of time that suits."""

    name: str
    per_hour: float


def time_unit(hours: float) -> TimeUnit:
    """Return the unit in which a time is two or more, seconds at the least; hours if not known.

    >>> [time_unit(hours).name for hours in (0.01, 0.5, 3, 100)]
    ['seconds', 'minutes', 'hours', 'days']
    """
    if hours < 2 / 60:
        return TimeUnit("seconds", 3600)
    if hours < 2:
        return TimeUnit("minutes", 60)
    return TimeUnit("days", 1 / 24) if hours >= 48 else TimeUnit("hours", 1)


def duration(hours: float) -> str:
    """Return a time in the unit that suits.

    >>> duration(0.0131), duration(2.5), duration(49)
    ('47 seconds', '2.5 hours', '2.0 days')
    """
    unit = time_unit(hours)
    amount = hours * unit.per_hour
    return f"{amount:,.{int(amount < 10)}f} {unit.name}"


def plain(value: Any) -> Any:
    """Return plain JSON values: numpy's become Python's, NaN and infinity become None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)


_LATEX = {
    "\\": r"\textbackslash{}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "∞": r"$\infty$",
}

_SIGNED = re.compile(r"[<+-]\d[\d.]*|\[[+-]?\d[\d.]*, [+-]?\d[\d.]*\]")
"""Figures with a sign and intervals, whose minus is no hyphen."""


def markdown(text: str) -> str:
    r"""Return the text for a cell of a markdown table: no bar, code, tag or link in it works.

    Examples
    --------
    >>> markdown("a|b <img>, p <0.001")
    'a\\|b &lt;img>, p <0.001'
    """
    return prose(text).replace("|", r"\|")


def prose(text: str) -> str:
    """Return the text for a paragraph of markdown: no code, tag or link in it works."""
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", printable(text))
    return text.replace("`", r"\`").replace("](", r"]\(")


def latex_row(cells: Iterable[str]) -> str:
    r"""Return one row of a LaTeX tabular.

    Examples
    --------
    >>> print(latex_row(["a_b", "-0.5", "[-0.7, +0.1]", "<0.001", "3"]))
    a\_b & $-0.5$ & $[-0.7, +0.1]$ & $<0.001$ & 3 \\
    >>> print(latex_row(["[a]"]))  # the row before would take [a] for its argument
    {}[a] \\
    """
    texts = [f"${cell}$" if _SIGNED.fullmatch(cell) else latex(cell) for cell in cells]
    guard = "{}" if texts[0].startswith(("[", "*")) else ""
    return f"{guard}{' & '.join(texts)} \\\\"


def latex(text: str) -> str:
    """Return the text for a LaTeX document: every special character escaped."""
    return "".join(_LATEX.get(c, c) for c in printable(text))
