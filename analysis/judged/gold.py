"""Hand labels: what people say of some of the responses that a judge scored."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pandas as pd

from analysis.errors import AnalysisError, needed
from analysis.judged.scores import Scores
from harness.records.reading import read_bytes

COLUMNS = ("instruction_id", "model", "score")
GOLD_FILES = ("gold.csv", "gold.jsonl")
"""Beside the judgements, where they are found without being named."""


@dataclass(frozen=True, slots=True)
class Gold:
    """Labels by instruction and model, on the judge's scale of 0 to 100."""

    frame: pd.DataFrame
    file: Path = Path(GOLD_FILES[0])

    def differences(self, scores: Scores, arm: str, baseline: str) -> pd.Series:
        """Return arm minus baseline by instruction, over the seeds that both were labelled at."""
        keys = ["instruction_id", scores.pairing.column]
        labelled = scores.models[["model", "arm", *keys]].drop_duplicates()
        labelled = labelled.merge(self.frame, on=["instruction_id", "model"])
        means = labelled.groupby([*keys, "arm"])["label"].mean().unstack("arm")
        both = means.reindex(columns=[arm, baseline]).dropna()
        return (both[arm] - both[baseline]).groupby("instruction_id").mean()

    def strangers(self, scores: Scores) -> str:
        """Return how many labels are of no judged response, with one of them; nothing if none."""
        keys = ["instruction_id", "model"]
        known = scores.models[keys].drop_duplicates().sort_values(keys)
        found = self.frame.merge(known, on=keys, how="left", indicator=True)
        lost = found[found["_merge"] == "left_only"]
        if lost.empty:
            return ""
        return (
            f"{len(lost)} of {len(found)} hand labels in {self.file} are of no judged response, "
            f"the first of {' / '.join(lost.iloc[0][keys])}; "
            f"a judged one is {' / '.join(known.iloc[0])}"
        )


def gold_beside(judgements: Path) -> Gold | None:
    """Return the hand labels in the folder of a file of judgements, if there are any."""
    files = (judgements.with_name(name) for name in GOLD_FILES)
    return next((read_gold(file) for file in files if file.exists()), None)


@needed()
def read_gold(path: Path) -> Gold:
    """Read a CSV or JSON lines with the columns instruction_id, model, score."""
    content, lines = BytesIO(read_bytes(path)), path.suffix.lower() in (".jsonl", ".json")
    try:
        frame = pd.read_json(content, lines=True, dtype=False) if lines else _csv(content)
    except ValueError as error:
        raise AnalysisError(f"cannot read {path}: {' '.join(str(error).split())}") from error
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
    names = {key: frame[key].astype(str) for key in COLUMNS[:2]}  # JSON may have numbers
    kept = frame.assign(label=label, **names)[known]
    return Gold(kept.groupby(["instruction_id", "model"])["label"].mean().reset_index(), path)


def _csv(content: BytesIO) -> pd.DataFrame:
    return pd.read_csv(content, dtype={"instruction_id": str, "model": str})
