"""A comparison as it is handed out: its table and checks, as text, CSV, LaTeX and JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any, Self

import pandas as pd

from analysis.check import Check, Level
from analysis.comparison.ranking import ranking
from analysis.comparison.table import percent, readable, single_runs
from analysis.comparison.tuning import tuning_note
from analysis.comparison.verdict import Judgement, Kind
from analysis.runs.cell.test_set import TestText
from analysis.runs.frame import SEEDS, Runs, rows_of
from analysis.stats.linear import FEWEST_DF
from analysis.table import Table
from analysis.text import digits, guarded, plain, prose
from harness.records.files import now

SHORT = (
    "arm",
    "n",
    "mean",
    "delta",
    "{ci}",
    "p adj",
    "break-even sd",
    "tokens",
    "published",
    "verdict",
)
"""Columns that a terminal has room for; break-even sds only where single runs are judged."""
RUN_COLUMNS = (
    *("run_id", "study", "arm", "status", "init_seed", "data_seed", "loop_seed", "loss"),
    *("cell", "folder", "test_set"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(Judgement):
    """Every arm against the baseline.

    ``table`` has one row an arm, sorted by delta, the baseline in its place; columns and units are
    in ``docs/statistics.md``.
    """

    table: pd.DataFrame
    checks: tuple[Check, ...]
    next_steps: tuple[str, ...]

    @classmethod
    def of(
        cls,
        judgement: Judgement,
        table: pd.DataFrame,
        checks: tuple[Check, ...],
        next_steps: tuple[str, ...],
    ) -> Self:
        """Return the judgement with its table and checks."""
        given = {f.name: getattr(judgement, f.name) for f in fields(Judgement)}
        return cls(**given, table=table, checks=checks, next_steps=next_steps)

    @property
    def method(self) -> str:
        """How the noise was estimated."""
        return self.estimate.method

    @property
    def why(self) -> str:
        """Why by this method."""
        return self.estimate.why

    @property
    def rope(self) -> float | None:
        """Practically relevant difference, nats per token; None: nothing to take it from."""
        return self.practical.size

    @property
    def rope_source(self) -> str:
        """Where it comes from."""
        return self.practical.source

    @property
    def sd(self) -> float | None:
        """Sd of one run around its arm's mean, nats per token."""
        return self.estimate.fit.sd_total if self.estimate.fit else None

    @property
    def rho(self) -> float | None:
        """Correlation of same-seed runs, from the pairs alone, where the fit uses it."""
        found = self.estimate.correlation
        return found.estimate if found else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a careful colleague would say."""
        return tuple(str(check) for check in self.checks if check.level is Level.WARNING)

    @property
    def confirmations(self) -> tuple[str, ...]:
        """What was looked at and holds: A/A controls that the noise explains."""
        return tuple(str(check) for check in self.checks if check.level is Level.OK)

    def to_table(self) -> Table:
        """Return the readable table, with everything that its page shows."""
        said = references_sentence(self)
        notes = (footnote(self), *([f"References: {said}."] if said else []))
        return readable(self, self.table, notes)

    def short_table(self) -> Table:
        """Return the columns that a terminal and a paper have room for."""
        table = self.to_table()
        wanted = [label.format(ci=percent(self.alpha)) for label in SHORT]
        have = {column.label for column in table.columns}
        return table.select([label for label in wanted if label in have])

    def to_markdown(self) -> str:
        """Return the report for a person: the table, the noise, the method, the ledger."""
        title = f"## {self.rules.metric} against {self.rules.baseline}"
        notes = _notes(self)
        notes += [f"- **Holds:** {text}." for text in self.confirmations]
        notes += [f"- **Warning:** {warning}." for warning in self.warnings]
        notes += [f"- **Next:** {step}." for step in self.next_steps]
        parts = [prose(title), "", self.short_table().to_text(), "", *map(prose, notes)]
        return "\n".join(parts) + "\n"

    def to_csv(self) -> str:
        """Return the whole table as CSV; a text that is a formula to a spreadsheet is guarded."""
        texts = self.table.map(lambda value: guarded(value) if isinstance(value, str) else value)
        return texts.to_csv(index=False, lineterminator="\n")

    def to_latex(self) -> str:
        """Return the short table as a LaTeX tabular (booktabs)."""
        return self.short_table().to_latex()

    def to_json(self) -> str:
        """Return everything, the runs behind each figure included, as JSON."""
        runs = self.runs[[name for name in RUN_COLUMNS if name in self.runs]]
        content = {
            "created": now(),
            "metric": self.rules.metric,
            "baseline": self.rules.baseline,
            "higher_is_better": self.rules.higher_is_better,
            "alpha": self.alpha,
            "rope": self.rope,
            "rope_source": self.rope_source,
            "variance": self.rules.variance,
            "method": self.method,
            "why": self.why,
            "sd": self.sd,
            "rho": self.rho,
            "noise": _fields(self.noise),
            "table": self.table.to_dict("records"),
            "ledger": _fields(self.ledger),
            "warnings": self.warnings,
            "next_steps": self.next_steps,
            "runs": rows_of(runs),
        }
        return json.dumps(plain(content), indent=1, allow_nan=False) + "\n"


def _fields(value: Any) -> dict[str, Any] | None:
    return None if value is None else {f.name: getattr(value, f.name) for f in fields(value)}


def footnote(result: Comparison) -> str:
    """Return the method in one line, for under a table that is pasted elsewhere."""
    sign = "higher" if result.rules.higher_is_better else "lower"
    text = f"delta = arm - {result.rules.baseline}{result.rules.unit(' in ')}, {sign} is better; "
    text += f"{result.method}; "
    if result.judged is not None:
        text += f"family error {result.alpha:g}, adjusted p and simultaneous intervals; "
    size = "none" if result.rope is None else f"{result.rope:.3g} ({result.rope_source})"
    return f"{text}practical size {size}; runs: {result.ledger.sentence()}."


def _notes(result: Comparison) -> list[str]:
    better = "higher" if result.rules.higher_is_better else "lower"
    read = f"- **Read:** delta = arm - {result.rules.baseline}; {better} is better."
    if result.judged is not None:
        read += (
            f" Family error {result.alpha:g}: p adjusted for the number of arms, intervals "
            "simultaneous."
        )
    if any(verdict.kind is Kind.SAME for verdict in result.verdicts.values()):
        read += f" Beside '{Kind.SAME}' stands the equivalence test's interval."
    if _adjusted(result):
        read += (
            " Delta is adjusted for which seeds each arm has: it is not the difference of means."
        )
    notes = [read, *_table(result.source)]
    if single_runs(result):
        notes.append(
            "- **Break-even sd:** noise of one run below which the difference would count as real."
        )
    notes.append(f"- **Method:** {result.method}, because {result.why}.")
    if result.sd and result.estimate.obstacle is None:
        found = result.estimate.correlation
        rho = f", correlation of same-seed runs {found}" if found else ""
        sd = f"{result.sd:.{digits(result.sd) + 1}f}"
        notes.append(f"- **Noise:** sd of one run {sd}{rho}.{_band(result)}")
    if (ranks := ranking(result)) is not None:
        notes.append(f"- **Best:** {ranks.sentence()}.")
    if result.text is not None:
        notes.append(f"- **Test text:** {text_sentence(result.text)}.")
    if result.rope is not None:
        notes.append(f"- **Practical size:** {result.rope:.3g} ({result.rope_source}).")
    if said := references_sentence(result):
        notes.append(f"- **References:** {said}.")
    if tuned := tuning_note(result.source.plans):
        notes.append(f"- **Tuning:** {tuned}.")
    return [*notes, f"- **Runs:** {result.ledger.sentence()}."]


def references_sentence(result: Comparison) -> str:
    """Return how the models of the reference rows were tested, and which have no row."""
    if result.rules.metric != "test_loss":
        return ""
    shown = result.source.references
    as_read: dict[str, list[str]] = {}
    for item in shown:
        as_read.setdefault(item.context, []).append(f"{item.label} {item.bits_per_byte:.4f}")
    found = "; ".join(f"{', '.join(named)} ({how})" for how, named in as_read.items())
    parts = [f"not trained here, so without verdict; bits per byte: {found}"] if found else []
    if left := [item.label for item in result.source.evaluations if item not in shown]:
        others = f"{', '.join(left)} on a different test set from these runs, so without a row"
        parts.append(f"{others}: evaluate again")
    return "; ".join(parts)


def text_sentence(text: TestText) -> str:
    """Return what was tested on, and how far another such text might move the differences."""
    read = f"{text.n_sequences:,} sequences of {text.n_documents:,} documents"
    if not text.reach:
        return read
    return (
        f"{read}; with another such text a difference might move by {text.middle:.2g} (median over "
        f"arms), that of {text.widest} by {text.reach[text.widest]:.2g} (95% each)"
    )


def _table(source: Runs) -> list[str]:
    """Return how a table was read: each column that was guessed, and what else was made of it."""
    theirs: dict[str, str] = {}
    for ours, name in source.taken_from.items():
        theirs.setdefault(name, "seed" if ours in SEEDS else ours)
    guessed = [f"{ours} is {name}" for name, ours in theirs.items() if ours != name]
    parts = [f"columns taken: {', '.join(guessed)}"] if guessed else []
    text = "; ".join([*parts, *source.notes])
    return [f"- **Table:** {text}."] if text else []


def _adjusted(result: Comparison) -> bool:
    """Tell whether some delta is not the plain difference of the means."""
    table = result.table[result.table["se"].notna()]
    kinds = result.table["arm"].map(lambda arm: result.verdicts[arm].kind)
    base = result.table.loc[kinds == Kind.BASELINE, "mean_loss"].iloc[0]
    gap = (table["mean_loss"] - base - table["delta"]).abs()
    return bool((gap > 1e-6 * table["se"] + 1e-12 * abs(base)).any())


def _band(result: Comparison) -> str:
    band = result.noise
    if band is None:
        return ""
    decimals = digits(result.sd)
    known = f"K = {band.K}, s = {band.sd:.{decimals + 1}f}, df {band.df:.3g}"
    text = (
        f" One more baseline run: {band.mean:.{decimals}f} ± {band.half_width:.{decimals}f} "
        f"({100 * (1 - band.alpha):g}%; {known})"
    )
    if band.n_arms > 1:
        text += f"; {band.n_arms} such runs at once: ± {band.half_width_arms:.{decimals}f}"
    return f"{text}." + (
        f" It is wide because df is below {FEWEST_DF:g}." if band.df < FEWEST_DF else ""
    )
