"""How every file of a run is written; standard library only. How it is read: `reading`."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from pathlib import Path
from typing import IO, Any

CONF_DIR = Path(__file__).resolve().parents[2] / "conf"
"""Every setting's file, one folder a config group. No package, since people have a `conf` too."""

UNLOCKABLE = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
"""What flock says on a file system that has no locks: Lustre without ``-o flock``, some NFS."""


def conf_folders() -> list[Path]:
    """Return ours, then a person's ``my_conf`` and ``conf`` beside the command; no copy of ours."""
    own = (Path(name).absolute() for name in ("my_conf", "conf"))
    return [CONF_DIR, *(f for f in own if f.is_dir() and not _is_a_copy(f))]


def _is_a_copy(folder: Path) -> bool:
    return (folder / "intervention" / "baseline.yaml").exists()


def printable(text: str, keep: str = "") -> str:
    r"""Return the text with what would steer a terminal, or turn a line around, spelt out.

    Characters of `keep` stay, e.g. a line break where there may be several lines.

    Examples
    --------
    >>> printable("red \x1b[31m")
    'red \\x1b[31m'
    """
    hidden = ("Cc", "Cf", "Zl", "Zp")  # controls, bidirectional and other formats, separators
    return "".join(
        c
        if c in keep or unicodedata.category(c) not in hidden
        else c.encode("unicode_escape").decode()
        for c in text
    )


def now(precision: str = "seconds") -> str:
    """Return the present moment, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec=precision)


def canonical_hash(value: Any, *, length: int = 12) -> str:
    """Return the first `length` hex digits of the sha256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def as_json(value: Any, indent: int | None = None) -> str:
    """Return JSON that every reader takes: half a surrogate pair, of a file's name, is replaced."""
    text = json.dumps(value, indent=indent, allow_nan=False)
    if "\\ud" in text:
        sound = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
        text = json.dumps(json.loads(sound), indent=indent)
    return text


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


def append_json_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Append the rows in one piece, one writer at a time; a line that a kill tore stays by itself.

    Without the lock, another's line that is half written would look torn.
    """
    text = "".join(as_json(row) + "\n" for row in rows)
    with path.open("a+b") as file:
        _flock(file)
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        torn = file.read(1) not in (b"", b"\n")
        file.write(b"\n" * torn + text.encode())


@contextmanager
def flocked(path: Path, *, shared: bool = False, busy: Exception | None = None) -> Iterator[None]:
    """Hold an flock on a file; the kernel drops it however the process ends.

    An exclusive one, for which the file is created, or a `shared` one of a file that is there.
    `busy` is raised where another process holds one that excludes this; else that is waited for.
    On a file system without locks an exclusive one is done without, with a warning.
    """
    with path.open("rb" if shared else "ab") as file:
        try:
            _flock(file, shared=shared, wait=busy is None)
        except BlockingIOError as error:
            raise busy or error from error
        yield


def _flock(file: IO[bytes], *, shared: bool = False, wait: bool = True) -> None:
    import fcntl  # not on Windows, where the analysis reads records, too

    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
    except OSError as error:
        if shared or error.errno not in UNLOCKABLE:  # shared: whether somebody holds it is unknown
            raise
        _warn_of_no_locks()


@cache
def _warn_of_no_locks() -> None:
    """Say once in a process what a file system without locks (as some of clusters) asks for."""
    print(
        "warning: this file system has no file locks (flock): never start two processes on one "
        "study at the same moment",
        file=sys.stderr,
    )


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one with dotted keys; lists are values, empty mappings nothing."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{path}.")
        else:
            flat[path] = value
    return flat


_LEAVES = frozenset({type(None), bool, int, float, str})


@cache
def _field_names(kind: Any) -> list[str]:
    return [item.name for item in fields(kind)]


def plain(value: Any) -> Any:
    """Return nested mappings and lists; enum members as names, dataclasses as mappings."""
    if type(value) in _LEAVES:
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if is_dataclass(value):  # asdict copies every leaf
        return {name: plain(getattr(value, name)) for name in _field_names(value.__class__)}
    return value


def expanded(text: str) -> Path:
    """Return a path as the shell reads it; ``~`` stays where no home folder is known.

    `Path.expanduser` raises a `RuntimeError` there: in containers without a passwd entry, or for
    the home of somebody unknown.
    """
    return Path(os.path.expanduser(text))  # noqa: PTH111
