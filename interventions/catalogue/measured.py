"""What interventions were measured to do here: the committed results of whole studies."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.records.files import CONF_DIR, write_atomic

RESULTS = CONF_DIR.parent / "docs" / "results"
COLUMNS = ("arm", "n", "n_diverged", "mean_loss", "delta", "ci_low", "ci_high", "p_adj", "verdict")


@dataclass(frozen=True, slots=True)
class Measured:
    """One arm in the results of one study."""

    study: str
    scale: str
    n: int
    delta: float | None
    """Test loss minus baseline, nats per token."""
    ci_low: float | None
    ci_high: float | None
    verdict: str

    def __str__(self) -> str:
        if self.delta is None:
            return f"{self.verdict} (scale={self.scale}, {self.n} seeds)"
        interval = ""
        if self.ci_low is not None and self.ci_high is not None:
            interval = f" [{self.ci_low:+.4f}, {self.ci_high:+.4f}]"
        return f"{self.delta:+.4f}{interval}: {self.verdict} (scale={self.scale}, {self.n} seeds)"


def read_measured(folder: Path = RESULTS) -> dict[str, list[Measured]]:
    """Return arm -> what each study's committed results say of it."""
    found: dict[str, list[Measured]] = {}
    for file in studies_in(folder):
        scale = read_origin(file)["scale"]
        for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines()):
            if row["arm"] != "baseline":
                found.setdefault(row["arm"], []).append(_measured(file.stem, scale, row))
    return found


def studies_in(folder: Path) -> list[Path]:
    """Return the tables of this project's own studies: what others published has no origin here."""
    return [origin.with_suffix(".csv") for origin in sorted(folder.glob("*.json"))]


def _measured(study: str, scale: str, row: dict[str, str]) -> Measured:
    delta, low, high = (float(row[k]) if row[k] else None for k in ("delta", "ci_low", "ci_high"))
    return Measured(study, scale, int(float(row["n"])), delta, low, high, row["verdict"])


def read_origin(file: Path) -> dict[str, Any]:
    """Return where committed results come from: scale, machine, versions, command."""
    origin: dict[str, Any] = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    return origin


def publish(study: Path, folder: Path = RESULTS) -> Path:
    """Keep the main figures of a study's results, and where they come from; return their file.

    `ValueError` where the study has no results yet.
    """
    source = study / "results.csv"
    if not source.exists():
        raise ValueError(f"no {source}: run `python -m analysis {study}` first")
    rows = list(csv.DictReader(source.read_text(encoding="utf-8").splitlines()))
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(({**row, **_shortened(row)} for row in rows), key=lambda r: r["arm"]))
    name = study.resolve().name
    write_atomic(folder / f"{name}.csv", text.getvalue())
    write_atomic(folder / f"{name}.json", json.dumps(_origin(study), indent=1) + "\n")
    return folder / f"{name}.csv"


def _shortened(row: dict[str, str]) -> dict[str, str]:
    numbers = ("n_diverged", "mean_loss", "delta", "ci_low", "ci_high", "p_adj")
    return {name: f"{float(row[name]):.5g}" for name in numbers if row[name]}


def _origin(study: Path) -> dict[str, Any]:
    """Return the origin that all cells of the baseline share with the first."""
    record_file = min(study.glob("baseline/*/record.json"), default=None)
    if record_file is None:
        raise ValueError(f"no baseline's record.json below {study}: name the folder of a study")
    record = json.loads(record_file.read_text(encoding="utf-8"))
    config = yaml.safe_load((record_file.parent / "config.yaml").read_text(encoding="utf-8"))
    made = record["provenance"]
    return {
        "scale": config["scale_name"],
        "command": f"python -m harness +study={config['study_name']}",
        "finished": str(record["finished"])[:10],
        "git_sha": made["git_sha"],
        "device": made["device"],
        "platform": made["platform"],
        "python": made["python"],
        "torch": made["packages"].get("torch"),
        "dataset_sha256": made["dataset_sha256"],
    }
