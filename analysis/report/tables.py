"""One shape for every table of the report: shown as HTML, written as markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.text import DASH, latex, latex_row, markdown, number, prose


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading."""

    label: str
    numeric: bool = True
    help: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One cell of a table."""

    text: str
    value: float | str | None = None
    """What it sorts by; None: last."""
    kind: str = ""
    """CSS class: a verdict's or a status's name."""
    symbol: str = ""
    """Shown before the text, so that nothing is said by colour alone."""
    opens: str = ""
    """Cell whose details a click opens."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its heading and what to know when reading it."""

    name: str
    """File name without ending, and the table's id on the page."""
    caption: str
    columns: Sequence[Column]
    rows: list[list[Item]]
    notes: tuple[str, ...] = field(default=())

    def texts(self) -> list[list[str]]:
        """Return the rows as text."""
        return [[item.text for item in row] for row in self.rows]

    def to_markdown(self) -> str:
        """Return the table, then each note as a paragraph."""
        from tabulate import tabulate

        texts = [[markdown(text) for text in row] for row in self.texts()]
        body = tabulate(
            texts,
            [column.label for column in self.columns],
            tablefmt="pipe",
            colalign=["right" if column.numeric else "left" for column in self.columns]
            if texts
            else None,
            disable_numparse=True,
        )
        return "\n".join([body, *(f"\n{prose(note)}" for note in self.notes)]) + "\n"

    def to_csv(self) -> str:
        """Return the table as CSV: unrounded numbers where a column is numeric."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([column.label for column in self.columns])
        for row in self.rows:
            writer.writerow(
                item.value if isinstance(item.value, float) and column.numeric else item.text
                for column, item in zip(self.columns, row, strict=True)
            )
        return out.getvalue()

    def to_latex(self) -> str:
        """Return a booktabs tabular."""
        align = "".join("r" if column.numeric else "l" for column in self.columns)
        lines = [rf"\begin{{tabular}}{{{align}}}", r"\toprule"]
        lines.append(latex_row([column.label for column in self.columns]))
        lines += [r"\midrule", *(latex_row(row) for row in self.texts()), r"\bottomrule"]
        return (
            "\n".join([*lines, r"\end{tabular}", *(f"% {latex(note)}" for note in self.notes)])
            + "\n"
        )


def figure(value: Any, digits: int, *, sign: bool = False) -> Item:
    """Return a number, or a dash that sorts last."""
    known = value is not None and math.isfinite(value)
    return Item(number(value, digits, sign=sign), float(value) if known else None)


def count(value: Any) -> Item:
    """Return a whole number with thousands separated; infinity as such."""
    if value is None or math.isnan(value):
        return Item(DASH)
    if math.isinf(value):
        return Item("∞", math.inf)
    return Item(f"{int(value):,}", float(value))


def words(text: Any, kind: str = "", symbol: str = "", opens: str = "") -> Item:
    """Return text that sorts by itself."""
    return Item(str(text), str(text), kind, symbol, opens)
