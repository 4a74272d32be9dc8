"""Documents in, split files out: several threads, constant memory, resumable at any batch.

A `Batch` of documents is tokenised in a thread (tiktoken releases the GIL) while the next ones
are read; results are written in the order they were read, so the files never depend on the
number of threads, on the size of the batches or on where a killed preparation went on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from harness.config import DataConfig
from harness.data.manifest import SPLITS, DataError, SplitFile
from harness.data.tokenizer import get_tokenizer
from harness.records import write_atomic

if TYPE_CHECKING:
    import tiktoken

BATCH_CHARACTERS = 1_000_000
"""Text of one batch: large enough to keep a thread busy, small enough to hold a few in memory."""
SAVE_EVERY_TOKENS = 25_000_000
"""A killed preparation repeats at most this much."""
STATE_FILE = "state.json"

Progress = Callable[[int, float | None], None]
"""Called with the tokens done so far, and the fraction of the whole where it is known."""


@dataclass(kw_only=True, slots=True)
class Batch:
    """Consecutive documents."""

    texts: list[str]
    bookmark: Any = None
    """Plain data from which the source can go on behind this batch; None: it cannot."""
    frac_done: float | None = None
    """Fraction of the source read with this batch."""


@dataclass(kw_only=True, slots=True)
class Tokenised:
    """A batch as tokens; every document ends with the end-of-text token."""

    tokens: np.ndarray
    """uint16 [sum of lengths]"""
    lengths: np.ndarray
    """int64 [n_documents]"""
    splits: np.ndarray
    """int8 [n_documents], an index into `SPLITS`"""
    batch: Batch


@dataclass(kw_only=True, slots=True)
class State:
    """How far a preparation has come."""

    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    documents: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    bookmark: Any = None
    full: bool = False
    """The token budget is used up."""

    @property
    def n_tokens(self) -> int:
        """Tokens of all splits together."""
        return sum(self.tokens.values())


def split_of(text: str, config: DataConfig) -> int:
    """Return the index into `SPLITS` of a document, from its content alone.

    Equal documents share a split, and neither order nor token budget moves a document.
    """
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=b"split")
    draw = int.from_bytes(digest.digest(), "little") / 2**64
    if draw < config.test_frac:
        return SPLITS.index("test")
    return SPLITS.index("val" if draw < config.test_frac + config.val_frac else "train")


def build(
    folder: Path, config: DataConfig, source: Callable[[Any], Iterable[Batch]], progress: Progress
) -> dict[str, SplitFile]:
    """Tokenise a source into `folder`, going on where an earlier call there was killed.

    Parameters
    ----------
    source
        Given the bookmark of the last batch written (None: from the start), yields what follows.

    Raises
    ------
    DataError
        A split came out empty.
    OSError
        The disk is full or refuses; `folder` still holds a state to go on from.
    """
    state = load_state(folder)
    encoding = get_tokenizer(config.tokenizer)
    with SplitWriter(folder, state) as writer:
        if not state.full:
            work = _tokenised(source(state.bookmark), encoding, config)
            _write_all(writer, work, config.max_tokens, progress)
    _refuse_empty(state, config)
    (folder / STATE_FILE).unlink(missing_ok=True)
    return {name: hashed_split(folder, name) for name in SPLITS}


def load_state(folder: Path) -> State:
    """Return the state that an interrupted preparation left in `folder`, or a fresh one."""
    file = folder / STATE_FILE
    return State(**json.loads(file.read_text())) if file.exists() else State()


class SplitWriter:
    """The growing token and document files of all splits.

    Opening cuts the files back to `state`, so that nothing written after it counts twice.
    """

    def __init__(self, folder: Path, state: State) -> None:
        self.folder = folder
        self.state = state
        self._saved_tokens = state.n_tokens
        self._tokens = [self._open(f"{name}.bin", 2 * state.tokens[name]) for name in SPLITS]
        self._documents = [
            self._open(f"{name}.documents.bin", 8 * state.documents[name]) for name in SPLITS
        ]

    def _open(self, name: str, n_bytes: int) -> IO[bytes]:
        file = (self.folder / name).open("ab")
        file.truncate(n_bytes)
        return file

    def append(self, part: Tokenised) -> None:
        """Write a batch, each document to its split."""
        split_of_token = np.repeat(part.splits, part.lengths)
        for index, name in enumerate(SPLITS):
            lengths = part.lengths[part.splits == index]
            ends = self.state.tokens[name] + np.cumsum(lengths)
            self._tokens[index].write(part.tokens[split_of_token == index].astype("<u2").tobytes())
            self._documents[index].write((ends - lengths).astype("<i8").tobytes())
            self.state.tokens[name] += int(lengths.sum())
            self.state.documents[name] += len(lengths)
        self.state.bookmark = part.batch.bookmark
        if self.state.n_tokens - self._saved_tokens >= SAVE_EVERY_TOKENS:
            self.save()

    def save(self) -> None:
        """Make what is written the place to go on from."""
        for file in (*self._tokens, *self._documents):
            file.flush()
            os.fsync(file.fileno())
        state = {name: getattr(self.state, name) for name in State.__slots__}
        write_atomic(self.folder / STATE_FILE, json.dumps(state))
        self._saved_tokens = self.state.n_tokens

    def __enter__(self) -> SplitWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (*self._tokens, *self._documents):
            file.close()


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


def sha256_of(file: Path) -> str:
    """Return the hash of a whole file in hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def n_threads() -> int:
    """Return the CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _tokenised(
    batches: Iterable[Batch], encoding: tiktoken.Encoding, config: DataConfig
) -> Iterator[Tokenised]:
    waiting: deque[Future[Tokenised]] = deque()
    threads = n_threads()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for batch in batches:
                waiting.append(pool.submit(_tokenise, batch, encoding, config))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _tokenise(batch: Batch, encoding: tiktoken.Encoding, config: DataConfig) -> Tokenised:
    end = np.array([encoding.eot_token], dtype=np.uint16)
    texts = [text for text in batch.texts if text]
    # encode_to_numpy is encode_ordinary without a Python list of integers: special tokens
    # spelled out in the text stay text.
    parts = [
        encoding.encode_to_numpy(text, disallowed_special=()).astype(np.uint16) for text in texts
    ]
    return Tokenised(
        tokens=np.concatenate([piece for part in parts for piece in (part, end)] or [end[:0]]),
        lengths=np.array([len(part) + 1 for part in parts], dtype=np.int64),
        splits=np.array([split_of(text, config) for text in texts], dtype=np.int8),
        batch=batch,
    )


def _write_all(
    writer: SplitWriter, work: Iterator[Tokenised], max_tokens: int | None, progress: Progress
) -> None:
    state = writer.state
    try:
        for part in work:
            kept = part if max_tokens is None else _within(part, max_tokens - state.n_tokens)
            state.full = len(kept.lengths) < len(part.lengths)
            writer.append(kept)
            frac = part.batch.frac_done
            progress(state.n_tokens, state.n_tokens / max_tokens if max_tokens else frac)
            if state.full:
                break
    except (KeyboardInterrupt, DataError):
        writer.save()
        raise
    writer.save()


def _within(part: Tokenised, budget_tokens: int) -> Tokenised:
    """Keep the leading documents that fit whole into the budget."""
    ends = np.cumsum(part.lengths)
    n_documents = int(np.searchsorted(ends, budget_tokens, side="right"))
    n_tokens = int(ends[n_documents - 1]) if n_documents else 0
    return Tokenised(
        tokens=part.tokens[:n_tokens],
        lengths=part.lengths[:n_documents],
        splits=part.splits[:n_documents],
        batch=part.batch,
    )


def _refuse_empty(state: State, config: DataConfig) -> None:
    for name in SPLITS:
        if state.tokens[name] == 0:
            n_documents = sum(state.documents.values())
            raise DataError(
                f"the {name} split of {config.name} is empty: {n_documents} documents at "
                f"data.val_frac={config.val_frac} and data.test_frac={config.test_frac}; "
                "give more documents or larger fractions"
            )
