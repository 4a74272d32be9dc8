"""Hand labels: what people say of some of the responses that a judge scored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.errors import AnalysisError
from analysis.judged.scores import Scores

COLUMNS = ("instruction_id", "model", "score")


@dataclass(frozen=True, slots=True)
class Gold:
    """Labels by instruction and model, on the judge's scale of 0 to 100."""

    frame: pd.DataFrame

    def differences(self, scores: Scores, arm: str, baseline: str) -> pd.Series:
        """Return arm minus baseline by instruction, over the seeds that both were labelled at."""
        keys = ["instruction_id", scores.pairing.column]
        labelled = scores.models[["model", "arm", *keys]].drop_duplicates()
        labelled = labelled.merge(self.frame, on=["instruction_id", "model"])
        means = labelled.groupby([*keys, "arm"])["label"].mean().unstack("arm")
        both = means.reindex(columns=[arm, baseline]).dropna()
        return (both[arm] - both[baseline]).groupby("instruction_id").mean()


def read_gold(path: Path) -> Gold:
    """Read a CSV or JSON lines with the columns instruction_id, model, score."""
    try:
        lines = path.suffix.lower() in (".jsonl", ".json")
        frame = pd.read_json(path, lines=True, dtype=False) if lines else _csv(path)
    except (OSError, ValueError) as error:
        raise AnalysisError(f"cannot read {path}: {error}") from error
    if missing := [name for name in COLUMNS if name not in frame]:
        raise AnalysisError(
            f"{path} has no column {missing[0]}: hand labels need {', '.join(COLUMNS)}"
        )
    label = pd.to_numeric(frame["score"], errors="coerce")
    known = frame["score"].notna()
    if bad := frame["score"][known & ~label.between(0, 100)].tolist():
        raise AnalysisError(
            f"{path}: score {bad[0]!r}; allowed is 0 to 100, empty where unlabelled"
        )
    kept = frame.assign(label=label)[known]
    return Gold(kept.groupby(["instruction_id", "model"])["label"].mean().reset_index())


def _csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"instruction_id": str, "model": str})
