"""Text from runs, made harmless where it is shown: an arm's name may hold anything."""

from __future__ import annotations

import re
import unicodedata

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
    "–": "--",
}


def printable(text: str) -> str:
    r"""Return the text with what would steer a terminal, or turn a line around, spelt out.

    Examples
    --------
    >>> printable("red \x1b[31m")
    'red \\x1b[31m'
    """
    hidden = ("Cc", "Cf", "Zl", "Zp")  # controls, bidirectional and other formats, separators
    return "".join(
        c if unicodedata.category(c) not in hidden else c.encode("unicode_escape").decode()
        for c in text
    )


def markdown(text: str) -> str:
    r"""Return the text for a cell of a markdown table: no bar, code, tag or link in it works.

    Examples
    --------
    >>> markdown("a|b <img>, p <0.001")
    'a\\|b &lt;img>, p <0.001'
    """
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", printable(text))
    return text.replace("|", r"\|").replace("`", r"\`").replace("](", r"]\(")


def latex(text: str) -> str:
    """Return the text for a LaTeX document: every special character escaped."""
    return "".join(_LATEX.get(c, c) for c in printable(text))
