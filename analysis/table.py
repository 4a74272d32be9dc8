"""One shape for every table: in a terminal, as markdown, CSV and LaTeX, and on the page."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from analysis.text import DASH, guarded, latex, latex_row, markdown, number, p_value, prose, width

TOO_WIDE = "too wide"
"""An interval without ends: it holds every value that there could be."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading."""

    label: str
    numeric: bool = True
    """Aligned right, and written unrounded to CSV."""
    help: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One cell of a table."""

    text: str
    value: float | str | None = None
    """What it sorts by; None: last."""
    kind: str = ""
    """A verdict's or a status's name, which the page has a colour and a symbol for."""
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
    notes: tuple[str, ...] = ()

    def texts(self) -> list[list[str]]:
        """Return the rows as text."""
        return [[item.text for item in row] for row in self.rows]

    def select(self, labels: Sequence[str]) -> Table:
        """Return the table with these columns alone, in this order."""
        at = {column.label: i for i, column in enumerate(self.columns)}
        chosen = [at[label] for label in labels]
        rows = [[row[i] for i in chosen] for row in self.rows]
        return replace(self, columns=[self.columns[i] for i in chosen], rows=rows)

    def known(self) -> Table:
        """Return the table without the columns in which nothing is known."""
        known = [
            column.label
            for i, column in enumerate(self.columns)
            if any(row[i].value is not None for row in self.rows)
        ]
        return self.select(known)

    def to_text(self) -> str:
        """Return the table alone as markdown, padded so that it reads well in a terminal."""
        header = [markdown(column.label) for column in self.columns]
        rows = [[markdown(text) for text in row] for row in self.texts()]
        widths = [max(3, *map(width, column)) for column in zip(header, *rows, strict=True)]
        right = [column.numeric for column in self.columns]

        def line(cells: Sequence[str]) -> str:
            padded = [
                " " * (w - width(cell)) + cell if r else cell + " " * (w - width(cell))
                for cell, w, r in zip(cells, widths, right, strict=True)
            ]
            return f"| {' | '.join(padded)} |"

        rule = ["-" * (w - r) + ":" * r for w, r in zip(widths, right, strict=True)]
        return "\n".join([line(header), line(rule), *map(line, rows)])

    def to_markdown(self) -> str:
        """Return the table, then each note as a paragraph."""
        return "\n".join([self.to_text(), *(f"\n{prose(note)}" for note in self.notes)]) + "\n"

    def to_csv(self) -> str:
        """Return the table as CSV: unrounded numbers where a column is numeric."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([guarded(column.label) for column in self.columns])
        for row in self.rows:
            writer.writerow(
                item.value
                if isinstance(item.value, float) and column.numeric
                else guarded(item.text)
                for column, item in zip(self.columns, row, strict=True)
            )
        return out.getvalue()

    def to_latex(self) -> str:
        """Return a booktabs tabular."""
        align = "".join("r" if column.numeric else "l" for column in self.columns)
        lines = [
            "% Needs the package booktabs; names beyond Latin letters need XeLaTeX or LuaLaTeX.",
            *(f"% {latex(note)}" for note in self.notes),
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            latex_row([column.label for column in self.columns]),
            r"\midrule",
            *(latex_row(row) for row in self.texts()),
            r"\bottomrule",
            r"\end{tabular}",
        ]
        return "\n".join(lines) + "\n"

    def files(self) -> dict[str, str]:
        """Return the table's files, by name: markdown, CSV and LaTeX."""
        texts = {"md": self.to_markdown(), "csv": self.to_csv(), "tex": self.to_latex()}
        return {f"{self.name}.{ending}": text for ending, text in texts.items()}


def document(title: str, *parts: str | Table) -> str:
    """Return markdown: a title, then paragraphs and tables, each table under its caption."""
    texts = [f"## {prose(title)}\n"]
    for part in parts:
        if isinstance(part, str):
            texts += [f"{part.rstrip()}\n"] if part else []
            continue
        texts += [f"### {prose(part.caption)}\n"] if part.caption != title else []
        texts.append(part.to_markdown())
    return "\n".join(texts)


def columns(*labels: str, text: Sequence[str]) -> list[Column]:
    """Return columns of figures, but for those of words."""
    return [Column(label, numeric=label not in text) for label in labels]


def figure(value: Any, digits: int, *, sign: bool = False) -> Item:
    """Return a number, or a dash that sorts last."""
    return Item(number(value, digits, sign=sign), known(value))


def interval(low: Any, high: Any, digits: int, *, sign: bool = True) -> Item:
    """Return an interval that sorts by its lower end, a dash where there is none."""
    if known(low) is None:
        endless = high is not None and math.isinf(high)
        return Item(TOO_WIDE if endless else DASH)
    ends = (number(end, digits, sign=sign) for end in (low, high))
    return Item(f"[{', '.join(ends)}]", float(low))


def p_item(p: Any) -> Item:
    """Return a p value."""
    return Item(p_value(p), known(p))


def count(value: Any) -> Item:
    """Return a whole number with thousands separated; infinity as such."""
    if value is None or math.isnan(value):
        return Item(DASH)
    if math.isinf(value):
        return Item("∞", math.inf)
    return Item(f"{int(value):,}", float(value))


def words(text: Any, kind: str = "", opens: str = "") -> Item:
    """Return text that sorts by itself."""
    return Item(str(text), str(text), kind, opens)


def known(value: Any) -> float | None:
    """Return a finite number as float, anything else as None."""
    return float(value) if value is not None and math.isfinite(value) else None
