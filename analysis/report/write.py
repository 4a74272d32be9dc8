"""Writing the report beside the runs: the page, and its tables and figures as files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.benchmarks.tables import PREFIX
from analysis.comparison.rules import Rules
from analysis.errors import AnalysisError
from analysis.report.charts import MOST_LINES, Chart
from analysis.report.curves import METRICS, curves_chart
from analysis.report.evidence import Evidence, gather
from analysis.report.page import render
from analysis.report.sections import sections
from analysis.report.theme import FIGURE_CONFIG, LIGHT
from analysis.runs.frame import Runs
from analysis.runs.tables import read_runs
from harness.records.files import write_atomic

REPORT_FILE = "report.html"
TABLES, FIGURES = "tables", "figures"
WIDTH, PIXELS = 760, 2.0
"""Of a figure: points, and PNG pixels for each."""
ENDINGS = ("md", "csv", "tex")
NAMES = (
    "verdicts",
    "ranks",
    "speed",
    "scale",
    "judged",
    "judged_ranks",
    "judges",
    "measures",
    "components",
    "pairing",
    "evaluation",
    "stacks",
    "stack_shares",
    "plan",
)
"""Tables that a report may lack; what else lies in the folder is not ours."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written."""

    report: Path
    evidence: Evidence
    tables: list[Path]
    figures: list[Path] = field(default_factory=list)


def write_report(
    runs: Runs | str | Path,
    rules: Rules | None = None,
    out: Path | None = None,
    *,
    figures: bool = False,
    sizes: Sequence[Runs] = (),
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
    sizes
        Studies of the same arms at other sizes, for the trend along them.

    Raises
    ------
    AnalysisError
        Runs that cannot be read, or a folder that cannot be written to.
    """
    given = runs if isinstance(runs, Runs) else read_runs([str(runs)])
    evidence = gather(given, rules or Rules(), sizes)
    folder = out or given.home or Path()
    prefix = given.stem.removesuffix("results")
    report = _write(folder / f"{prefix}{REPORT_FILE}", render(evidence))
    tables = write_tables(evidence, folder / f"{prefix}{TABLES}")
    drawn = write_figures(evidence, folder / f"{prefix}{FIGURES}") if figures else []
    return Written(report, evidence, tables, drawn)


def write_tables(evidence: Evidence, folder: Path) -> list[Path]:
    """Write every table as markdown, CSV and LaTeX; what an earlier report left goes."""
    tables = [table for part in sections(evidence) for table in part.tables]
    files = {name: text for table in tables for name, text in table.files().items()}
    written = [_write(folder / name, text) for name, text in files.items()]
    old_ones = {folder / f"{name}.{end}" for name in NAMES for end in ENDINGS}
    for old in (old_ones | set(folder.glob(f"{PREFIX}*"))) - set(written):
        old.unlink(missing_ok=True)
    return written


def write_figures(evidence: Evidence, folder: Path, prefix: str = "") -> list[Path]:
    """Write every chart as SVG, for papers and READMEs, and as PNG, for posts."""
    found = figure_specs(evidence).items()
    return [file for name, spec in found for file in _draw(spec, folder / f"{prefix}{name}")]


def write_chart(chart: Chart, folder: Path) -> list[Path]:
    """Write one chart as SVG and PNG, named after it."""
    return _draw(_finished(chart), folder / chart.name)


def _draw(spec: dict[str, Any], stem: Path) -> list[Path]:
    import vl_convert

    svg = vl_convert.vegalite_to_svg(spec)
    png = vl_convert.svg_to_png(svg, scale=PIXELS)
    return [_write(Path(f"{stem}.svg"), svg), _write(Path(f"{stem}.png"), png)]


def _write(file: Path, content: str | bytes) -> Path:
    try:
        write_atomic(file, content)
    except OSError as error:
        raise AnalysisError(
            f"cannot write {file}: {error.strerror or error}; choose another folder with --out"
        ) from error
    return file


def figure_specs(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """Return name -> a whole specification, rows and colours included, in its first view."""
    charts = [chart for part in sections(evidence) for chart in part.charts]
    specs = {chart.name: _finished(chart) for chart in charts if chart.name != "curves"}
    for metric in evidence.curves.by_metric:
        specs[f"curves_{metric}"] = _finished(_chosen_curves(evidence, metric))
    return specs


def _chosen_curves(evidence: Evidence, metric: str) -> Chart:
    """Return the first arms' curves over the logarithm of the loss: no file can be zoomed into."""
    found = {curve.arm: curve for curve in evidence.curves.by_metric[metric]}
    arms = [arm for arm in evidence.arms if arm in found][:MOST_LINES]
    rows = [row for slot, arm in enumerate(arms) for row in found[arm].rows(slot)]
    view = "log loss" if all(row["low"] > 0 for row in rows) else "linear"
    key = "Line: the mean of an arm's seeds. Band: from the lowest seed to the highest."
    if len(arms) < len(found):
        key += f" The first {len(arms)} of {len(found)} arms."
    cut = evidence.curves.cut_sentence()
    return Chart(
        name="curves",
        title=f"{METRICS[metric].capitalize()} along training",
        summary="",
        variants={view: curves_chart(evidence.curves, metric).variants[view]},
        datasets={"curves": rows},
        key=(key, cut) if cut else (key,),
    )


def _finished(chart: Chart) -> dict[str, Any]:
    """Return a chart's first view as a specification that stands alone."""
    spec = next(iter(chart.variants.values()))
    title = {"text": chart.title, "subtitle": list(chart.key), "anchor": "start", "offset": 12}
    layers = [layer for layer in spec["layer"] if layer.get("name") != "hover"]
    painted: dict[str, Any] = _painted({**spec, "layer": layers, "config": FIGURE_CONFIG})
    return painted | {
        "title": title,
        "width": WIDTH,
        "autosize": {"type": "pad"},
        "background": LIGHT["card"],
        "padding": 12,
        "datasets": chart.datasets,
    }


def _painted(node: Any) -> Any:
    """Return a specification with the light theme's colours in place of their names."""
    if isinstance(node, str):
        return LIGHT.get(node[1:], node) if node.startswith("$") else node
    if isinstance(node, list):
        return [_painted(item) for item in node]
    if isinstance(node, dict):
        return {key: _painted(value) for key, value in node.items()}
    return node
