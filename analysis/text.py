"""A comparison as text: markdown for people, LaTeX for papers, JSON for programs."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from analysis.runs.frame import TAKEN_FROM
from analysis.stats.linear import FEWEST_DF
from harness.records.files import now, printable

if TYPE_CHECKING:
    from analysis.comparison.compare import Comparison
    from analysis.comparison.rules import Rules

DASH = "–"


def to_markdown(result: Comparison) -> str:
    """Return the table of a comparison with all that is needed to read it."""
    title = f"## {result.rules.metric} against {result.rules.baseline}"
    header, rows = short_table(result)
    notes = _notes(result)
    notes += [f"- **Warning:** {warning}." for warning in result.warnings]
    notes += [f"- **Next:** {step}." for step in result.next_steps]
    return (
        "\n".join([prose(title), "", markdown_table(header, rows), "", *map(prose, notes)]) + "\n"
    )


def to_latex(result: Comparison) -> str:
    """Return the short table as a LaTeX tabular."""
    header, rows = short_table(result)
    lines = [
        rf"% {result.method}; alpha {result.alpha:g}",
        "% Needs the package booktabs; names beyond Latin letters need XeLaTeX or LuaLaTeX.",
        r"\begin{tabular}{l" + "r" * (len(header) - 2) + "l}",
        r"\toprule",
        latex_row(header),
        r"\midrule",
        *map(latex_row, rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def to_json(result: Comparison) -> str:
    """Return everything about a comparison, with the runs that stand behind it."""
    noise = result.noise
    names = (
        "run_id",
        "study",
        "arm",
        "status",
        "init_seed",
        "data_seed",
        "loop_seed",
        "loss",
        "cell",
        "folder",
        "test_set",
    )
    runs = result.runs[[name for name in names if name in result.runs]]
    content = {
        "created": now(),
        "metric": result.rules.metric,
        "baseline": result.rules.baseline,
        "higher_is_better": result.rules.higher_is_better,
        "alpha": result.alpha,
        "rope": result.rope,
        "rope_source": result.rope_source,
        "variance": result.rules.variance,
        "method": result.method,
        "why": result.why,
        "sd": result.sd,
        "rho": result.rho,
        "noise": None if noise is None else {k: getattr(noise, k) for k in noise.__slots__},
        "table": result.table.to_dict("records"),
        "ledger": {k: getattr(result.ledger, k) for k in result.ledger.__slots__},
        "warnings": result.warnings,
        "next_steps": result.next_steps,
        "runs": runs.to_dict("records"),
    }
    return json.dumps(plain(content), indent=1, allow_nan=False) + "\n"


def short_table(result: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return the few columns that a person reads: header, and one list of cells a row."""
    decimals = digits(result)
    published = result.table["published_delta"].notna().any()
    percent = f"{100 * (1 - result.alpha):g}%"
    header = ["arm", "n", "mean", "delta", f"{percent} CI", "p adj"]
    single = _single_runs(result)
    header += ["break-even sd"] if single else []
    header += (["published"] if published else []) + ["verdict"]
    rows = []
    for row in result.table.to_dict("records"):
        base = row["arm"] == result.rules.baseline
        cells = [
            str(row["arm"]),
            str(row["n"]) if row["n"] else DASH,
            number(row["mean_loss"], decimals),
            DASH if base else number(row["delta"], decimals, sign=True),
            _interval(row["ci_low"], row["ci_high"], decimals),
            p_value(row["p_adj"]),
        ]
        if single:
            cells.append(number(row["breakeven_sd"], decimals))
        if published:
            cells.append(number(row["published_delta"], 3, sign=True))
        rows.append([*cells, "(baseline)" if base else str(result.verdicts[row["arm"]])])
    return header, rows


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a markdown table, padded so that it also reads well in a terminal.

    Columns of figures are aligned right, the first column and columns of words left.
    """
    table = [list(header), *[list(row) for row in rows]]
    table = [[markdown(cell) for cell in row] for row in table]
    widths = [max(3, *(width(row[i]) for row in table)) for i in range(len(header))]
    left = {0, *(i for i in range(len(header)) if not _figures(row[i] for row in rows))}

    def line(cells: Sequence[str]) -> str:
        room = [" " * (most - width(cell)) for cell, most in zip(cells, widths, strict=True)]
        padded = [cell + room[i] if i in left else room[i] + cell for i, cell in enumerate(cells)]
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * width if i in left else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join([line(table[0]), line(rule), *map(line, table[1:])])


def width(text: str) -> int:
    """Return the columns that a text takes in a terminal: some letters take two, accents none."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(bool(unicodedata.combining(c)) for c in text)


