"""What a person should see first."""

from __future__ import annotations

from collections import Counter

from analysis.comparison.verdict import JUDGED, Kind
from analysis.report.evidence import Evidence
from analysis.text import digits
from harness.records import BASELINE


def headline(evidence: Evidence) -> str:
    """Return the result in one sentence."""
    result = evidence.comparison
    if result is None:
        return f"No comparison yet: {evidence.reasons['verdicts']}"
    counts = Counter(verdict.kind for verdict in result.verdicts.values())
    words = [
        f"{counts[kind]} {name}"
        for kind, name in (
            (Kind.BETTER, "better"),
            (Kind.WORSE, "worse"),
            (Kind.SAME, "with no practical difference"),
            (Kind.UNDECIDED, "undecided"),
        )
        if counts[kind]
    ]
    total = sum(counts[kind] for kind in JUDGED)
    lost = counts[Kind.NO_RUN]
    without = f"{lost} {'arm' if lost == 1 else 'arms'} without a complete run"
    if not total:
        others = f" beside {without}" if lost else ""
        return f"The baseline alone{others}: nothing to compare it with yet."
    arms = "arm" if total == 1 else "arms"
    more = f"; {without}" if lost else ""
    return f"Of {total} {arms} against {result.rules.baseline}: {', '.join(words)}{more}."


def tiles(evidence: Evidence) -> list[dict[str, str]]:
    """Return the few figures at the top: label, value, what it means."""
    ledger, result = evidence.ledger, evidence.comparison
    done = ledger.counts.get("complete", 0)
    planned = ledger.planned or sum(ledger.counts.values())
    tiles = [_tile("runs", f"{done} / {planned}", ledger.sentence()), *_one_run(evidence)]
    if result is not None:
        decimals = digits(result) + 1
        if result.sd is not None and result.estimate.obstacle is None:
            rho = "" if result.rho is None else f"; same-seed runs correlate {result.rho:+.2f}"
            tiles.append(
                _tile(
                    "noise of one run", f"± {result.sd:.{decimals}f}", f"sd, pooled over arms{rho}"
                )
            )
        if result.noise is not None:
            band = f"± {result.noise.half_width:.{decimals}f}"
            tiles.append(
                _tile("noise band", band, f"one more baseline run, K\u00a0=\u00a0{result.noise.K}")
            )
        if result.rope is not None:
            tiles.append(_tile("practical size", f"{result.rope:.3g}", result.rope_source))
    hours = sum(cell.record.cost.train_seconds for cell in evidence.cells) / 3600
    usd = [cell.record.cost.usd for cell in evidence.cells if cell.record.cost.usd is not None]
    price = f"{sum(usd):,.2f} dollars" if usd else "no price was set"
    if evidence.cells:
        tiles.append(_tile("training", f"{hours:,.2f} h", price))
    return tiles


def _one_run(evidence: Evidence) -> list[dict[str, str]]:
    """Return what every run trains, as the baseline's record says."""
    records = [cell.record for cell in evidence.cells if cell.record.n_params]
    if not records:
        return []
    record = next((found for found in records if found.arm == BASELINE), records[0])
    kit = record.provenance
    devices = f"{kit.n_devices} x {kit.device}" if (kit.n_devices or 1) > 1 else kit.device
    tokens = f"parameters, {record.tokens:,} tokens"
    known = [tokens, kit.tokenizer and f"tokenizer {kit.tokenizer}", devices]
    size = f"{record.n_params / 1e6:.3g}M"
    return [_tile("one run", size, ", ".join(str(part) for part in known if part))]


def _tile(label: str, value: str, note: str) -> dict[str, str]:
    return {"label": label, "value": value, "note": note}
