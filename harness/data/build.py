"""Tokens into split files: resumable behind any batch, and the same bytes however often it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from harness.config import Cut, DataConfig
from harness.data.manifest import SPLITS, DataError, SplitFile, sha256_of
from harness.data.tokens import Batch, Tokenised, get_tokenizer, tokenised
from harness.records.files import write_atomic

SAVE_EVERY_TOKENS = 25_000_000
"""A killed preparation repeats at most this much."""
STATE_FILE = "state.json"


class EmptySplitError(DataError):
    """A corpus without training, validation or test documents: nothing to go on from."""


Progress = Callable[[int, float | None], None]
"""Called with the tokens done so far, and the fraction of the whole where it is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """How far a preparation has come."""

    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    """Written so far, by split; so are the documents."""
    documents: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    bookmark: Any = None
    full: bool = False
    """The token budget is used up."""

    @property
    def n_tokens(self) -> int:
        """Tokens of all splits together."""
        return sum(self.tokens.values())


def build(
    folder: Path, config: DataConfig, source: Callable[[Any], Iterable[Batch]], progress: Progress
) -> tuple[dict[str, SplitFile], Any]:
    """Tokenise a source into `folder`, going on where an earlier call there was killed.

    Given the bookmark of the last batch written (None: from the start), `source` yields what
    follows. Return the entry of every split, and the bookmark of the last batch. Where the disk is
    full, `folder` still holds a state to go on from.
    """
    state = load_state(folder)
    encoding = get_tokenizer(config.tokenizer)
    progress(state.n_tokens, _frac_done(state.n_tokens, config, 0.0))
    with closing(SplitWriter(folder, state)) as writer:
        if not state.full:
            batches = source(state.bookmark)
            with closing(tokenised(batches, encoding, config)) as work:
                _write_all(writer, work, config, progress)
    _refuse_empty(writer.state, config)
    return {name: hashed_split(folder, name) for name in SPLITS}, writer.state.bookmark


def load_state(folder: Path) -> State:
    """Return the state that an interrupted preparation left in `folder`, or a fresh one."""
    file = folder / STATE_FILE
    if not file.exists():
        return State()
    try:
        return State(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(f"{file} is damaged ({error}): delete {folder} to start again") from error


class SplitWriter:
    """The growing token and document files of all splits.

    Opening cuts the files back to `state`, so that nothing written after it counts twice.
    """

    def __init__(self, folder: Path, state: State) -> None:
        self.folder = folder
        self.state = state
        self._saved_tokens = state.n_tokens
        self._files = ExitStack()
        sizes = [(f"{name}.bin", 2 * state.tokens[name]) for name in SPLITS]
        sizes += [(f"{name}.documents.bin", 8 * state.documents[name]) for name in SPLITS]
        files = [self._open(name, n_bytes) for name, n_bytes in sizes]
        self._tokens, self._documents = files[: len(SPLITS)], files[len(SPLITS) :]

    def _open(self, name: str, n_bytes: int) -> IO[bytes]:
        file = self._files.enter_context((self.folder / name).open("ab"))
        if file.tell() < n_bytes:
            self._files.close()
            raise DataError(
                f"{self.folder / name} lost bytes since the preparation was interrupted: "
                f"delete {self.folder} to start again"
            )
        file.truncate(n_bytes)
        return file

    def append(self, part: Tokenised, *, full: bool) -> None:
        """Write a batch, each document to its split; `full`: it is the last one."""
        split_of_token = np.repeat(part.splits, part.lengths)
        tokens, documents = dict(self.state.tokens), dict(self.state.documents)
        for index, name in enumerate(SPLITS):
            lengths = part.lengths[part.splits == index]
            starts = tokens[name] + np.cumsum(lengths) - lengths
            self._tokens[index].write(part.tokens[split_of_token == index].astype("<u2").tobytes())
            self._documents[index].write(starts.astype("<i8").tobytes())
            tokens[name] += int(lengths.sum())
            documents[name] += len(lengths)
        # All or nothing: Ctrl-C between two splits must not count one of them.
        self.state = State(tokens=tokens, documents=documents, bookmark=part.bookmark, full=full)
        if self.state.n_tokens - self._saved_tokens >= SAVE_EVERY_TOKENS:
            self.save()

    def save(self) -> None:
        """Make what is written the place to go on from."""
        for file in (*self._tokens, *self._documents):
            file.flush()
            os.fsync(file.fileno())
        write_atomic(self.folder / STATE_FILE, json.dumps(asdict(self.state)))
        self._saved_tokens = self.state.n_tokens

    def close(self) -> None:
        """Close all files."""
        self._files.close()


def hashed_split(folder: Path, name: str) -> SplitFile:
    """Return the entry of a split whose two files lie complete in `folder`."""
    tokens, documents = folder / f"{name}.bin", folder / f"{name}.documents.bin"
    return SplitFile(
        file=tokens.name,
        n_tokens=tokens.stat().st_size // 2,
        sha256=sha256_of(tokens),
        documents_file=documents.name,
        n_documents=documents.stat().st_size // 8,
        documents_sha256=sha256_of(documents),
    )


def _write_all(
    writer: SplitWriter, work: Iterator[Tokenised], config: DataConfig, progress: Progress
) -> None:
    try:
        for part in work:
            kept = part
            if config.max_tokens is not None:
                kept = _within(part, config.max_tokens - writer.state.n_tokens)
            full = len(kept.lengths) < len(part.lengths)
            writer.append(kept, full=full)
            done = writer.state.n_tokens
            progress(done, _frac_done(done, config, part.frac_done))
            if full:
                break
    except (KeyboardInterrupt, DataError):
        writer.save()
        raise
    writer.save()


def _frac_done(n_tokens: int, config: DataConfig, frac_read: float | None) -> float | None:
    """Return the larger of what is read of the source and what is used of the token budget."""
    if config.max_tokens is None:
        return frac_read
    return max(n_tokens / config.max_tokens, frac_read or 0.0)


def _within(part: Tokenised, budget_tokens: int) -> Tokenised:
    """Keep the leading documents that fit whole into the budget."""
    ends = np.cumsum(part.lengths)
    n_documents = int(np.searchsorted(ends, budget_tokens, side="right"))
    n_tokens = int(ends[n_documents - 1]) if n_documents else 0
    return replace(
        part,
        tokens=part.tokens[:n_tokens],
        lengths=part.lengths[:n_documents],
        splits=part.splits[:n_documents],
    )


def _refuse_empty(state: State, config: DataConfig) -> None:
    for name in SPLITS:
        if state.tokens[name] == 0:
            n_documents = sum(state.documents.values())
            more = "data.document_separator cuts a file into several, data.max_tokens limits them"
            if config.cut is Cut.never:
                more = "data.cut=never makes each file one document"
            raise EmptySplitError(
                f"the {name} split of {config.name} is empty: {n_documents} documents at "
                f"data.val_frac={config.val_frac} and data.test_frac={config.test_frac}; give "
                f"more documents ({more}) or larger fractions"
            )
