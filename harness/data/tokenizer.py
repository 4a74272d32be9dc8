"""The two encodings, both real ``tiktoken.Encoding`` objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.config import Tokenizer
from harness.data.manifest import DataError

if TYPE_CHECKING:
    import tiktoken

END_OF_TEXT = "<|endoftext|>"
_ANY_PIECE = r"[\s\S]{1,32}"
"""Bytes never merge, so any cut will do; short pieces keep tiktoken's merge search short."""


def get_tokenizer(name: Tokenizer) -> tiktoken.Encoding:
    """Return the encoding called `name`; its `eot_token` closes a document.

    ``bytes`` has 257 tokens, the ids 0-255 being the UTF-8 bytes, and needs no file.
    ``gpt2`` has 50257 and two files, which tiktoken downloads at first use.

    Raises
    ------
    DataError
        The files of ``gpt2`` are neither cached nor to be downloaded.
    """
    if name is Tokenizer.bytes:
        return _bytes_encoding()
    return _gpt2_encoding()


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


def _bytes_encoding() -> tiktoken.Encoding:
    import tiktoken

    return tiktoken.Encoding(
        "bytes",
        pat_str=_ANY_PIECE,
        mergeable_ranks={bytes([value]): value for value in range(256)},
        special_tokens={END_OF_TEXT: 256},
        explicit_n_vocab=257,
    )


def _gpt2_encoding() -> tiktoken.Encoding:
    import requests
    import tiktoken

    try:
        return tiktoken.get_encoding("gpt2")
    except (OSError, ValueError, requests.RequestException) as error:
        raise DataError(
            f"the gpt2 tokenizer's files are not cached and cannot be downloaded "
            f"({type(error).__name__}): run this once with network access, or set "
            "TIKTOKEN_CACHE_DIR to a folder that holds tiktoken's cached gpt2 files, "
            "or use data.tokenizer=bytes"
        ) from error
