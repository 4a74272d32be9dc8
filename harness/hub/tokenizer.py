"""The tokenizer beside a GPT-2-shaped model's weights: a byte-level BPE, in either of its layouts.

Older models have ``vocab.json`` and ``merges.txt``, and so has OpenAI's; what transformers 5 saves
is ``tokenizer.json``. tiktoken merges the pair with the lowest id first, so ids must rise in the
order of the merges; special tokens may stand anywhere.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config import ConfigError
from harness.data.tokens import END_OF_TEXT

if TYPE_CHECKING:
    import tiktoken

VOCABULARY, MERGES = "vocab.json", "merges.txt"
WHOLE = "tokenizer.json"
GPT2_PIECES = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
"""How GPT-2 cuts a text before it merges bytes."""

Merges = list[tuple[str, str]]


def byte_letters() -> list[str]:
    """Return the letter that stands for each byte in GPT-2's vocabulary files."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = iter(range(256, 512))
    return [chr(byte if byte in seen else next(hidden)) for byte in range(256)]


def folder_tokenizer(folder: Path) -> tiktoken.Encoding | None:
    """Return the tokenizer of a model's folder; None where it has none.

    `ConfigError` where it is of another kind; the message says how.
    """
    if (folder / VOCABULARY).exists() and (folder / MERGES).exists():
        place, read = folder / VOCABULARY, _from_two_files
    elif (folder / WHOLE).exists():
        place, read = folder / WHOLE, _from_one_file
    else:
        return None
    try:
        ids, merges = read(folder)
        return _encoding(ids, merges)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"cannot read the tokenizer {place}: {error}; allowed is a byte-level BPE like "
            "GPT-2's, whose ids rise in the order of its merges"
        ) from error


def _from_two_files(folder: Path) -> tuple[dict[str, int], Merges]:
    lines = (folder / MERGES).read_text(encoding="utf-8").split("\n")
    merges = [line for line in lines[lines[0].startswith("#version") :] if line]
    return json.loads((folder / VOCABULARY).read_text(encoding="utf-8")), _pairs(merges)


def _from_one_file(folder: Path) -> tuple[dict[str, int], Merges]:
    content: dict[str, Any] = json.loads((folder / WHOLE).read_text(encoding="utf-8"))
    model, cut = content["model"], content.get("pre_tokenizer") or {}
    merges = _pairs(model["merges"])
    if content.get("normalizer") or not _cuts_as_gpt2(cut, merges):
        raise ValueError(f"it changes or cuts text in another way, {cut.get('type')}")
    added = {token["content"]: token["id"] for token in content.get("added_tokens", ())}
    return model["vocab"] | added, merges


def _cuts_as_gpt2(cut: dict[str, Any], merges: Merges) -> bool:
    return cut.get("type") == "ByteLevel" and (cut.get("use_regex", True) or not merges)


def _pairs(merges: list[Any]) -> Merges:
    pairs = [tuple(m.split(" ") if isinstance(m, str) else m) for m in merges]
    return [(first, second) for first, second in pairs]


def _encoding(ids: dict[str, int], merges: Merges) -> tiktoken.Encoding:
    import tiktoken

    letters = byte_letters()
    byte_of = {letter: byte for byte, letter in enumerate(letters)}
    spelt = [*letters, *(first + second for first, second in merges)]
    if missing := [token for token in spelt if token not in ids]:
        raise ValueError(f"its vocabulary has no {missing[0]!r}")
    order = [ids[token] for token in spelt[len(letters) :]]
    if any(later <= earlier for earlier, later in pairwise(order)):
        raise ValueError("its ids do not rise with its merges")
    if END_OF_TEXT not in ids:
        raise ValueError(f"its vocabulary has no {END_OF_TEXT}")
    ranks = {bytes(byte_of[letter] for letter in token): ids[token] for token in spelt}
    name = "gpt2" if len(ranks) == 50256 else f"a byte-level BPE of {len(ids)} tokens"
    return tiktoken.Encoding(
        name, pat_str=GPT2_PIECES, mergeable_ranks=ranks,
        special_tokens={END_OF_TEXT: ids[END_OF_TEXT]},
    )  # fmt: skip
