"""A trained model on a study's test set: ``runs/STUDY/references/NAME/evaluation.json``."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.records import RecordError
from harness.records.files import write_atomic

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
    loss: float
    """Nats per token of the study's own tokenizer, whatever the model's."""
    bits_per_byte: float
    """Of the same text: comparable between tokenizers."""
    n_sequences: int
    n_bytes: int
    test_set_sha256: str | None
    weights_sha256: str
    n_params: int
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


def label(name: str, precision: str) -> str:
    """Return what a model that was evaluated in some precision is called."""
    return name if precision == "fp32" else f"{name} ({precision})"


def reference_folder(study: Path, named: str) -> Path:
    """Return the folder of a model with this label below a study's."""
    return study / REFERENCES_FOLDER / re.sub(r"[^\w.@-]+", "_", named).strip("_")


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write ``evaluation.json`` atomically."""
    content = json.dumps(dataclasses.asdict(evaluation), indent=1) + "\n"
    write_atomic(folder / EVALUATION_FILE, content)


def read_evaluations(study: Path) -> dict[Path, Evaluation]:
    """Return the evaluations below a study's folder (`RecordError` if one cannot be read)."""
    found = {}
    for file in sorted(study.glob(f"{REFERENCES_FOLDER}/*/{EVALUATION_FILE}")):
        try:
            found[file.parent] = Evaluation(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise RecordError(f"{file} is no evaluation: {error}; delete its folder") from error
    return found
