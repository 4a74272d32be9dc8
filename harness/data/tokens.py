"""Documents as tokens: which split each belongs to, several threads, constant memory.

A `Batch` is tokenised in a thread (tiktoken releases the GIL) while the next ones are read;
results come in the order they were read, so nothing depends on the number of threads.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.config import DataConfig, Tokenizer
from harness.data.manifest import SPLITS, DataError
from harness.engine.machine import n_cores

if TYPE_CHECKING:
    import tiktoken

BATCH_CHARACTERS = 1_000_000
"""Text of one batch: large enough to keep a thread busy, small enough to hold a few in memory."""
END_OF_TEXT = "<|endoftext|>"
ANY_PIECE = r"[\s\S]{1,32}"
"""Bytes never merge, so any cut will do; short pieces keep tiktoken's merge search short."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Consecutive documents."""

    texts: list[str]
    bookmark: Any = None
    """Plain data from which the source can go on behind this batch; None: it cannot."""
    frac_done: float | None = None
    """Fraction of the source read with this batch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokenised:
    """A batch as tokens; every document ends with the end-of-text token."""

    tokens: np.ndarray
    """uint16 [sum of lengths]"""
    lengths: np.ndarray
    """int64 [n_documents]"""
    splits: np.ndarray
    """int8 [n_documents], an index into `SPLITS`"""
    bookmark: Any
    frac_done: float | None


def batched(
    documents: Iterable[tuple[str, float | None]], bookmark: Callable[[], Any] = lambda: None
) -> Iterator[Batch]:
    """Group (text, fraction of the source done) pairs; `bookmark` says where the source is."""
    texts: list[str] = []
    size, frac_done = 0, None
    for text, frac_done in documents:
        texts.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield Batch(texts=texts, bookmark=bookmark(), frac_done=frac_done)
            texts, size = [], 0
    yield Batch(texts=texts, bookmark=bookmark(), frac_done=frac_done)


def split_of(text: str, config: DataConfig) -> int:
    """Return the index into `SPLITS` of a document, from its content alone.

    Equal documents share a split, and neither order nor token budget moves a document.
    """
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=b"split")
    draw = int.from_bytes(digest.digest(), "little") / 2**64
    if draw < config.test_frac:
        return SPLITS.index("test")
    return SPLITS.index("val" if draw < config.test_frac + config.val_frac else "train")


def tokenised(
    batches: Iterable[Batch], encoding: tiktoken.Encoding, config: DataConfig
) -> Generator[Tokenised, None, None]:
    """Tokenise batches on every core and yield them in order, holding a few in memory."""
    waiting: deque[Future[Tokenised]] = deque()
    threads = n_cores()
    own = threading.local()

    def begin() -> None:
        own.encoding = private_copy(encoding)

    def work(batch: Batch) -> Tokenised:
        return tokenise(batch, own.encoding, config)

    with ThreadPoolExecutor(threads, initializer=begin) as pool:
        try:
            for batch in batches:
                waiting.append(pool.submit(work, batch))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def tokenise(batch: Batch, encoding: tiktoken.Encoding, config: DataConfig) -> Tokenised:
    """Return a batch as tokens; special tokens spelled out in the text stay text."""
    end = np.array([encoding.eot_token], dtype=np.uint16)
    texts = [text for text in batch.texts if text]
    parts = [_ids(text, encoding) for text in texts]
    return Tokenised(
        tokens=np.concatenate([piece for part in parts for piece in (part, end)] or [end[:0]]),
        lengths=np.array([len(part) + 1 for part in parts], dtype=np.int64),
        splits=np.array([split_of(text, config) for text in texts], dtype=np.int8),
        bookmark=batch.bookmark,
        frac_done=batch.frac_done,
    )


def _ids(text: str, encoding: tiktoken.Encoding) -> np.ndarray:
    try:  # the ids of encode_ordinary without a Python integer for each
        return encoding.encode_to_numpy(text, disallowed_special=()).astype(np.uint16)
    except UnicodeEncodeError:  # half a surrogate pair, which only encode_ordinary mends
        return np.array(encoding.encode_ordinary(text), dtype=np.uint16)


def get_tokenizer(name: Tokenizer) -> tiktoken.Encoding:
    """Return the encoding called `name`; its `eot_token` closes a document.

    ``bytes`` has 257 tokens, the ids 0-255 being the UTF-8 bytes, and needs no file.
    ``gpt2`` has 50257 and two files, which tiktoken downloads at first use.
    """
    import tiktoken

    if name is Tokenizer.bytes:
        return tiktoken.Encoding(
            "bytes",
            pat_str=ANY_PIECE,
            mergeable_ranks={bytes([value]): value for value in range(256)},
            special_tokens={END_OF_TEXT: 256},
            explicit_n_vocab=257,
        )
    import requests

    try:
        return tiktoken.get_encoding("gpt2")
    except (OSError, ValueError, requests.RequestException) as error:
        raise DataError(
            f"the gpt2 tokenizer's files are not cached and cannot be downloaded "
            f"({type(error).__name__}): run this once with network access, or set "
            "TIKTOKEN_CACHE_DIR to a folder that holds tiktoken's cached gpt2 files, "
            "or use data.tokenizer=bytes"
        ) from error


@cache
def token_bytes(name: Tokenizer) -> np.ndarray:
    """Return the bytes of text that each token stands for, int64 [n_vocab]; a special one: none."""
    encoding = get_tokenizer(name)
    sizes = np.zeros(encoding.n_vocab, dtype=np.int64)
    for token in range(encoding.n_vocab):
        if not encoding.is_special_token(token):
            sizes[token] = len(encoding.decode_single_token_bytes(token))
    return sizes


def private_copy(encoding: tiktoken.Encoding) -> tiktoken.Encoding:
    """Return an equal encoding for one thread alone.

    Threads that share one contend for the scratch memory of its regular expressions: 0.28 to 0.50
    processor seconds per million tokens of GPT-2 on two cores, against 0.24 to 0.26 with one each.
    """
    import tiktoken

    return tiktoken.Encoding(
        encoding.name,
        pat_str=encoding._pat_str,
        mergeable_ranks=encoding._mergeable_ranks,
        special_tokens=encoding._special_tokens,
    )
