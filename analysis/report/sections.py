"""The report's sections: what each says, its chart and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from analysis.benchmarks.tables import checks, task_table
from analysis.benchmarks.verdicts import Benchmark
from analysis.comparison.ranking import ranking
from analysis.comparison.result import Comparison, text_sentence
from analysis.comparison.table import percent
from analysis.comparison.tuning import tuning_table
from analysis.comparison.verdict import Kind
from analysis.judged.tables import JudgedReport
from analysis.questions.noise import NoiseReport, band_text, pairing_text
from analysis.questions.scale import Scale
from analysis.questions.speed import Speed
from analysis.questions.stack import Stacking
from analysis.report.cells import Cell, ledger_table, runs_table
from analysis.report.chart_compute import scale_chart, speed_chart
from analysis.report.chart_effects import effects_chart, noise_band_chart
from analysis.report.chart_study import components_chart, power_chart
from analysis.report.charts import Chart
from analysis.report.cost import cost_chart, cost_table
from analysis.report.curves import Curves, curves_chart, figure_charts, left_out
from analysis.report.evidence import Evidence
from analysis.runs.frame import Runs
from analysis.table import Table

CHARTED = ("noise_band", "effects", "curves", "speed", "noise", "plan", "cost")
"""Sections with a chart, where the runs allow it."""

FIRST = (
    *("arm", "verdict", "delta", "margin", "difference", "{ci}"),
    *("p adj", "seeds needed", "tokens", "published"),
)
"""Columns of a table of verdicts that come first: the rest may lie outside a narrow screen."""

SAMPLES = "How text becomes coherent: two arms side by side, at any two steps of training."
TOKENS = "Where in a text of the test set one arm predicts better than another."


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the page."""

    name: str
    title: str
    text: str = ""
    chart: Chart | None = None
    tables: list[Table] = field(default_factory=list)
    missing: str = ""
    """Why there is nothing to show, where `plot` or the page says so."""
    items: list[str] = field(default_factory=list)
    """Sentences, one below the other."""
    small: list[Chart] = field(default_factory=list)
    """Charts side by side, each with its title."""
    short: str = ""
    """What the page's contents call it; empty: by its title."""

    @property
    def charts(self) -> list[Chart]:
        """All charts."""
        return [*([self.chart] if self.chart else []), *self.small]


@lru_cache(maxsize=1)
def sections(evidence: Evidence) -> tuple[Section, ...]:
    """Return the sections in the page's order, without those of which nothing is known.

    Those of one evidence are made once, for the page, its tables and its figures.
    """
    e, result = evidence, evidence.comparison
    found = [
        result and _effects(result),
        _trust(e),
        _verdicts(e),
        result and _band(result, e.noise),
        _curves(e.curves),
        e.curves.figures and _figures(e.curves, e.arms),
        Section("samples", "Samples along training", SAMPLES, short="Samples"),
        e.texts and Section("tokens", "Token by token", TOKENS, short="Tokens"),
        e.speed and _speed(e.speed),
        e.scale and _scale(e.scale),
        e.benchmarks and _benchmarks(e.benchmarks),
        e.judged and _judged(e.judged),
        _measures(e),
        _noise(e),
        e.stacking and _stacks(e.stacking),
        _plan(e),
        result and _cost(result, e.runs),
        _ledger(e),
        _unknown(e),
    ]
    return tuple(section for section in found if isinstance(section, Section))


def with_content(parts: Sequence[Section], *, has_samples: bool) -> list[Section]:
    """Return the sections that have something to show; the verdicts say what is missing."""
    shown = [part for part in parts if part.name == "verdicts" or not part.missing]
    return [part for part in shown if part.name != "samples" or has_samples]


def _ledger(evidence: Evidence) -> Section:
    said = f"{evidence.ledger.sentence()}."
    if not evidence.cells and not evidence.runs.plans:
        table = runs_table(evidence.runs.frame, evidence.rules.metric)
        return Section("ledger", "Runs", said, tables=[table])
    said += " Open a cell for its configuration, provenance and log."
    table = ledger_table(evidence.cells, evidence.runs)
    return Section("ledger", "Seed ledger", said, tables=[table], short="Runs")


