"""Text files: a file, a folder or a glob; one file is one document, or several with a separator."""

from __future__ import annotations

import glob
import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path

from harness.config import DataConfig
from harness.data.manifest import DataError
from harness.records import canonical_hash

_BYTE_ORDER_MARK = "\ufeff"


def text_files(config: DataConfig) -> list[Path]:
    """Return the files that ``data.path`` names, sorted; hidden ones in a folder are left out.

    Raises
    ------
    DataError
        ``data.path`` is unset or names no file.
    """
    if config.path is None:
        raise DataError("data.path is not set: name a file, a folder or a glob of UTF-8 text")
    path = Path(config.path).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        candidates = (found for found in path.rglob("*") if not _hidden(found, path))
    else:
        candidates = (Path(found) for found in glob.glob(str(path), recursive=True))  # noqa: PTH207
    files = sorted(found for found in candidates if found.is_file())
    if not files:
        raise DataError(
            f"data.path={config.path} names no file (seen from {Path.cwd()}): "
            "give a file, a folder or a quoted glob such as 'books/**/*.txt'"
        )
    return files


def documents(files: list[Path], separator: str | None) -> Iterator[tuple[str, float]]:
    r"""Yield each document and the fraction of all bytes read with it, in constant memory.

    Parameters
    ----------
    separator
        Ends a document within a file; ``\n`` written out stands for a line break.

    Raises
    ------
    DataError
        A file is not UTF-8; the message names the byte.
    """
    total = sum(file.stat().st_size for file in files) or 1
    before = 0
    for file in files:
        for text, end in _in_file(file, separator):
            yield text, (before + end) / total
        before += file.stat().st_size


def fingerprint(files: list[Path]) -> str:
    """Return a hash of the files' names and contents."""
    contents = []
    for file in files:
        with file.open("rb") as opened:
            contents.append([file.name, hashlib.file_digest(opened, "sha256").hexdigest()])
    return canonical_hash(contents, length=64)


def _in_file(file: Path, separator: str | None) -> Iterator[tuple[str, int]]:
    mark = separator.replace("\\n", "\n").encode() if separator else b""
    if file.stat().st_size == 0:
        return
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as view:
        start = 0
        while start < len(view):
            found = view.find(mark, start) if mark else -1
            end = len(view) if found < 0 else found
            yield _decoded(view[start:end], file, start), end
            start = end + len(mark) if found >= 0 else end


def _decoded(raw: bytes, file: Path, offset: int) -> str:
    try:
        return raw.decode().removeprefix(_BYTE_ORDER_MARK if offset == 0 else "")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} is not UTF-8: byte 0x{raw[error.start]:02x} at offset "
            f"{offset + error.start}; convert it (iconv -t UTF-8) or leave it out with a glob "
            "such as data.path='FOLDER/**/*.txt'"
        ) from error


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)
