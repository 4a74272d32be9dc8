"""Text from runs, made harmless where it is shown: an arm's name may hold anything."""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.records import printable

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
