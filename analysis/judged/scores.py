"""Judgements read into one table: a row for each slot of each call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError, needed
from analysis.stats.linear import Array
from harness.records.responses import Judgement, Kind, Outcome, read_judgements


@dataclass(frozen=True, slots=True)
class Pairing:
    """What makes two models of different arms a pair: the seeds they share."""

    column: str
    what: str
    """In words."""


TRAINING = Pairing("train_seed", "training seed")
FINE_TUNING = Pairing("seed", "fine-tuning seed")


@dataclass(frozen=True, slots=True)
class Scores:
    """All that judges said."""

    frame: pd.DataFrame
    """judge, instruction_id, order, and the fields of `harness.records.responses.Entry`."""
    outcomes: dict[str, Counter[Outcome]]
    """Judge -> what became of its calls."""
    versions: dict[str, list[str]]

    @property
    def judges(self) -> list[str]:
        """Judges by name."""
        return sorted(self.outcomes)

    @property
    def arms(self) -> list[str]:
        """Arms by name."""
        return sorted(set(self.models["arm"]))

    @property
    def models(self) -> pd.DataFrame:
        """The rows of models, anchors left out."""
        return self.frame[self.frame["kind"] == Kind.MODEL]

    @property
    def pairing(self) -> Pairing:
        """What repeats an arm: training seeds where there are several, else fine-tuning seeds."""
        return TRAINING if self.models["train_seed"].nunique() > 1 else FINE_TUNING

    def table(self, arm: str, value: str = "score") -> pd.DataFrame:
        """Return the arm's means, instruction x seed, over orders, judges and models of that seed.

        Missing where some judge has no score of it.
        """
        own = self.models[self.models["arm"] == arm].assign(
            value=lambda f: np.log1p(f["n_characters"]) if value == "log_length" else f["score"]
        )
        keys = ["instruction_id", self.pairing.column]
        of_judges = own.groupby([*keys, "judge"])["value"].mean().unstack("judge")
        mean = of_judges.reindex(columns=self.judges).mean(axis=1, skipna=False)
        return mean.unstack(self.pairing.column)

    def differences(self, arm: str, baseline: str, value: str = "score") -> pd.DataFrame:
        """Return arm minus baseline, instruction x shared seed; complete instructions alone."""
        ours, theirs = self.table(arm, value), self.table(baseline, value)
        shared = ours.columns.intersection(theirs.columns)
        if shared.empty:
            raise AnalysisError(
                f"{arm} and {baseline} share no {self.pairing.what}: fine-tune both with the same"
            )
        return (ours[shared] - theirs[shared]).dropna()


@needed()
def read_scores(files: Sequence[str | Path]) -> Scores:
    """Read files of judgements; `AnalysisError` where they cannot be put together."""
    return scores_of([j for file in files for j in read_judgements(Path(file))])


def scores_of(judgements: Sequence[Judgement]) -> Scores:
    """Return the judgements as a table; a call asked again counts once, by its last answer."""
    last = {(j.judge, j.call): j for j in judgements}
    if not last:
        raise AnalysisError("no judgements in these files: run python -m harness.judge")
    rows = [
        {
            "judge": j.judge,
            "instruction_id": j.instruction_id,
            "order": j.order,
            **{**asdict(entry), "kind": str(entry.kind)},
        }
        for j in last.values()
        for entry in j.entries
    ]
    versions: dict[str, list[str]] = {}
    outcomes: dict[str, Counter[Outcome]] = {}
    for j in last.values():
        outcomes.setdefault(j.judge, Counter())[j.outcome] += 1
        known = versions.setdefault(j.judge, [])
        if j.judge_version and j.judge_version not in known:
            known.append(j.judge_version)
    frame = pd.DataFrame(rows).astype({"score": float})
    frame["train_seed"] = frame["train_seed"].fillna(-1).astype(int)  # unknown is one level
    return Scores(_one_panel(frame), outcomes, versions)


def _one_panel(frame: pd.DataFrame) -> pd.DataFrame:
    """Refuse calls with other models than the rest: their scores stand on another scale."""
    models = frame[frame["kind"] == Kind.MODEL].groupby(["judge", "instruction_id", "order"])
    panels = {tuple(sorted(names)) for _, names in models["model"]}
    if len(panels) > 1:
        sizes = ", ".join(str(len(panel)) for panel in sorted(panels))
        raise AnalysisError(
            f"these judgements are of different sets of models ({sizes} models): scores compare "
            "only between models that were shown together; judge all of them in one command"
        )
    return frame


def square(frame: pd.DataFrame) -> Array:
    """Return a table's numbers."""
    return frame.to_numpy(dtype=float)
