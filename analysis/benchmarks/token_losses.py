"""What models lost at every token of some texts: `token_losses.json` of those evaluated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.errors import AnalysisError
from analysis.runs.frame import Runs
from harness.records.evaluation import (
    TOKEN_LOSSES_FILE,
    Evaluation,
    TokenLosses,
    read_evaluations,
)
from harness.records.reading import RecordError, is_there, read_json

MOST_LOSSES = 200_000
"""Of all texts and models together, about a megabyte on the page; texts beyond it are left out."""


@dataclass(frozen=True, slots=True)
class Text:
    """One text as several models read it in the same tokens."""

    tokens: tuple[str, ...]
    nats: dict[str, list[float]]
    """Arm, or a model that the study did not train -> loss of each token, the mean of its runs."""
    n_runs: dict[str, int]


def read_texts(runs: Runs) -> list[Text]:
    """Return the texts that two or more arms were evaluated on; none where none were."""
    frame = runs.frame
    if "folder" not in frame:
        return []
    complete = frame[frame["status"] == "complete"]
    arms = dict(zip(complete["cell"].astype(str), complete["arm"].astype(str), strict=True))
    homes = dict.fromkeys(Path(str(f)).absolute().parents[1] for f in frame["folder"].dropna())
    found: defaultdict[tuple[str, ...], defaultdict[str, list[list[float]]]]
    found = defaultdict(lambda: defaultdict(list))
    for home in homes:
        for folder, evaluation in read_evaluations(home, []).items():
            name = _name(evaluation, arms)
            for tokens, nats in _sequences(folder / TOKEN_LOSSES_FILE) if name else ():
                found[tokens][name].append(nats)
    return list(_as_many_as_fit(found))


def _name(evaluation: Evaluation, arms: dict[str, str]) -> str:
    """Return the arm of a cell that counts, nothing for another cell's, else the model's name."""
    if not evaluation.in_study or evaluation.label != evaluation.name:  # in another precision
        return evaluation.label
    return arms.get(str(evaluation.provenance.get("cell")), "")


def _sequences(file: Path) -> Iterator[tuple[tuple[str, ...], list[float]]]:
    if not is_there(file):
        return  # evaluated with --tokens-of 0 by an earlier version
    try:
        for text in read_json(file, TokenLosses).sequences:
            if len(text.tokens) != len(text.nats):
                raise RecordError(file, f"{len(text.tokens)} tokens and {len(text.nats)} losses")
            yield tuple(text.tokens), text.nats
    except RecordError as error:
        raise AnalysisError(f"{error}; evaluate the model again") from error


def _as_many_as_fit(
    found: dict[tuple[str, ...], defaultdict[str, list[list[float]]]],
) -> Iterator[Text]:
    used = 0
    for tokens, by_name in found.items():
        used += len(tokens) * len(by_name)
        if len(by_name) > 1 and used <= MOST_LOSSES:
            means = {name: np.mean(rows, axis=0).round(4) for name, rows in by_name.items()}
            yield Text(
                tokens,
                {name: [float(value) for value in mean] for name, mean in means.items()},
                {name: len(rows) for name, rows in by_name.items()},
            )