def _trust(evidence: Evidence) -> Section | None:
    """Return what speaks for and against the verdicts, in plain sentences."""
    result, found = evidence.comparison, []
    if result is not None:
        found.append(f"{result.method}, because {result.why}")
        found += [f"Tested on {text_sentence(result.text)}"] if result.text else []
        found += [*result.confirmations, *result.warnings]
        found += [f"To do next: {text}" for text in result.next_steps]
    ledger = evidence.ledger
    if ledger.missing:
        found.append(f"{len(ledger.missing)} planned cells have not started")
    if ledger.failed:
        found.append(f"{len(ledger.failed)} run(s) failed and are not counted")
    names = tuple(evidence.arms)
    items = [_sentence(text, names) for text in found] + _provenance(evidence.cells)
    return Section("trust", "How far to trust this", items=items, short="Trust") if items else None


def _provenance(cells: list[Cell]) -> list[str]:
    """Return what the cells' records say against them."""
    records, found = [cell.record for cell in cells], []
    if any(record.provenance.git_dirty for record in records):
        found.append(
            "Some cells ran with uncommitted changes to the code: their provenance names the patch."
        )
    if records and all(r.seeds.init == r.seeds.data == r.seeds.loop for r in records):
        shuffled = any(r.fingerprints.data_shuffled is not False for r in records)
        sources = "initialisation, data order" if shuffled else "initialisation"
        found.append(
            f"The seeds were always varied together, so the noise of {sources} and training loop "
            "cannot be told apart."
        )
    return found


def _unknown(evidence: Evidence) -> Section | None:
    """Return what is absent from the page, and why."""
    found = [_sentence(f"No {name}: {why}") for name, why in evidence.reasons.items()]
    records = [cell.record for cell in evidence.cells]
    if records and all(record.cost.usd is None for record in records):
        found.append(
            "Dollars are not known: no price was set (hardware.usd_per_hour), so there is no "
            "figure for nats per dollar."
        )
    title = "What this does not know"
    return Section("unknown", title, items=found, short="Not known") if found else None


def _verdicts(evidence: Evidence) -> Section:
    result = evidence.comparison
    if result is None:
        why = evidence.reasons["verdicts"]
        return Section("verdicts", "Verdicts", missing=f"No comparison yet: {why}.")
    ranks = ranking(result)
    tables = [_verdict_table(result, evidence.cells), *([ranks.to_table()] if ranks else [])]
    return Section("verdicts", "Verdicts", tables=tables)


def _decisive_first(table: Table, alpha: float) -> Table:
    labels = [column.label for column in table.columns]
    wanted = [label.format(ci=percent(alpha)) for label in FIRST]
    first = [label for label in wanted if label in labels]
    return table.select([*first, *(label for label in labels if label not in first)])


def _verdict_table(result: Comparison, cells: list[Cell]) -> Table:
    """Return the improvement table, what decides first; an arm's name opens a cell of it."""
    table = _decisive_first(result.to_table(), result.alpha)
    opens: dict[str, str] = {}
    for cell in cells:
        opens.setdefault(cell.record.arm, cell.record.cell)
    rows = [[replace(arm, opens=opens.get(arm.text, "")), *figures] for arm, *figures in table.rows]
    return replace(table, rows=rows)


def _band(result: Comparison, noise: NoiseReport | None) -> Section:
    text = band_text(noise.band if noise else None, result.done)
    return Section("noise_band", "Noise band", text, noise_band_chart(result))


def _effects(result: Comparison) -> Section:
    if result.judged is None:
        why = "there is only the baseline" if len(result.table) < 2 else result.why
        return Section("effects", "Effects", missing=f"No intervals can be given yet ({why}).")
    text = (
        f"Simultaneous {100 * (1 - result.alpha):g}% intervals: all of them hold at once. "
        "The band around zero is the practical size."
    )
    if result.table["published_delta"].notna().any():
        text += " A grey upright tick is the published difference, measured at another scale."
    return Section("effects", "Effects", text, effects_chart(result))


def _curves(curves: Curves) -> Section:
    if not curves.by_metric:
        return Section("curves", "Loss curves", missing="No cell has logged a metric.")
    text = (
        "Mean over the seeds of an arm that did not diverge; the band runs from the lowest seed to "
        "the highest. Drag to move, Shift and wheel to zoom, double-click to start over."
    )
    said = " ".join(part for part in (text, curves.note, curves.cut_sentence()) if part)
    return Section("curves", "Loss curves", said, curves_chart(curves), short="Curves")


