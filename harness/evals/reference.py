"""Evaluate a model on a study's test set and record it beside the study's cells."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from harness.evals.losses import TestLosses, TestSet, measure
from harness.evals.models import LoadedModel
from harness.evaluation import save_array
from harness.model import count_parameters
from harness.records import TEST_LOSSES_FILE
from harness.records.evaluation import (
    TOKEN_LOSSES_FILE,
    Evaluation,
    reference_folder,
    write_evaluation,
)
from harness.records.files import now, write_atomic


def evaluate_on(
    loaded: LoadedModel, test: TestSet, study: Path, precision: str, n_views: int
) -> Evaluation:
    """Measure, write the model's folder below ``references/`` and return what was found."""
    losses = measure(loaded, test, precision)
    done = _evaluation(loaded, test, losses, precision, study)
    folder = reference_folder(study, done.label)
    save_array(folder / TEST_LOSSES_FILE, losses.per_sequence)
    views = [_view(loaded, losses, i) for i in range(min(n_views, test.n_sequences))]
    write_atomic(folder / TOKEN_LOSSES_FILE, json.dumps({"sequences": views}))
    write_evaluation(folder, done)
    return done


def is_of(loaded: LoadedModel, study: Path) -> bool:
    """Tell whether a model is a cell of this study with its last weights."""
    cell, config = loaded.weights.cell, loaded.config
    ours = cell is not None and cell.parents[1] == study.absolute()
    return ours and config is not None and loaded.weights.step == config.n_steps


def _evaluation(
    loaded: LoadedModel, test: TestSet, losses: TestLosses, precision: str, study: Path
) -> Evaluation:
    return Evaluation(
        name=loaded.name,
        asked=loaded.weights.place,
        in_study=is_of(loaded, study),
        loss=float(losses.per_sequence.mean(dtype=np.float64)),
        bits_per_byte=losses.bits_per_byte,
        n_sequences=test.n_sequences,
        n_bytes=losses.n_bytes,
        test_set_sha256=test.sequences.sha256(),
        weights_sha256=loaded.weights.sha256,
        n_params=count_parameters(loaded.model),
        tokenizer=loaded.encoding.name,
        context=losses.context,
        precision=precision,
        created=now(),
        provenance=loaded.provenance_of_measurement(),
    )


def _view(loaded: LoadedModel, losses: TestLosses, i: int) -> dict[str, list[str] | list[float]]:
    """Return a sequence's tokens as text, each with its loss in nats."""
    single = loaded.encoding.decode_single_token_bytes
    texts = [single(token).decode(errors="replace") for token in losses.targets[i].tolist()]
    return {"tokens": texts, "nats": [round(float(value), 4) for value in losses.nats[i]]}