def _figures(cells: Iterable[str]) -> bool:
    """Tell whether a column holds figures: no word of letters alone, and not only dashes."""
    filled = [cell for cell in cells if cell not in ("", DASH)]
    words = {word for cell in filled for word in re.findall(r"\b[^\W\d_]+\b", cell)}
    return bool(filled) and words <= {"inf", "nan"}


def unit(rules: Rules, before: str = " ") -> str:
    """Return the metric's unit after `before`: a loss has one, nothing is known of others.

    Examples
    --------
    >>> from analysis.comparison import Rules
    >>> unit(Rules(), ", "), unit(Rules(metric="val_acc"))
    (', nats per token', '')
    """
    loss = rules.metric.endswith("loss") and not rules.higher_is_better
    return f"{before}nats per token" if loss else ""


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


def _interval(low: Any, high: Any, digits: int) -> str:
    if low is None or not math.isfinite(low):
        return DASH
    return f"[{low:+.{digits}f}, {high:+.{digits}f}]"


def digits(result: Comparison) -> int:
    """Return decimals enough to show a tenth of the sd, between 4 and 6."""
    if not result.sd or result.sd <= 0:
        return 4
    return int(min(6, max(4, math.ceil(-math.log10(result.sd)) + 1)))


def _notes(result: Comparison) -> list[str]:
    better = "higher" if result.rules.higher_is_better else "lower"
    notes = [f"- **Read:** delta = arm - {result.rules.baseline}; {better} is better."]
    taken = result.runs.attrs.get(TAKEN_FROM, {}).get(result.rules.metric)
    if taken:
        notes[0] += f" {result.rules.metric} is the table's column {taken}."
    if result.judged is not None:
        notes[0] += (
            f" Family error {result.alpha:g}: p by step-down Dunnett, intervals simultaneous "
            "(single-step Dunnett)."
        )
    if _adjusted(result):
        notes[0] += " Delta is adjusted for which seeds each arm has, so it is not mean minus mean."
    if _single_runs(result):
        notes.append(
            "- **Break-even sd:** noise of one run below which the difference would count as real."
        )
    notes.append(f"- **Method:** {result.method}, because {result.why}.")
    decimals = digits(result) + 1
    if result.sd and result.estimate.obstacle is None:
        rho = "" if result.rho is None else f", correlation of same-seed runs {result.rho:.2f}"
        notes.append(f"- **Noise:** sd of one run {result.sd:.{decimals}f}{rho}.{_band(result)}")
    if result.rope is not None:
        notes.append(f"- **Practical size:** {result.rope:.3g} ({result.rope_source}).")
    notes.append(f"- **Runs:** {result.ledger.sentence()}.")
    return notes


def _single_runs(result: Comparison) -> bool:
    """Tell whether every arm has a single run, so that all rests on the baseline's noise."""
    fit = result.estimate.fit
    return fit is None or bool((fit.n[1:] == 1).all() and len(fit.n) > 1)


def _adjusted(result: Comparison) -> bool:
    """Tell whether some delta is not the plain difference of the means."""
    table = result.table[result.table["se"].notna()]
    base = result.table.loc[result.table["arm"] == result.rules.baseline, "mean_loss"].iloc[0]
    gap = (table["mean_loss"] - base - table["delta"]).abs()
    return bool((gap > 1e-6 * table["se"] + 1e-12 * abs(base)).any())


def _band(result: Comparison) -> str:
    band = result.noise
    if band is None:
        return ""
    decimals = digits(result)
    percent = f"{100 * (1 - band.alpha):g}%"
    known = f"K = {band.K}, s = {band.sd:.{decimals + 1}f}, df {band.df:.3g}"
    text = (
        f" One more baseline run: {band.mean:.{decimals}f} ± {band.half_width:.{decimals}f} "
        f"({percent}; {known})"
    )
    if band.n_arms > 1:
        text += f"; {band.n_arms} such runs at once: ± {band.half_width_arms:.{decimals}f}"
    text += "."
    return text + (f" Fewer than {FEWEST_DF:g} df make it wide." if band.df < FEWEST_DF else "")


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
