"""Published token files (safetensors), read where the hub's cache or a folder has them.

Validation and test come from one published split: the test set begins at a given token, and
validation ends with the last document that is complete before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.config import VOCAB_SIZE, DataConfig
from harness.data.build import Progress
from harness.data.manifest import DataError, SplitFile, sha256_of
from harness.records.files import expanded

TENSOR = "tokens"
FILES = ("train.safetensors", "validation.safetensors")
_CHUNK_TOKENS = 1 << 23


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Consecutive tokens of a published file."""

    file: Path
    offset_bytes: int
    n_tokens: int

    def part(self, start: int, stop: int) -> Span:
        """Return the tokens start … stop-1 of this span."""
        return Span(
            file=self.file, offset_bytes=self.offset_bytes + 2 * start, n_tokens=stop - start
        )

    def tokens(self) -> np.ndarray:
        """Return them without reading: uint16 memmap [n_tokens]."""
        return np.memmap(self.file, "<u2", "r", self.offset_bytes, shape=(self.n_tokens,))


def locate(config: DataConfig) -> tuple[Path, Path]:
    """Return the train and validation files, downloaded into the hub's cache where needed."""
    if config.path is not None:
        folder = expanded(config.path).resolve()
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise DataError(f"data.path={folder} has no {' and no '.join(missing)}")
        return folder / FILES[0], folder / FILES[1]
    if config.repo is None:
        raise DataError("neither data.repo nor data.path is set: name a dataset or a folder")
    return _download(config, FILES[0]), _download(config, FILES[1])


def find_tensor(file: Path) -> Span:
    """Return where the tokens lie in a safetensors file, which must hold 16-bit ones."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="np") as opened:  # checks header and length
            names = list(opened.keys())
        with file.open("rb") as raw:
            header_bytes = int.from_bytes(raw.read(8), "little")
            header = json.loads(raw.read(header_bytes))
    except (SafetensorError, OSError) as error:
        raise DataError(f"{file} is not a complete safetensors file: {error}") from error
    if TENSOR not in names:
        raise DataError(f"{file} has no tensor {TENSOR!r}; available: {', '.join(names) or 'none'}")
    entry = header[TENSOR]
    if entry["dtype"] != "U16" or len(entry["shape"]) != 1:
        raise DataError(
            f"{file}: {TENSOR} is {entry['dtype']} of shape {entry['shape']}; "
            "only one-dimensional U16 can be read in place"
        )
    start, stop = entry["data_offsets"]
    return Span(file=file, offset_bytes=8 + header_bytes + start, n_tokens=(stop - start) // 2)


def build(folder: Path, config: DataConfig, progress: Progress) -> dict[str, SplitFile]:
    """Find the splits in the published files and write where their documents begin.

    ``data.max_tokens`` limits the training tokens.
    """
    train_file, validation_file = locate(config)
    train, validation = find_tensor(train_file), find_tensor(validation_file)
    if config.max_tokens is not None:
        train = train.part(0, min(config.max_tokens, train.n_tokens))
    val, test = _val_and_test(validation, config)
    spans = {"train": train, "val": val, "test": test}
    total, done = sum(span.n_tokens for span in spans.values()), 0

    def read(n_tokens: int) -> None:
        nonlocal done
        done += n_tokens
        progress(done, done / total)

    read(0)
    vocab_size = VOCAB_SIZE[config.tokenizer.name]
    return {
        name: _scan(span, folder / f"{name}.documents.bin", vocab_size, read)
        for name, span in spans.items()
    }


def _download(config: DataConfig, name: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        found = hf_hub_download(
            str(config.repo), name, repo_type="dataset", revision=config.revision
        )
    except Exception as error:  # huggingface_hub, httpx, OSError: all mean that there is no file
        said = " ".join(str(error).split())[:400]
        raise DataError(
            f"cannot get {name} of {config.repo} from the hub: {type(error).__name__}: {said}; "
            "run the same command again (a download goes on where it was), or give a folder "
            "that has the files: data.path=FOLDER"
        ) from error
    return Path(found)


def _val_and_test(validation: Span, config: DataConfig) -> tuple[Span, Span]:
    start = config.test_start_token
    if start is None or not 0 < start < validation.n_tokens:
        raise DataError(
            f"data.test_start_token={start}: must be inside the {validation.n_tokens} tokens of "
            f"{validation.file.name}"
        )
    end_token = VOCAB_SIZE[config.tokenizer.name] - 1
    before = validation.part(0, start).tokens()
    for stop in range(start, 0, -_CHUNK_TOKENS):
        first = max(stop - _CHUNK_TOKENS, 0)
        ends = np.flatnonzero(before[first:stop] == end_token)
        if len(ends):
            last = first + int(ends[-1]) + 1
            return validation.part(0, last), validation.part(start, validation.n_tokens)
    raise DataError(
        f"no document of {validation.file.name} ends before data.test_start_token={start}: "
        "validation would be empty"
    )


def _scan(
    span: Span, documents_file: Path, vocab_size: int, read: Callable[[int], None]
) -> SplitFile:
    """Read a span once: hash it, check its ids and write where its documents begin."""
    tokens, digest = span.tokens(), hashlib.sha256()
    with documents_file.open("wb") as file:
        file.write(np.zeros(1, "<i8").tobytes())
        for first in range(0, len(tokens), _CHUNK_TOKENS):
            chunk = tokens[first : first + _CHUNK_TOKENS]
            if (largest := int(chunk.max())) >= vocab_size:
                raise DataError(
                    f"{span.file} holds token {largest}, but data.tokenizer has only "
                    f"{vocab_size}: it was made with another tokenizer"
                )
            digest.update(chunk.data)
            starts = np.flatnonzero(chunk == vocab_size - 1) + first + 1
            file.write(starts[starts < len(tokens)].astype("<i8").tobytes())
            read(len(chunk))
    return SplitFile(
        file=str(span.file),
        offset_bytes=span.offset_bytes,
        n_tokens=span.n_tokens,
        sha256=digest.hexdigest(),
        documents_file=documents_file.name,
        n_documents=documents_file.stat().st_size // 8,
        documents_sha256=sha256_of(documents_file),
    )
