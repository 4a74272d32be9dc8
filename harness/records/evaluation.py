"""A trained model on a study's test set: ``runs/STUDY/references/NAME/evaluation.json``."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.records import RecordError
from harness.records.files import as_json, write_atomic
from harness.records.reading import Count, Figure, read_json

REFERENCES_FOLDER = "references"
EVALUATION_FILE = "evaluation.json"
TOKEN_LOSSES_FILE = "token_losses.json"  # noqa: S105 - tokens of text
SCHEMA_VERSION = 1


@dataclass(kw_only=True, slots=True)
class Evaluation:
    """The test loss of a model that the study did not train, or not to this step."""

    schema_version: int = SCHEMA_VERSION
    name: str
    """``hf:NAME@COMMIT`` or ``ARM/CELL@STEP``."""
    asked: str
    """As it was named on the command line."""
    in_study: bool
    """It is a cell of this study with its last weights, and has a row already."""
    loss: Figure
    """Nats per token of the study's own tokenizer, whatever the model's."""
    bits_per_byte: Figure
    """Of the same text: comparable between tokenizers."""
    n_sequences: Count
    n_bytes: Count
    test_set_sha256: str | None
    weights_sha256: str
    n_params: Count
    tokenizer: str
    context: str
    """How the model's context and tokenizer met the study's, in words."""
    precision: str
    """``fp32``, or ``fp16`` as in the published evaluation."""
    created: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What its row is called."""
        return label(self.name, self.precision)


@dataclass(frozen=True, slots=True)
class TokenText:
    """One text: its tokens, and what the model lost at each, nats."""

    tokens: list[str]
    nats: list[Figure]


@dataclass(frozen=True, slots=True)
class TokenLosses:
    """What ``token_losses.json`` holds."""

    sequences: list[TokenText]


def label(name: str, precision: str) -> str:
    """Return what a model that was evaluated in some precision is called."""
    return name if precision == "fp32" else f"{name} ({precision})"


def reference_folder(study: Path, named: str) -> Path:
    """Return the folder of a model with this label below a study's."""
    return study / REFERENCES_FOLDER / re.sub(r"[^\w.@-]+", "_", named).strip("_")


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write ``evaluation.json`` atomically."""
    content = as_json(dataclasses.asdict(evaluation), indent=1) + "\n"
    write_atomic(folder / EVALUATION_FILE, content)


def read_evaluations(study: Path, broken: list[RecordError]) -> dict[Path, Evaluation]:
    """Return the evaluations below a study's folder; what cannot be read is put into `broken`."""
    found = {}
    for file in sorted(study.glob(f"{REFERENCES_FOLDER}/*/{EVALUATION_FILE}")):
        try:
            found[file.parent] = read_json(file, Evaluation, SCHEMA_VERSION)
        except RecordError as error:
            broken.append(error)
    return found
