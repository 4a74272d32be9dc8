"""What a study shows in a tracker: whatever the analysis wrote beside the runs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from harness.records import PLAN_FILE, REPORT_JOB, RunRecord
from harness.tracking.base import Exhibits, Identity, Target
from harness.tracking.receipts import entry_of

RESULTS_FILE, REPORT_FILE, FIGURES = "results.json", "report.html", "figures"
FILES = (REPORT_FILE, "results.md", "results.csv", RESULTS_FILE, "results.tex", PLAN_FILE)
VERDICT_COLUMNS = (
    "arm", "verdict", "n", "mean_loss", "delta", "ci_low", "ci_high", "p_adj", "published_delta",
    "seeds_needed", "hours", "usd",
)  # fmt: skip
CELL_COLUMNS = ("arm", "seed", "status", "test_loss", "train_seconds", "usd", "run")


def study_identity(study: Path, name: str, target: Target) -> Identity:
    """Return the identity of a study's own run."""
    return Identity(
        group=name,
        job_type=REPORT_JOB,
        name=f"{name} report",
        id=f"{name}-report",
        tags=["study", *target.tags],
        config={"study": name, "plan": _json(study / PLAN_FILE)},
        folder=study,
    )


def study_exhibits(study: Path, records: dict[Path, RunRecord], target: Target) -> Exhibits:
    """Return the verdicts, the cells with links, the figures and the report's files."""
    tables: dict[str, tuple[list[str], list[list[Any]]]] = {}
    results = _json(study / RESULTS_FILE)
    if results:
        rows = [[row.get(name) for name in VERDICT_COLUMNS] for row in results["table"]]
        tables["verdicts"] = (list(VERDICT_COLUMNS), rows)
    tables["cells"] = (
        list(CELL_COLUMNS),
        [_cell_row(folder, r, target) for folder, r in records.items()],
    )
    files = [study / name for name in FILES if (study / name).exists()]
    return Exhibits(
        tables=tables,
        pictures=sorted((study / FIGURES).glob("*.png")),
        files=files + sorted((study / FIGURES).glob("*.svg")),
    )


def study_summary(study: Path, records: list[RunRecord]) -> dict[str, Any]:
    """Return how many cells and arms ended how, and what all of it cost."""
    statuses = Counter(record.status.value for record in records)
    results = _json(study / RESULTS_FILE)
    verdicts = Counter(row["verdict"] for row in results.get("table", []) if row["verdict"])
    prices = [record.cost.usd for record in records if record.cost.usd is not None]
    return {
        **{f"cells/{status}": count for status, count in statuses.items()},
        **{f"verdicts/{verdict}": count for verdict, count in verdicts.items()},
        "cost/hours": sum(record.cost.train_seconds for record in records) / 3600,
        "cost/usd": sum(prices) if prices else None,
        "noise_sd": results.get("sd"),
    }


def _cell_row(folder: Path, record: RunRecord, target: Target) -> list[Any]:
    sent = entry_of(folder, target)
    run = (sent and sent.url) or f"{record.study}-{record.cell}"
    cost = record.cost
    return [
        record.arm,
        record.seeds.init,
        record.status.value,
        record.losses.test,
        cost.train_seconds,
        cost.usd,
        run,
    ]


def _json(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found
