"""Hold the result files of a study against what its records give now."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from analysis.check import Check, Level
from analysis.comparison.compare import as_runs
from analysis.comparison.result import Comparison
from analysis.comparison.rules import Origin, Rules
from analysis.comparison.verdict import Kind
from analysis.questions.tokens_to_target import compare_with_speed
from analysis.runs.frame import named
from harness.records.reading import Figure, RecordError, decoder, read_json

RESULTS, CSV = "results.json", "results.csv"
SEPARATORS = {"results.md": "|", "results.tex": " & "}
"""Between the cells of a row."""
TRACED = (RESULTS, "results.md", CSV, "results.tex")
UNTRACED = ("report.html", "tables")
"""What the report leaves beside them."""
SENTENCES = ("method", "warnings")
"""Columns that another version may word in another way."""
Row = Mapping[str, Any]
Value = Figure | int | str | bool | None


@dataclass(frozen=True, slots=True)
class _Run:
    run_id: str
    status: str
    loss: Figure | None = None


@dataclass(frozen=True, slots=True)
class _Results:
    """Of a file of results, its figures and the rules by which they were made."""

    baseline: str
    metric: str
    alpha: float
    variance: str
    higher_is_better: bool
    rope: Figure | None
    rope_source: str
    sd: Figure | None
    rho: Figure | None
    noise: dict[str, Value] | None
    table: list[dict[str, Value]]
    runs: list[_Run]

    def rules(self) -> Rules:
        shown = [row for row in self.table if row.get("verdict") == Kind.REFERENCE]
        figures = [(str(row["arm"]), row.get("mean_loss")) for row in shown]
        return Rules(
            baseline=self.baseline,
            metric=self.metric,
            alpha=self.alpha,
            practical_size=self.rope if self.rope_source == Origin.CALL else None,
            variance=self.variance,
            higher_is_better=self.higher_is_better,
            allow_reruns=True,
            references=tuple((name, x) for name, x in figures if isinstance(x, int | float)),
        )

    def rows(self) -> list[Row]:
        """Return the table's rows, and the noise as one more."""
        noise = {"arm": "noise", "sd": self.sd, "rho": self.rho}
        return [*self.table, {**noise, **(self.noise or {})}]


def results_checks(folder: Path) -> Iterable[Check]:
    """Recompute the table from the records and hold every figure against it."""
    others = [name for name in UNTRACED if (folder / name).exists()]
    if others:
        how = f"made anew by python -m analysis report {quote(str(folder))}"
        yield Check(Level.NOTE, f"not checked: {', '.join(others)}", how)
    if not (folder / RESULTS).exists():
        left = [name for name in TRACED if (folder / name).exists()]
        what = f"no {RESULTS}" + (f", so {', '.join(left)} cannot be traced" if left else "")
        how = f"make it: python -m analysis {quote(str(folder))}"
        yield Check(Level.FAIL if left else Level.NOTE, what, how)
        return
    try:
        stored = read_json(folder / RESULTS, _Results)
        result = compare_with_speed(as_runs(folder), stored.rules())
        yield from _json_checks(stored, decoder(_Results)(result.to_json().encode()))
        yield from _text_checks(folder, result)
    except (KeyError, TypeError, RecordError) as error:
        yield Check(Level.FAIL, f"{RESULTS} cannot be read", str(error))


def _json_checks(stored: _Results, now: _Results) -> Iterable[Check]:
    if not same(stored.rope, now.rope):
        what = f"the practical size of {RESULTS} is not the plan's now"
        yield Check(Level.FAIL, what, f"{stored.rope} and {now.rope}")
    wrong = _differing(stored.rows(), now.rows())
    if wrong:
        yield Check(Level.FAIL, f"{RESULTS} differs from what the records give now", named(wrong))
    else:
        count = sum(len(row) for row in stored.table)
        yield Check(Level.OK, f"{count} figures of {RESULTS} recomputed from the records")
    fresh = {run.run_id: run.loss for run in now.runs}
    done = [run for run in stored.runs if run.status == "complete"]
    moved = [run.run_id for run in done if not same(run.loss, fresh.get(run.run_id))]
    if moved:
        yield Check(Level.FAIL, "runs whose loss changed since the table was made", named(moved))


def _text_checks(folder: Path, result: Comparison) -> Iterable[Check]:
    """Hold the tables written for people against the same ones made now."""
    made = {"results.md": result.to_markdown(), CSV: result.to_csv()}
    for name, fresh in {**made, "results.tex": result.to_latex()}.items():
        if not (folder / name).exists():
            continue
        text = (folder / name).read_text(encoding="utf-8")
        if name == CSV:
            old, new = (list(csv.DictReader(io.StringIO(t))) for t in (text, fresh))
            wrong = _differing(old, new)
        else:
            wrong = _differing_lines(text, fresh, SEPARATORS[name])
        if wrong:
            how = f"{named(wrong)}; make it again: python -m analysis {quote(str(folder))}"
            yield Check(Level.FAIL, f"{name} differs from what the records give now", how)
        elif name != CSV and text.split() != fresh.split():
            how = "edited, or made by another version"
            yield Check(Level.NOTE, f"{name}: the text beside its table is another one now", how)
        else:
            yield Check(Level.OK, f"the table of {name} made again from the records")


def _differing(old: Sequence[Row], new: Sequence[Row]) -> list[str]:
    """Return the arms and columns in which two tables differ, figures by more than rounding."""
    if len(old) != len(new):
        return [f"{len(old)} rows where there are {len(new)} now"]
    before, after = ({row.get("arm"): row for row in rows} for rows in (old, new))
    return [f"{arm} (no longer there)" for arm in before if arm not in after] + [
        f"{arm}: {name}"
        for arm, row in before.items()
        for name in row
        if arm in after and name not in SENTENCES and not _alike(row[name], after[arm].get(name))
    ]


def _differing_lines(old: str, new: str, separator: str) -> list[str]:
    """Return the first cells of the rows that only one of two tables has."""
    before, after = (
        Counter(" ".join(line.split()) for line in text.splitlines() if separator in line)
        for text in (old, new)
    )
    lines = dict.fromkeys([*(before - after), *(after - before)])
    rows = [line.strip("| ").split(separator) for line in lines]
    return list(dict.fromkeys(row[0].strip() for row in rows if set("".join(row)) - set("-: ")))


def _alike(a: Any, b: Any) -> bool:
    try:
        return a == b or same(float(a), float(b))
    except (TypeError, ValueError):
        return False


def same(a: float | None, b: float | None) -> bool:
    """Tell whether two figures are equal but for rounding, or both missing."""
    if a is None or b is None:
        return a is None and b is None
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)
