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
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from harness.config import DataConfig, Source
from harness.records.files import canonical_hash, expanded, write_atomic

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"
STAMP_FILE = ".verified.json"
SPLITS = ("train", "val", "test")
_FRACTIONS = ("max_tokens", "val_frac", "test_frac")
USED: dict[Source, tuple[str, ...]] = {
    Source.stdlib_docs: _FRACTIONS,
    Source.text: ("path", "document_separator", "cut", "text_column", *_FRACTIONS),
    Source.hub: ("repo", "revision", "config", "split", "text_column", *_FRACTIONS),
    Source.hub_tokens: ("path", "repo", "revision", "max_tokens", "test_start_token"),
}
"""The fields of `DataConfig` that each source reads, besides the tokenizer."""
CHUNK_BYTES = 1 << 24
"""Read at a time, whatever the size of the file."""


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
    if config.source is Source.text:
        for name in ("text_column", "cut"):  # came later: corpora keep their folders
            if wanted[name] == getattr(DataConfig(), name):
                del wanted[name]
    wanted |= {"cut": config.cut.name} if "cut" in wanted else {}
    wanted |= {"source": config.source.name, "tokenizer": config.tokenizer.name}
    if "path" in wanted:  # one corpus, however its path is spelt
        wanted["path"] = str(expanded(wanted["path"]).resolve())
    if config.source is Source.stdlib_docs:
        wanted["python"] = f"{platform.python_implementation()} {platform.python_version()}"
    return wanted


def corpus_folder(config: DataConfig, data_dir: Path) -> Path:
    """Return where the corpus that `config` asks for lies, prepared or not."""
    return data_dir / f"{config.name}-{canonical_hash(request(config), length=8)}"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json``, with the corpus' hash; its files were hashed just now."""
    stamps = {part.key: part.stamp(folder) for part in _parts(manifest)}
    write_atomic(folder / STAMP_FILE, json.dumps(stamps))
    content = asdict(manifest) | {"dataset_sha256": manifest.dataset_sha256}
    write_atomic(folder / MANIFEST_FILE, json.dumps(content, indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Read a manifest; one of another version, or that was edited, is refused."""
    file = folder / MANIFEST_FILE
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        version, recorded = raw["schema_version"], raw.pop("dataset_sha256")
        manifest = _parsed(raw) if version == SCHEMA_VERSION else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(file, f"is not a corpus manifest ({error!r})") from error
    if manifest is None:
        raise _damaged(file, f"has schema version {version}, this program reads {SCHEMA_VERSION}")
    if manifest.dataset_sha256 != recorded:
        raise _damaged(file, "was changed after it was written (dataset_sha256)")
    return manifest


def _parsed(raw: dict[str, Any]) -> Manifest:
    splits = {name: SplitFile(**raw["splits"][name]) for name in SPLITS}
    return Manifest(**{**raw, "splits": splits})


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Compare every token and document file with the manifest; unchanged ones only by stat."""
    parts = {part.key: part for part in _parts(manifest)}
    seen = {key: part.stamp(folder) for key, part in parts.items()}
    before = _read_stamps(folder)
    for key, part in parts.items():
        if before.get(key) != seen[key]:
            part.check_hash(folder)
    if seen != before:
        with suppress(OSError):  # a read-only corpus is hashed each time
            write_atomic(folder / STAMP_FILE, json.dumps(seen))


def sha256_of(file: Path, offset: int = 0, length: int | None = None) -> str:
    """Return the sha256 of `length` bytes of a file from `offset` (None: to its end)."""
    digest = hashlib.sha256()
    left = file.stat().st_size - offset if length is None else length
    with file.open("rb") as opened:
        opened.seek(offset)
        while left > 0 and (chunk := opened.read(min(left, CHUNK_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Part:
    """Bytes of a corpus that are verified together."""

    name: str
    offset: int
    length: int
    sha256: str

    @property
    def key(self) -> str:
        return json.dumps(astuple(self))

    def stamp(self, folder: Path) -> list[int]:
        """Return what of the file changes with its content; refuse a wrong size."""
        file = folder / self.name
        try:
            status = file.stat()
        except OSError as error:
            raise _damaged(file, f"cannot be read: {error.strerror}", folder) from error
        # Files of our own hold exactly their part; published ones go on behind it.
        size, expected = status.st_size, self.offset + self.length
        if size < expected or (size > expected and not Path(self.name).is_absolute()):
            raise _damaged(file, f"has {size} bytes, its manifest says {expected}", folder)
        return [size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]

    def check_hash(self, folder: Path) -> None:
        file = folder / self.name
        found = sha256_of(file, self.offset, self.length)
        if found != self.sha256:
            wrong = f"sha256 {found[:12]}… where its manifest says {self.sha256[:12]}…"
            raise _damaged(file, f"is damaged: {wrong}", folder)


def _parts(manifest: Manifest) -> list[_Part]:
    parts = []
    for split in manifest.splits.values():
        parts += [
            _Part(split.file, split.offset_bytes, 2 * split.n_tokens, split.sha256),
            _Part(split.documents_file, 0, 8 * split.n_documents, split.documents_sha256),
        ]
    return parts


def _read_stamps(folder: Path) -> dict[str, list[int]]:
    try:
        stamps: dict[str, list[int]] = json.loads((folder / STAMP_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamps


def _damaged(file: Path, what: str, folder: Path | None = None) -> DataError:
    return DataError(f"{file} {what}: delete {folder or file.parent} and prepare it again")
