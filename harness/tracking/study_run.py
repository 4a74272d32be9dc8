"""What a study shows in a tracker: whatever the analysis wrote beside the runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.records import PLAN_FILE, REPORT_JOB, RunRecord
from harness.records.files import canonical_hash
from harness.records.reading import Figure, is_there, read_json
from harness.records.study import Study
from harness.tracking.base import Ending, Identity, Table, Target
from harness.tracking.receipts import entry_of

RESULTS_FILE, REPORT_FILE, FIGURES = "results.json", "report.html", "figures"
FILES = (REPORT_FILE, "results.md", "results.csv", RESULTS_FILE, "results.tex", PLAN_FILE)
VERDICT_COLUMNS = [
    "arm", "verdict", "n", "mean_loss", "delta", "ci_low", "ci_high", "p_adj", "published_delta",
    "seeds_needed", "hours", "usd",
]  # fmt: skip
CELL_COLUMNS = ["arm", "seed", "status", "test_loss", "train_seconds", "usd", "run"]


@dataclass(kw_only=True, slots=True)
class Results:
    """What is shown of the analysis's ``results.json``."""

    table: list[dict[str, Figure | int | str | bool | None]]
    sd: Figure | None = None


def study_identity(study: Study, name: str, target: Target, ending: Ending) -> Identity:
    """Return the identity of a study's own run."""
    plan = study.plan()
    stamps = [(f.name, f.stat().st_mtime_ns, f.stat().st_size) for f in ending.files]
    return Identity(
        group=name,
        job_type=REPORT_JOB,
        name=f"{name} report",
        id=f"{name}-report",
        tags=["study", *target.tags],
        config={"study": name, "plan": asdict(plan) if plan else {}},
        folder=study.folder,
        content=canonical_hash([ending.tables, stamps]),
    )


def study_ending(study: Study, records: dict[Path, RunRecord], target: Target) -> Ending:
    """Return the verdicts, the cells with links, the figures and the report's files."""
    file = study.folder / RESULTS_FILE
    results = read_json(file, Results) if is_there(file) else None
    rows = [_cell_row(folder, record, target) for folder, record in records.items()]
    tables: dict[str, Table] = {"cells": (CELL_COLUMNS, rows)}
    if results:
        verdicts = [[row.get(name) for name in VERDICT_COLUMNS] for row in results.table]
        tables = {"verdicts": (VERDICT_COLUMNS, verdicts), **tables}
    figures = study.folder / FIGURES
    files = [study.folder / name for name in FILES if (study.folder / name).exists()]
    return Ending(
        summary=_summary(results, list(records.values())),
        tables=tables,
        pictures=sorted(figures.glob("*.png")),
        files=files + sorted(figures.glob("*.svg")),
    )


def _summary(results: Results | None, records: list[RunRecord]) -> dict[str, Any]:
    """Return how many cells and arms ended how, and what all of it cost."""
    statuses = Counter(record.status.value for record in records)
    rows = results.table if results else []
    verdicts = Counter(str(row["verdict"]) for row in rows if row.get("verdict"))
    prices = [record.cost.usd for record in records if record.cost.usd is not None]
    return {
        **{f"cells/{status}": count for status, count in statuses.items()},
        **{f"verdicts/{verdict}": count for verdict, count in verdicts.items()},
        "cost/hours": sum(record.cost.train_seconds for record in records) / 3600,
        "cost/usd": sum(prices) if prices else None,
        "noise_sd": results.sd if results else None,
    }


def _cell_row(folder: Path, record: RunRecord, target: Target) -> list[Any]:
    sent, cost = entry_of(folder, target), record.cost
    run = (sent and sent.url) or f"{record.study}-{record.cell}"
    begin = [record.arm, record.seeds.init, record.status.value, record.losses.test]
    return [*begin, cost.train_seconds, cost.usd, run]
