"""Everything that a report shows, computed once; what cannot be computed is kept as a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from analysis.benchmarks.answers import read_tasks
from analysis.benchmarks.tables import beside_loss
from analysis.benchmarks.token_losses import Text, read_texts
from analysis.benchmarks.verdicts import Benchmark, judge_task
from analysis.comparison.compare import compare
from analysis.comparison.estimate import MODERATED
from analysis.comparison.result import Comparison
from analysis.comparison.rules import Rules
from analysis.comparison.verdict import JUDGED, Kind
from analysis.errors import AnalysisError
from analysis.judged.gold import gold_beside
from analysis.judged.scores import read_scores
from analysis.judged.tables import JudgedReport, report_judged
from analysis.judged.verdicts import judged_differences
from analysis.questions.noise import NoiseReport, noise
from analysis.questions.paired import PairedRules
from analysis.questions.plan import Plan, pilot_of, plan
from analysis.questions.scale import Scale, scale
from analysis.questions.speed import Speed
from analysis.questions.stack import Stacking, stack
from analysis.questions.tokens_to_target import speed, with_speed
from analysis.report.cells import Cell, current, read_cells
from analysis.report.chart_effects import arm_order
from analysis.report.curves import Curves, read_curves
from analysis.runs.curves import last_lines
from analysis.runs.frame import Runs, with_names
from analysis.runs.ledger import Ledger, take_stock
from analysis.stats.components import TOTAL
from analysis.table import Table
from analysis.text import digits, duration
from harness.records import BASELINE
from harness.records.benchmarks import task_files
from harness.records.responses import JUDGEMENTS_FILE

T = TypeVar("T")
SAID = {Kind.SAME: "with no practical difference"}
"""What the headline calls a verdict, where not by its own name."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """A study as it stands; each is its own, whatever it holds."""

    title: str
    runs: Runs
    rules: Rules
    comparison: Comparison | None
    noise: NoiseReport | None
    stacking: Stacking | None
    plan: Plan | None
    ledger: Ledger
    cells: list[Cell]
    curves: Curves
    speed: Speed | None
    scale: Scale | None
    """Where studies at other sizes were given."""
    texts: list[Text]
    """Texts that arms were evaluated on token by token."""
    benchmarks: list[Benchmark]
    """What the arms answered to tasks; empty where none was asked."""
    judged: JudgedReport | None
    """What a judge says of the arms' responses, where there are judgements."""
    reasons: dict[str, str]
    """Section -> why it is empty."""

    def measures(self) -> Table | None:
        """Return loss, benchmarks and judged score side by side, where there are several."""
        more = [self.judged.judged.measure()] if self.judged else []
        if self.comparison is None or not (self.benchmarks or more):
            return None
        return beside_loss(self.comparison, self.benchmarks, more)

    @property
    def arms(self) -> list[str]:
        """Arms, the baseline first, the others from the lowest loss to the highest."""
        if self.comparison is None:
            base = self.rules.baseline
            others = sorted(set(self.runs.frame["arm"].astype(str)) - {base})
            return [base, *others]
        return arm_order(self.comparison)


@dataclass(frozen=True, slots=True)
class Tile:
    """One of the few figures at the top of the page."""

    label: str
    value: str
    note: str
    """What it means."""


