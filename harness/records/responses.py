"""What models answer to instructions, and what a judge says of it: JSON lines with a version.

Every line stands by itself, so files may be joined.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from msgspec import Meta

from harness.records.files import append_json_lines
from harness.records.reading import (
    Count,
    RecordError,
    Whole,
    check_depth,
    check_version,
    decoder,
    read_json_lines,
)

T = TypeVar("T")
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
    train_seed: Whole | None = None
    """The cell's init seed."""
    seed: Whole
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
    CLAIM = "claim"
    """Nothing but a request for 100 points: what it earns, the judge gives to whoever asks."""
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

    @property
    def has_scores(self) -> bool:
        """Whether there is something to judge by."""
        return self in (Outcome.SCORED, Outcome.PARTIAL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One slot of a call."""

    slot: Count
    """From 0, as the judge read them."""
    token: str
    """The name the judge knew it by."""
    kind: Kind
    model: str = ""
    """Of a model or its duplicate."""
    arm: str = ""
    train_seed: Whole | None = None
    seed: Whole | None = None
    n_characters: Count
    score: Annotated[float, Meta(ge=0, le=100)] | None = None
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
    order: Count
    """Row of the Latin square."""
    outcome: Outcome
    entries: list[Entry]
    answer: str
    """As it came."""
    input_tokens: Count = 0
    output_tokens: Count = 0
    time: str


def write_responses(path: Path, responses: Iterable[Response]) -> None:
    """Append responses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    append_json_lines(path, [asdict(response) for response in responses])


def read_responses(path: Path) -> list[Response]:
    """Read a file of responses (`RecordError` if there is none, or it is not one)."""
    return _read(path, Response, RESPONSES_VERSION)


def write_judgement(path: Path, judgement: Judgement) -> None:
    """Append one judgement."""
    append_json_lines(path, [asdict(judgement)])


def read_judgements(path: Path) -> list[Judgement]:
    """Read a file of judgements (`RecordError` if there is none, or it is not one)."""
    return _read(path, Judgement, JUDGEMENTS_VERSION, skip_torn=True)


def _read(path: Path, kind: type[T], version: int, *, skip_torn: bool = False) -> list[T]:
    if not path.is_file():
        raise RecordError(path, "it is no file: name a file of JSON lines")

    def decode(line: bytes) -> T:
        check_version(line, version)
        check_depth(decoder(dict[str, Any])(line))
        found: T = decoder(cast(Hashable, kind))(line)
        return found

    return read_json_lines(path, decode, skip_torn=skip_torn)
