"""What a cell shows in a tracker."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.records import SAMPLES_FILE, RunRecord, Sample
from harness.records.cell import seed_text
from harness.records.files import canonical_hash
from harness.records.reading import decoder, read_json_lines
from harness.tracking.base import Ending, Identity, Target

SAMPLE_COLUMNS = ["step", "tokens", "prompt", "completion"]


def cell_identity(
    target: Target, config: dict[str, Any], record: RunRecord, folder: Path
) -> Identity:
    """Return the identity of a cell's run, given its config as plain data."""
    scale = str(config.get("scale_name", ""))
    return Identity(
        group=record.study,
        job_type=record.arm,
        name=f"{record.arm} seed {seed_text(asdict(record.seeds).values())}",
        id=f"{record.study}-{record.cell}",
        tags=[record.arm, scale, *record.interventions, *target.tags],
        config=config,
        folder=folder,
        content=canonical_hash([record.cell, record.started]),
    )


def cell_ending(record: RunRecord, folder: Path) -> Ending:
    """Return the figures that a finished cell is listed with, and its samples."""
    summary = {
        "status": record.status.value,
        "test_loss": record.losses.test,
        "val_loss": record.losses.val,
        "tokens": record.tokens,
        "n_params": record.n_params,
        "skipped_steps": record.skipped_steps,
        **{f"cost/{name}": value for name, value in asdict(record.cost).items()},
    }
    samples = read_json_lines(folder / SAMPLES_FILE, decoder(Sample))
    rows = [[getattr(sample, name) for name in SAMPLE_COLUMNS] for sample in samples]
    return Ending(summary=summary, tables={"samples": (SAMPLE_COLUMNS, rows)})
