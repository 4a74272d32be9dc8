"""Text files: a file, a folder or a glob; one file is one document, or several with a separator.

Fewer than `ENOUGH_FILES` files without a separator are cut into pieces, so that every split gets
some: a single long text simply works. ``data.cut=never`` keeps them whole.
"""

from __future__ import annotations

import itertools
import mmap
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.config import Cut, DataConfig
from harness.data.find import Found, find
from harness.data.json_lines import is_json_lines, json_documents
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
    return find_files(config).files


def find_files(config: DataConfig) -> Found:
    """Find the files that ``data.path`` names, through links, and not among what we wrote."""
    if config.path is None:
        raise DataError("data.path is not set: name a file, a folder or a glob of UTF-8 text")
    found = find(config.path)
    if not found.files:
        ours = f"; left out, as written by this program: {', '.join(found.ours)}"
        raise DataError(
            f"data.path={config.path} names no file (seen from {Path.cwd()}): "
            "give a file, a folder or a quoted glob such as 'books/**/*.txt'"
            + ours
            * bool(found.ours)
        )
    return found


def piece_bytes(files: list[Path], config: DataConfig) -> int | None:
    """Return the least length of the pieces that the files are cut into, None: they are not."""
    plain = [file for file in files if not is_json_lines(file)]
    whole = config.cut is Cut.never or config.document_separator
    if whole or len(files) >= ENOUGH_FILES or not plain:
        return None
    least, most = _PIECE_BYTES
    return min(max(sum(file.stat().st_size for file in plain) // _MOST_PIECES, least), most)


def documents(files: list[Path], config: DataConfig) -> Iterator[tuple[str, float]]:
    r"""Yield each document and the fraction of all bytes read with it, in constant memory.

    The separator ends a document within a file; in it, ``\n`` written out is a line break, in the
    file's own way. Each line of JSON lines is a document.
    """
    total = sum(file.stat().st_size for file in files) or 1
    before = 0
    for file, parts in _by_file(files, config):
        for text, end in parts:
            yield text, (before + end) / total
        before += file.stat().st_size


def files_on_both_sides(
    files: list[Path], config: DataConfig, split_of: Callable[[str], str], n_documents: int
) -> int:
    """Count the files with documents both in train and in test, of the first `n_documents`."""
    left, found = n_documents, 0
    for _, parts in _by_file(files, config):
        splits = [split_of(text) for text, _ in itertools.islice(parts, left) if text]
        left -= len(splits)
        found += {"train", "test"} <= set(splits)
    return found


def _by_file(
    files: list[Path], config: DataConfig
) -> Iterator[tuple[Path, Iterator[tuple[str, int]]]]:
    """Yield each file and its documents, each with the byte where it ends."""
    mark, least = _mark(config.document_separator), piece_bytes(files, config)
    for file in files:
        if is_json_lines(file):
            yield file, json_documents(file, config.text_column)
        else:
            yield file, _in_file(file, mark, least)


def files_without(files: list[Path], separator: str) -> int:
    """Count the files in which a separator does not occur; refuse one that occurs in none."""
    plain = [file for file in files if not is_json_lines(file)]
    without = sum(not _occurs(file, _mark(separator)) for file in plain)
    if plain and without == len(plain):
        raise DataError(
            f"data.document_separator={separator!r} does not occur in any of the {len(plain)} "
            "file(s): look at it in the text, or leave it out"
        )
    return without


def _mark(separator: str | None) -> re.Pattern[bytes] | None:
    r"""Return what ends a document; a line break may be ``\r\n`` as well."""
    if not separator:
        return None
    lines = separator.replace("\\n", "\n").replace("\r\n", "\n").split("\n")
    return re.compile(rb"\r?\n".join(re.escape(line.encode()) for line in lines))


def _occurs(file: Path, mark: re.Pattern[bytes] | None) -> bool:
    if mark is None or file.stat().st_size == 0:
        return False
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return mark.search(view) is not None


def is_here(config: DataConfig) -> bool:
    """Tell whether the text is on this machine; its prepared corpus may be alone."""
    try:
        return bool(text_files(config))
    except DataError:
        return False


def fingerprint(files: list[Path]) -> str:
    """Return a hash of the files' names and contents."""
    return canonical_hash([[file.name, sha256_of(file)] for file in files], length=64)


def _in_file(
    file: Path, mark: re.Pattern[bytes] | None, least: int | None
) -> Iterator[tuple[str, int]]:
    if file.stat().st_size == 0:
        return
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as view:
        start = 0
        while start < len(view):
            end = after = _piece_end(view, start, least) if least else len(view)
            if mark is not None and (found := mark.search(view, start)):
                end, after = found.span()
            yield _decoded(view[start:end], file, start), end
            start = after


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
