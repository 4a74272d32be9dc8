"""Text files: a file, a folder or a glob; one file is one document, or several with a separator.

Fewer than `ENOUGH_FILES` files without a separator are cut into pieces, so that every split gets
some: a single long text simply works.
"""

from __future__ import annotations

import glob
import mmap
from collections.abc import Iterator
from pathlib import Path

from harness.config import DataConfig
from harness.data.manifest import DataError, sha256_of
from harness.records.files import canonical_hash

ENOUGH_FILES = 200
"""With 5% of the documents for testing, 200 leave the test set empty once in 28,000 corpora."""
_MOST_PIECES = 2 * ENOUGH_FILES
_PIECE_BYTES = (512, 8192)
"""Limits of the least length of a piece; the longest is twice the least."""
_CUTS = (b"\n\n", b"\r\n\r\n", b"\n", b" ")
"""Where to cut, best first; each stays at the end of its piece."""
_BYTE_ORDER_MARK = "\ufeff"


def text_files(config: DataConfig) -> list[Path]:
    """Return the files that ``data.path`` names, sorted; hidden ones in a folder are left out."""
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


def piece_bytes(files: list[Path], separator: str | None) -> int | None:
    """Return the least length of the pieces that the files are cut into, None: they are not."""
    if separator or len(files) >= ENOUGH_FILES:
        return None
    least, most = _PIECE_BYTES
    return min(max(sum(file.stat().st_size for file in files) // _MOST_PIECES, least), most)


def documents(files: list[Path], separator: str | None) -> Iterator[tuple[str, float]]:
    r"""Yield each document and the fraction of all bytes read with it, in constant memory.

    The separator ends a document within a file; in it, ``\n`` written out is a line break.
    """
    total = sum(file.stat().st_size for file in files) or 1
    mark = separator.replace("\\n", "\n").encode() if separator else b""
    least = piece_bytes(files, separator)
    before = 0
    for file in files:
        for text, end in _in_file(file, mark, least):
            yield text, (before + end) / total
        before += file.stat().st_size


def is_here(config: DataConfig) -> bool:
    """Tell whether the text is on this machine; its prepared corpus may be alone."""
    try:
        return bool(text_files(config))
    except DataError:
        return False


def fingerprint(files: list[Path]) -> str:
    """Return a hash of the files' names and contents."""
    return canonical_hash([[file.name, sha256_of(file)] for file in files], length=64)


def _in_file(file: Path, mark: bytes, least: int | None) -> Iterator[tuple[str, int]]:
    if file.stat().st_size == 0:
        return
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as view:
        start = 0
        while start < len(view):
            end = _piece_end(view, start, least) if least else _marked_end(view, start, mark)
            yield _decoded(view[start:end], file, start), end
            start = end + len(mark)


def _marked_end(view: mmap.mmap, start: int, mark: bytes) -> int:
    found = view.find(mark, start) if mark else -1
    return len(view) if found < 0 else found


def _piece_end(view: mmap.mmap, start: int, least: int) -> int:
    """Return where the piece from `start` ends: `least` to twice as many bytes further on."""
    latest = start + 2 * least
    if latest >= len(view):
        return len(view)
    for cut in _CUTS:
        found = view.find(cut, start + least, latest)
        if found >= 0:
            return found + len(cut)
    starts = (end for end in range(latest, latest - 4, -1) if view[end] & 0xC0 != 0x80)
    return next(starts, latest)  # never within a character


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
