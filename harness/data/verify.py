"""Is a corpus what its manifest says? Hashed once, then remembered by size and times."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from harness.data.manifest import DataError, Manifest
from harness.records import write_atomic

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
