"""What models answer to instructions, and what a judge says of it: JSON lines with a version.

Standard library only, as all records. Every line stands by itself, so files may be joined.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from harness.records.files import RecordError, append_json_lines, read_json_lines

RESPONSES_VERSION = 1
JUDGEMENTS_VERSION = 1
JUDGEMENTS_FILE = "judgements.jsonl"
"""In a study's folder, where its report looks for them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """One model's answer to one held-out instruction, with all that is needed to judge it later."""

    schema_version: int = RESPONSES_VERSION
    model: str
    """Distinct for each fine-tuned model, e.g. ``no_dropout/1a2b3c/s0``."""
    arm: str
    cell: str | None = None
    """The cell that was fine-tuned; None for a model from elsewhere."""
    train_seed: int | None = None
    """The cell's init seed."""
    seed: int
    """The fine-tuning seed; arms are paired by `train_seed` and `seed`."""
    instruction_id: str
    instruction: str
    input: str
    reference: str
    response: str
    truncated: bool
    """Cut off at the longest answer allowed."""
    settings: dict[str, Any] = field(default_factory=dict)
    """How it was fine-tuned and how it answered."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Data, weights, packages, code."""


class Kind(StrEnum):
    """What stands in a slot of a judge's call: a model, or an anchor."""

    MODEL = "model"
    REFERENCE = "reference"
    EMPTY = "empty"
    OTHER = "other"
    """Another instruction's reference answer."""
    DUPLICATE = "duplicate"
    """A model's response a second time: the difference is the judge's own noise."""


class Outcome(StrEnum):
    """What became of a call; a score that is not there is missing, never zero."""

    SCORED = "scored"
    PARTIAL = "partial"
    """Some scores are missing or out of range."""
    UNPARSED = "unparsed"
    TRUNCATED = "truncated"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One slot of a call."""

    slot: int
    """From 0, as the judge read them."""
    token: str
    """The name the judge knew it by."""
    kind: Kind
    model: str = ""
    """Of a model or its duplicate."""
    arm: str = ""
    train_seed: int | None = None
    seed: int | None = None
    n_characters: int
    score: float | None = None
    """0 to 100; None: missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """One answer of a judge that was paid for: all models' responses to one instruction."""

    schema_version: int = JUDGEMENTS_VERSION
    call: str
    """Hash of what was asked of which judge: a call that is here is not made again."""
    judge: str
    """The model asked for."""
    judge_version: str
    """The model that answered, as it calls itself."""
    fingerprint: str | None = None
    instruction_id: str
    order: int
    """Row of the Latin square."""
    outcome: Outcome
    entries: list[Entry]
    answer: str
    """As it came."""
    input_tokens: int = 0
    output_tokens: int = 0
    time: str


def write_responses(path: Path, responses: Iterable[Response]) -> None:
    """Append responses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    append_json_lines(path, [asdict(response) for response in responses])


def read_responses(path: Path) -> list[Response]:
    """Read a file of responses (`RecordError` if there is none, or it is not one)."""
    return [_response(path, i, row) for i, row in enumerate(_rows(path, RESPONSES_VERSION), 1)]


def write_judgement(path: Path, judgement: Judgement) -> None:
    """Append one judgement."""
    append_json_lines(path, [asdict(judgement)])


def read_judgements(path: Path) -> list[Judgement]:
    """Read a file of judgements (`RecordError` if there is none, or it is not one)."""
    rows = _rows(path, JUDGEMENTS_VERSION, skip_broken=True)  # torn by a kill, then gone on with
    return [_judgement(path, i, row) for i, row in enumerate(rows, 1)]


def _rows(path: Path, version: int, *, skip_broken: bool = False) -> list[dict[str, Any]]:
    if not path.is_file():
        raise RecordError(f"{path} is no file: name a file of JSON lines")
    rows = read_json_lines(path, skip_broken=skip_broken)
    for i, row in enumerate(rows, 1):
        if (found := row.get("schema_version")) != version:
            raise RecordError(
                f"{path}, line {i} has schema version {found}, this program reads {version}"
            )
    return rows


def _response(path: Path, line: int, row: dict[str, Any]) -> Response:
    try:
        response = Response(**row)
    except TypeError as error:
        raise RecordError(f"{path}, line {line} is no response: {error}") from error
    texts = ("model", "arm", "instruction_id", "instruction", "input", "reference", "response")
    for name in texts:
        _require(path, line, name, getattr(response, name), str)
    _require(path, line, "seed", response.seed, int)
    _require(path, line, "truncated", response.truncated, bool)
    return response


def _judgement(path: Path, line: int, row: dict[str, Any]) -> Judgement:
    try:
        entries = [Entry(**{**entry, "kind": Kind(entry["kind"])}) for entry in row["entries"]]
        judgement = Judgement(**{**row, "outcome": Outcome(row["outcome"]), "entries": entries})
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{path}, line {line} is no judgement: {error}") from error
    for entry in entries:
        _require(path, line, "score", entry.score, (int, float, type(None)))
        _require(path, line, "slot", entry.slot, int)
    return judgement


def _require(path: Path, line: int, name: str, value: Any, kind: Any) -> None:
    if not isinstance(value, kind):
        raise RecordError(f"{path}, line {line}: {name} is {value!r}")