def gather(runs: Runs, rules: Rules, sizes: Sequence[Runs] = ()) -> Evidence:
    """Compute all sections of a report; the study may still be running.

    `sizes` are studies of the same arms at other sizes.
    """
    reasons: dict[str, str] = {}

    def attempt(section: str, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except AnalysisError as error:
            reasons[section] = str(error)
            return None

    comparison = attempt("verdicts", lambda: compare(runs, rules))
    if "arm" not in runs.frame:  # there is nothing to report of
        raise AnalysisError(reasons["verdicts"])
    report = plan_ = stacking = found = None
    if comparison is not None:
        found = attempt("speed", lambda: speed(runs, rules))
        result = comparison = with_speed(comparison, found)
        report = attempt("noise", lambda: _noise(runs, rules))
        stacking = attempt("stacks", lambda: stack(result))
        plan_ = attempt("plan", lambda: _plan(runs, rules))
    cells = read_cells(runs.frame)
    return Evidence(
        title=_title(runs),
        runs=runs,
        rules=rules,
        comparison=comparison,
        noise=report,
        stacking=stacking,
        plan=plan_,
        ledger=take_stock(last_lines(replace(runs, frame=with_names(runs.frame)), rules.metric)),
        cells=cells,
        curves=read_curves(current(cells)),
        speed=found,
        scale=attempt("scale", lambda: scale([runs, *sizes], rules)) if sizes else None,
        benchmarks=attempt("benchmarks", lambda: _benchmarks(runs, rules)) or [],
        texts=attempt("tokens", lambda: read_texts(runs)) or [],
        judged=attempt("judged", lambda: _judged(runs, rules)),
        reasons=reasons,
    )


def _benchmarks(runs: Runs, rules: Rules) -> list[Benchmark]:
    if runs.home is None or not any(task_files(runs.home)):
        return []
    return [judge_task(task, _paired(rules)) for task in read_tasks(runs)]


def _paired(rules: Rules) -> PairedRules:
    """Return the rules for differences in other units than the loss's."""
    return PairedRules(baseline=rules.baseline, alpha=rules.alpha or PairedRules.alpha)


def _judged(runs: Runs, rules: Rules) -> JudgedReport | None:
    file = (runs.home or Path()) / JUDGEMENTS_FILE
    if runs.home is None or not file.exists():
        return None
    gold = gold_beside(file)
    return report_judged(judged_differences(read_scores([file]), _paired(rules), gold))


def _noise(runs: Runs, rules: Rules) -> NoiseReport:
    """Split the noise of all arms, without its total: the top of the page shows that already."""
    found = noise(runs, baseline=rules.baseline, metric=rules.metric, arms="all")
    split = found.components
    if split is None:
        return found
    sources = split.table[split.table["source"] != TOTAL]
    apart = replace(split, table=sources) if len(sources) > 1 else None
    return replace(found, components=apart)


def _plan(runs: Runs, rules: Rules) -> Plan:
    pilot = pilot_of(runs, rules)
    return plan(pilot.size or pilot.sd, pilot, pilot.n_arms)


def _title(runs: Runs) -> str:
    if "study" in runs.frame and runs.frame["study"].notna().any():
        return " + ".join(sorted(set(runs.frame["study"].dropna().astype(str))))
    return runs.stem.removesuffix("_results")


def headline(evidence: Evidence) -> str:
    """Return the result in one sentence."""
    result = evidence.comparison
    if result is None:
        return f"No comparison yet: {evidence.reasons['verdicts']}"
    counts = Counter(verdict.kind for verdict in result.verdicts.values())
    words = [f"{counts[kind]} {SAID.get(kind, kind)}" for kind in JUDGED if counts[kind]]
    lost = counts[Kind.NO_RUN]
    without = f"{lost} {'arm' if lost == 1 else 'arms'} without a complete run"
    if not words:
        others = f" beside {without}" if lost else ""
        return f"The baseline alone{others}: nothing to compare it with yet."
    total = sum(counts[kind] for kind in JUDGED)
    arms = "arm" if total == 1 else "arms"
    more = f"; {without}" if lost else ""
    return f"Of {total} {arms} against {result.rules.baseline}: {', '.join(words)}{more}."


def tiles(evidence: Evidence) -> list[Tile]:
    """Return the few figures at the top."""
    ledger = evidence.ledger
    done = ledger.counts.get("complete", 0)
    planned = ledger.planned or sum(ledger.counts.values())
    found = [Tile("runs", f"{done} / {planned}", ledger.sentence()), *_one_run(evidence)]
    if evidence.comparison is not None:
        found += _noise_tiles(evidence.comparison)
    if evidence.cells:
        hours = sum(cell.record.cost.train_seconds for cell in evidence.cells) / 3600
        usd = [cell.record.cost.usd for cell in evidence.cells if cell.record.cost.usd is not None]
        price = f"{sum(usd):,.2f} dollars" if usd else "no price was set"
        found.append(Tile("training", duration(hours), price))
    return found


def _noise_tiles(result: Comparison) -> list[Tile]:
    found, decimals = [], digits(result.sd)
    if result.sd is not None and result.estimate.obstacle is None:
        found_rho = result.estimate.correlation
        rho = f"; correlation of same-seed runs {found_rho}" if found_rho else ""
        sd = f"± {result.sd:.{decimals + 1}f}"
        found.append(Tile("noise of one run", sd, f"sd, pooled over arms{rho}"))
    if result.judged is not None and result.rules.variance == MODERATED:
        what = "probability that all arms are equally noisy; verdicts average over both answers"
        found.append(Tile("equal noise", f"{result.estimate.equal_noise:.2f}", what))
    if result.noise is not None:
        band = f"± {result.noise.half_width:.{decimals}f}"
        note = f"one more baseline run, K\u00a0=\u00a0{result.noise.K}"
        found.append(Tile("noise band", band, note))
    if result.text is not None and result.text.reach:
        move = f"± {result.text.middle:.2g}"
        note = "how far it might move a difference (95%, median over arms)"
        found.append(Tile("another test text", move, note))
    if result.rope is not None:
        found.append(Tile("practical size", f"{result.rope:.3g}", result.rope_source))
    return found


def _one_run(evidence: Evidence) -> list[Tile]:
    """Return what every run trains, as the baseline's record says."""
    records = [cell.record for cell in evidence.cells if cell.record.n_params]
    if not records:
        return []
    record = next((found for found in records if found.arm == BASELINE), records[0])
    kit = record.provenance
    devices = f"{kit.n_devices} x {kit.device}" if kit.n_devices > 1 else kit.device
    tokens = f"parameters, {record.tokens:,} tokens"
    known = [tokens, kit.tokenizer and f"tokenizer {kit.tokenizer}", devices]
    note = ", ".join(str(part) for part in known if part)
    n = record.n_params
    size = f"{n / 1e6:.3g}M" if n >= 1e6 else f"{n / 1e3:.3g}k"
    return [Tile("one run", size, note)]
