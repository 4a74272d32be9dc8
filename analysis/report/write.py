"""Writing the report beside the runs: the page, and its tables and figures as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analysis.comparison.rules import Rules
from analysis.errors import AnalysisError
from analysis.report.evidence import Evidence, gather
from analysis.report.page import render
from analysis.report.sections import tables
from analysis.runs.frame import Runs
from analysis.runs.tables import read_runs
from harness.records.files import write_atomic

REPORT_FILE = "report.html"
TABLES, FIGURES = "tables", "figures"
ENDINGS = ("md", "csv", "tex")
NAMES = ("verdicts", "components", "pairing", "evaluation", "stacks", "stack_shares", "plan")
"""Tables that a report may lack; what else lies in the folder is not ours."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written."""

    report: Path
    tables: list[Path]
    figures: list[Path]
    evidence: Evidence


def write_report(
    runs: Runs | str | Path,
    rules: Rules | None = None,
    out: Path | None = None,
    *,
    figures: bool = False,
) -> Written:
    """Write ``report.html`` and, beside it, ``tables/`` and perhaps ``figures/``.

    Of a table ``mine.csv`` they are called ``mine_report.html``, ``mine_tables`` and so on.

    Parameters
    ----------
    runs
        A study's folder, or runs that were read.
    rules
        How to compare.
    out
        Folder to write to; default: beside the runs.
    figures
        Write every chart as SVG and PNG too; that takes seconds.

    Raises
    ------
    AnalysisError
        Runs that cannot be read, or a folder that cannot be written to.
    """
    given = runs if isinstance(runs, Runs) else read_runs([str(runs)])
    evidence = gather(given, rules or Rules())
    folder = out or given.home or Path()
    prefix = given.stem.removesuffix("results")
    report = folder / f"{prefix}{REPORT_FILE}"
    _write(report, render(evidence))
    drawn = []
    if figures:
        from analysis.report.figures import figure_files

        for name, content in figure_files(evidence).items():
            drawn.append(_write(folder / f"{prefix}{FIGURES}" / name, content))
    return Written(report, write_tables(evidence, folder / f"{prefix}{TABLES}"), drawn, evidence)


def write_tables(evidence: Evidence, folder: Path) -> list[Path]:
    """Write every table as markdown, CSV and LaTeX; what an earlier report left goes."""
    written = []
    for table in tables(evidence):
        texts = (table.to_markdown(), table.to_csv(), table.to_latex())
        for end, text in zip(ENDINGS, texts, strict=True):
            written.append(_write(folder / f"{table.name}.{end}", text))
    for old in {folder / f"{name}.{end}" for name in NAMES for end in ENDINGS} - set(written):
        old.unlink(missing_ok=True)
    return written


def _write(file: Path, content: str | bytes) -> Path:
    try:
        write_atomic(file, content)
    except OSError as error:
        raise AnalysisError(
            f"cannot write {file}: {error.strerror or error}; choose another folder with --out"
        ) from error
    return file
