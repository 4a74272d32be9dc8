"""What a prepared corpus consists of: ``manifest.json`` beside its token files.

A corpus lives in ``<data_dir>/<name>-<key>/`` where the key is a hash of everything in the
config that decides its tokens. So another token budget, tokenizer or Python version is another
folder, and no run can read tokens it did not ask for.
"""

from __future__ import annotations

import hashlib
import json
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.config import DataConfig, Source
from harness.records.files import canonical_hash, write_atomic

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"
SPLITS = ("train", "val", "test")

_FRACTIONS = ("max_tokens", "val_frac", "test_frac")
USED: dict[Source, tuple[str, ...]] = {
    Source.stdlib_docs: _FRACTIONS,
    Source.text: ("path", "document_separator", *_FRACTIONS),
    Source.hub: ("repo", "revision", "config", "split", "text_column", *_FRACTIONS),
    Source.hub_tokens: ("path", "repo", "revision", "max_tokens", "test_start_token"),
}
"""The fields of `DataConfig` that each source reads, besides the tokenizer."""


class DataError(ValueError):
    """A corpus that cannot be prepared or opened; one line that says what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitFile:
    """One split: little-endian uint16 tokens, and where each document begins."""

    file: str
    """Relative to the corpus folder; absolute where published tokens are mapped in place."""
    offset_bytes: int = 0
    """Where the first token lies in `file`."""
    n_tokens: int
    sha256: str
    """Of the token bytes alone."""
    documents_file: str
    """Little-endian int64 indices into the tokens, ascending, the first one 0."""
    n_documents: int
    documents_sha256: str

    @property
    def n_bytes(self) -> int:
        """Bytes of the tokens."""
        return 2 * self.n_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """A prepared corpus: what it was asked to be, how it was made, what came out."""

    schema_version: int = SCHEMA_VERSION
    name: str
    source: str
    tokenizer: str
    vocab_size: int
    eot_token: int
    """Closes every document."""
    splits: dict[str, SplitFile]
    request: dict[str, Any]
    """The configuration values that decide the tokens."""
    made: dict[str, Any]
    """Where the text came from (revision, files) and the versions of the packages used."""

    @property
    def dataset_sha256(self) -> str:
        """Hash of all tokens and document boundaries, and of what the ids mean."""
        contents = {
            name: [split.sha256, split.documents_sha256] for name, split in self.splits.items()
        }
        meaning = [self.tokenizer, self.vocab_size, self.eot_token]
        return canonical_hash({"contents": contents, "meaning": meaning}, length=64)


def request(config: DataConfig) -> dict[str, Any]:
    """Return the part of `config` that decides which tokens a corpus holds, as plain data."""
    given = {name: getattr(config, name) for name in USED[config.source]}
    wanted = {name: value for name, value in given.items() if value is not None}
    wanted |= {"source": config.source.name, "tokenizer": config.tokenizer.name}
    if "path" in wanted:  # one corpus, however its path is spelt
        wanted["path"] = str(Path(wanted["path"]).expanduser().resolve())
    if config.source is Source.stdlib_docs:
        wanted["python"] = f"{platform.python_implementation()} {platform.python_version()}"
    return wanted


def corpus_folder(config: DataConfig, data_dir: Path) -> Path:
    """Return where the corpus that `config` asks for lies, prepared or not."""
    return data_dir / f"{config.name}-{canonical_hash(request(config), length=8)}"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` atomically, with the corpus' hash."""
    content = asdict(manifest) | {"dataset_sha256": manifest.dataset_sha256}
    write_atomic(folder / MANIFEST_FILE, json.dumps(content, indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Read a corpus' manifest.

    Raises
    ------
    DataError
        The file cannot be read, has another schema version, or was edited.
    """
    file = folder / MANIFEST_FILE
    again = f"delete {folder} and prepare the corpus again"
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        if raw["schema_version"] != SCHEMA_VERSION:
            raise DataError(
                f"{file} has schema version {raw['schema_version']}, this program reads "
                f"{SCHEMA_VERSION}: {again}"
            )
        recorded = raw.pop("dataset_sha256")
        splits = {name: SplitFile(**raw["splits"][name]) for name in SPLITS}
        manifest = Manifest(**{**raw, "splits": splits})
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is not a corpus manifest ({error!r}): {again}") from error
    if manifest.dataset_sha256 != recorded:
        raise DataError(f"{file} was changed after it was written (dataset_sha256): {again}")
    return manifest


STAMP_FILE = ".verified.json"

_CHUNK_BYTES = 1 << 24

Span = tuple[str, int, int, str]
"""File, offset and length in bytes, sha256."""


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Compare every token and document file with the manifest; unchanged files only by stat.

    Raises
    ------
    DataError
        A file is missing, shorter than it should be, or its bytes hash to something else.
    """
    stamps = _read_stamps(folder)
    seen = {}
    for span in _spans(manifest):
        key = json.dumps(span)
        stamp = _stamp(folder, span)
        if stamps.get(key) != stamp:
            _check_hash(folder, span)
        seen[key] = stamp
    if seen != stamps:
        with suppress(OSError):  # a read-only corpus is hashed each time
            write_atomic(folder / STAMP_FILE, json.dumps(seen))


def remember(folder: Path, manifest: Manifest) -> None:
    """Note that the files were hashed just now, when the manifest was made."""
    stamps = {json.dumps(span): _stamp(folder, span) for span in _spans(manifest)}
    write_atomic(folder / STAMP_FILE, json.dumps(stamps))


def _spans(manifest: Manifest) -> list[Span]:
    spans: list[Span] = []
    for split in manifest.splits.values():
        spans.append((split.file, split.offset_bytes, split.n_bytes, split.sha256))
        spans.append((split.documents_file, 0, 8 * split.n_documents, split.documents_sha256))
    return spans


def _stamp(folder: Path, span: Span) -> list[int]:
    name, offset, length, _ = span
    try:
        status = (folder / name).stat()
    except OSError as error:
        raise DataError(
            f"cannot read {folder / name}: {error.strerror}: {_again(folder)}"
        ) from error
    # Files of our own hold exactly their span; published ones go on behind it.
    expected = offset + length
    if status.st_size < expected or (not Path(name).is_absolute() and status.st_size > expected):
        raise DataError(
            f"{folder / name} has {status.st_size} bytes, its manifest says {expected}: "
            f"{_again(folder)}"
        )
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _check_hash(folder: Path, span: Span) -> None:
    name, offset, length, expected = span
    found = sha256_of_span(folder / name, offset, length)
    if found != expected:
        raise DataError(
            f"{folder / name} is damaged: sha256 {found[:12]}… where its manifest says "
            f"{expected[:12]}…: {_again(folder)}"
        )


def sha256_of_span(file: Path, offset: int, length: int) -> str:
    """Return the sha256 of `length` bytes of a file from `offset`, in constant memory."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        opened.seek(offset)
        while length > 0 and (chunk := opened.read(min(length, _CHUNK_BYTES))):
            digest.update(chunk)
            length -= len(chunk)
    return digest.hexdigest()


def _read_stamps(folder: Path) -> dict[str, list[int]]:
    try:
        stamps: dict[str, list[int]] = json.loads((folder / STAMP_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamps


def _again(folder: Path) -> str:
    return f"delete {folder} and prepare it again"
