"""What every file of a run is written with; standard library only."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def printable(text: str) -> str:
    r"""Return the text with what would steer a terminal, or turn a line around, spelt out.

    Examples
    --------
    >>> printable("red \x1b[31m")
    'red \\x1b[31m'
    """
    hidden = ("Cc", "Cf", "Zl", "Zp")  # controls, bidirectional and other formats, separators
    return "".join(
        c if unicodedata.category(c) not in hidden else c.encode("unicode_escape").decode()
        for c in text
    )


def now(precision: str = "seconds") -> str:
    """Return the present moment, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec=precision)


def canonical_hash(value: Any, *, length: int = 12) -> str:
    """Return the first `length` hex digits of the sha256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: a reader never sees half of it, a crash keeps the old one."""
    write_together({path: content})


def write_together(contents: Mapping[Path, str | bytes]) -> None:
    """Write several files, each whole; none where there is no room, or no right, for one."""
    for path in contents:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    parts = {path: path.with_name(f".{path.name}.{secrets.token_hex(4)}") for path in contents}
    try:
        for path, content in contents.items():
            with parts[path].open("xb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
        for path, part in parts.items():
            part.replace(path)
    except BaseException:
        for part in parts.values():
            part.unlink(missing_ok=True)
        raise


@contextmanager
def flocked(path: Path, *, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Hold an flock on a file; the kernel drops it however the process ends.

    An exclusive one, for which the file is created, or a `shared` one of a file that is there.
    Without `wait`, `BlockingIOError` where another process holds one that excludes this.
    """
    import fcntl  # not on Windows, where the analysis reads records, too

    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with path.open("rb" if shared else "ab") as file:
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
        yield
