"""Hold the result files of a study against what its records give now."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable
from pathlib import Path
from shlex import quote
from typing import Any

from analysis.check import Check, Level
from analysis.comparison.compare import compare
from analysis.comparison.result import Comparison
from analysis.comparison.rules import Origin, Rules
from analysis.runs.frame import named

RESULTS = "results.json"
TEXTS = ("results.md", "results.csv", "results.tex")
TRACED = (RESULTS, *TEXTS)
UNTRACED = ("report.html", "tables")
"""What the report leaves beside them."""
FIGURES = ("mean_loss", "delta", "se", "df", "ci_low", "ci_high", "p_raw", "p_adj")


def results_checks(folder: Path) -> Iterable[Check]:
    """Recompute the table from the records and hold every figure against it."""
    file = folder / RESULTS
    others = [name for name in UNTRACED if (folder / name).exists()]
    if others:
        how = f"made anew by python -m analysis report {quote(str(folder))}"
        yield Check(Level.NOTE, f"not checked: {', '.join(others)}", how)
    if not file.exists():
        left = [name for name in TEXTS if (folder / name).exists()]
        what = f"no {RESULTS}" + (f", so {', '.join(left)} cannot be traced" if left else "")
        how = f"make it: python -m analysis {quote(str(folder))}"
        yield Check(Level.FAIL if left else Level.NOTE, what, how)
        return
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        references = tuple(
            (row["arm"], row["mean_loss"])
            for row in stored["table"]
            if row["verdict"] == "reference"
        )
        rules = Rules(
            baseline=stored["baseline"],
            metric=stored["metric"],
            alpha=stored["alpha"],
            rope=stored["rope"] if stored["rope_source"] == Origin.CALL else None,
            variance=stored["variance"],
            allow_reruns=True,
            higher_is_better=stored["higher_is_better"],
            references=references,
        )
        result = compare(folder, rules)
        now = json.loads(result.to_json())
        if not same(stored["rope"], result.rope):
            what = f"the practical size of {RESULTS} is not the plan's now"
            yield Check(Level.FAIL, what, f"{stored['rope']} and {result.rope}")
        yield from _row_checks(stored, now)
        yield from _run_checks(stored, now)
        yield from _text_checks(folder, result)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        yield Check(Level.FAIL, f"{RESULTS} cannot be read", str(error))


def _row_checks(stored: dict[str, Any], now: dict[str, Any]) -> Iterable[Check]:
    fresh = {row["arm"]: row for row in now["table"]}
    wrong = []
    for row in stored["table"]:
        again = fresh.get(row["arm"])
        if again is None:
            wrong.append(f"{row['arm']} (no longer there)")
            continue
        wrong += [f"{row['arm']}: {name}" for name in FIGURES if not same(row[name], again[name])]
        wrong += [f"{row['arm']}: {name}" for name in ("n", "verdict") if row[name] != again[name]]
    wrong += [
        f"{arm} (not in the results)"
        for arm in fresh
        if arm not in {row["arm"] for row in stored["table"]}
    ]
    if wrong:
        yield Check(Level.FAIL, f"{RESULTS} differs from what the records give now", named(wrong))
    else:
        count = len(stored["table"]) * (len(FIGURES) + 2)
        yield Check(Level.OK, f"{count} figures of {RESULTS} recomputed from the records")


def _run_checks(stored: dict[str, Any], now: dict[str, Any]) -> Iterable[Check]:
    fresh = {run["run_id"]: run for run in now["runs"]}
    wrong = [
        run["run_id"]
        for run in stored["runs"]
        if run["status"] == "complete"
        and not same(run["loss"], fresh.get(run["run_id"], {}).get("loss"))
    ]
    if wrong:
        yield Check(Level.FAIL, "runs whose loss changed since the table was made", named(wrong))


def _text_checks(folder: Path, result: Comparison) -> Iterable[Check]:
    """Hold the tables written for people against the same ones made now."""
    made = (result.to_markdown(), result.to_csv(), result.to_latex())
    for name, fresh in zip(TEXTS, made, strict=True):
        file = folder / name
        if not file.exists():
            continue
        text = file.read_text(encoding="utf-8")
        wrong = _differing(_cells(name, text), _cells(name, fresh))
        if wrong:
            how = f"{named(wrong)}; make it again: python -m analysis {quote(str(folder))}"
            yield Check(Level.FAIL, f"{name} differs from what the records give now", how)
        elif name != "results.csv" and text.split() != fresh.split():
            how = "edited, or made by another version"
            yield Check(Level.NOTE, f"{name}: the text beside its table is another one now", how)
        else:
            yield Check(Level.OK, f"the table of {name} made again from the records")


def _cells(name: str, text: str) -> list[list[str]]:
    """Return a table's cells, rules left out; text that is none of the table's left out too."""
    if name.endswith(".csv"):
        return list(csv.reader(io.StringIO(text)))
    if name.endswith(".md"):
        lines = [line.strip("| ") for line in text.splitlines() if line.startswith("|")]
        rows = [line.split("|") for line in lines if set(line) - set("|-: ")]
    else:
        rows = [line.split(" & ") for line in text.splitlines() if " & " in line]
    return [[cell.strip() for cell in row] for row in rows]


def _differing(old: list[list[str]], new: list[list[str]]) -> list[str]:
    """Return the rows, by their first cell, in which two tables differ."""
    if len(old) != len(new):
        return [f"{len(old)} rows where there are {len(new)} now"]
    return [
        row[0]
        for row, again in zip(old, new, strict=True)
        if len(row) != len(again) or not all(map(_alike, row, again))
    ]


def _alike(a: str, b: str) -> bool:
    try:
        return a == b or same(float(a), float(b))
    except ValueError:
        return False


def same(a: float | None, b: float | None) -> bool:
    """Tell whether two figures are equal but for rounding, or both missing."""
    if a is None or b is None:
        return a is None and b is None
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)