def _figures(curves: Curves, arms: list[str]) -> Section:
    text = "As the curves above: a line is a mean over seeds, its band their range."
    said = " ".join(part for part in (text, left_out(curves)) if part)
    charts = figure_charts(curves, arms)
    return Section("figures", "Figures along training", said, small=charts, short="Figures")


def _speed(found: Speed) -> Section:
    title, tables = "Tokens to the baseline's loss", [found.to_table()]
    return Section("speed", title, chart=speed_chart(found), tables=tables, short="Speed")


def _scale(found: Scale) -> Section:
    names = ", ".join(study.name for study in found.studies)
    text = f"Studies from the smallest to the largest: {names}."
    chart, tables = scale_chart(found), [found.to_table()]
    return Section("scale", "Does it hold at scale?", text, chart, tables, short="Scale")


def _benchmarks(found: list[Benchmark]) -> Section:
    text = " ".join(_sentence(str(check)) for one in found for check in checks(one))
    tables = [_decisive_first(task_table(one), one.rules.alpha) for one in found]
    return Section("benchmarks", "Benchmarks", text, tables=tables)


def _judged(found: JudgedReport) -> Section:
    text = " ".join(_sentence(str(check)) for check in found.checks())
    arms, *others = found.tables()
    tables = [_decisive_first(arms, found.judged.rules.alpha), *others]
    return Section("judged", "Judged responses", text, tables=tables, short="Judged")


def _measures(evidence: Evidence) -> Section | None:
    title, beside = "Does a lower loss make it more useful?", evidence.measures()
    text = "Every measure's difference to the baseline, and what a lower loss was worth in it here."
    return Section("measures", title, text, tables=[beside], short="Measures") if beside else None


def _noise(evidence: Evidence) -> Section | None:
    title, report = "Sources of noise", evidence.noise
    if report is None:
        return _lacking(evidence, "noise", title)
    text = " ".join([*map(_sentence, report.notes), pairing_text(report.correlation)])
    chart = components_chart(report, evidence.rules)
    return Section("noise", title, text, chart, report.tables(), short="Noise")


def _stacks(result: Stacking) -> Section:
    missing = ", ".join(result.missing)
    text = f"To judge every stack, these still have to run alone: {missing}." if missing else ""
    return Section("stacks", "Stacks", text, tables=result.tables())


def _plan(evidence: Evidence) -> Section | None:
    title, result = "Plan: what more seeds would buy", evidence.plan
    if result is None:
        return _lacking(evidence, "plan", title)
    verdicts = evidence.comparison.verdicts.values() if evidence.comparison else ()
    if not any(verdict.kind in (Kind.UNDECIDED, Kind.CONVERGED) for verdict in verdicts):
        return Section("plan", title, missing="Every arm is decided.")
    text = (
        f"To find a difference of {result.delta:.3g}{evidence.rules.unit()} with power "
        f"{result.power:g} at family error {result.alpha:g}: {result.seeds} seeds per arm "
        f"({result.seeds_cautious} at the 80% upper limit of the noise)."
    )
    chart = power_chart(result, evidence.rules)
    return Section("plan", title, text, chart, result.tables(), short="Plan")


def _cost(result: Comparison, runs: Runs) -> Section:
    if result.table["hours"].isna().all():
        return Section("cost", "Cost", missing="No run has a known cost.")
    table, chart = cost_table(result), cost_chart(result)
    alike = "Every arm costs about the same a run, so there is no chart of it."
    text = " ".join(chart.key) if chart else alike
    tuning = tuning_table(runs.plans)
    tables = [table, tuning] if tuning else [table]
    return Section("cost", "Cost", text if len(table.rows) > 1 else "", chart, tables)


def _lacking(evidence: Evidence, name: str, title: str) -> Section | None:
    """Return a section that says why it is empty; None where nothing was compared."""
    why = evidence.reasons.get(name)
    return Section(name, title, missing=_sentence(why)) if why else None


def _sentence(text: str, names: tuple[str, ...] = ()) -> str:
    """Return the text with a full stop and, unless it begins with one of the names, a capital."""
    text = text.strip()
    first = text[:1] if text.startswith(names) else text[:1].upper()
    return first + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")
