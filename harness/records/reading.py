"""The one way in for what is read back: each file is parsed once, in its types, or refused.

msgspec reads JSON into the dataclasses; what does not fit is a `RecordError` that names file and
place, e.g. ``Expected `int`, got `null` - at `$.step```. A number is finite: JSON has no NaN.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import msgspec
from msgspec import Meta

T = TypeVar("T")
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Positive = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Figure = Annotated[float, Meta(ge=-1e30, le=1e30)]
"""Squares of it are finite, too."""
Amount = Annotated[float, Meta(ge=0, le=1e30)]
Large = Annotated[float, Meta(ge=0, le=1e60)]
"""Floating-point operations."""
FolderName = Annotated[str, Meta(pattern=r"^(?!\.{1,2}$)[^/\x00]{1,255}$")]
"""No way out of the folder that it is looked for in."""
DEEPEST = 40
"""Levels of what may hold anything: Python's own recursion ends at some hundreds."""
NOT_PARSED = (msgspec.MsgspecError, ValueError, RecursionError)


class RecordError(ValueError):
    """A file of a run that cannot be read; it names the file, the reason, and what to do."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(file, reason)  # all that it is made again from in another process
        self.file, self.reason = file, reason

    def __str__(self) -> str:
        """Return one line."""
        return f"cannot read {self.file}: {self.reason}"


@lru_cache
def decoder(kind: Hashable) -> Callable[[bytes], Any]:
    """Return what reads JSON into a type."""
    return msgspec.json.Decoder(cast(Any, kind)).decode


def read_bytes(file: Path, *, absent: bytes | None = None) -> bytes:
    """Return the content of a regular file, `absent` where there is none.

    One waits for ever for a pipe's.
    """
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise RecordError(file, "it is no regular file; move it away")
        return file.read_bytes()
    except OSError as error:
        if absent is not None and isinstance(error, FileNotFoundError | NotADirectoryError):
            return absent
        raise RecordError(file, f"{error.strerror or error}") from error
    except ValueError as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError(file, str(error)) from error  # a name with a zero byte


def is_there(file: Path) -> bool:
    """Tell whether a name is taken, by whatever; one that may not be looked at is."""
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True
    return True


def read_json(file: Path, kind: type[T], version: int | None = None) -> T:
    """Read one JSON file into its dataclass."""
    raw = read_bytes(file)
    try:
        if version is not None:
            check_version(raw, version)
        found: T = decoder(cast(Hashable, kind))(raw)
    except NOT_PARSED as error:
        raise RecordError(file, f"{said(error)}; restore it, or move it away") from error
    return found


@lru_cache
def _versioned() -> Callable[[bytes], Any]:
    return decoder(msgspec.defstruct("Versioned", [("schema_version", Any, None)]))


def check_version(raw: bytes, version: int) -> None:
    """Refuse what another version of this program wrote."""
    found = _versioned()(raw).schema_version
    if found != version:
        raise ValueError(
            f"it has schema version {str(found)[:40]}, this program reads {version}: "
            "use the version of the project that wrote it"
        )


def said(error: BaseException) -> str:
    """Return in one line what was wrong."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(error).split()) or type(error).__name__


def check_depth(value: Any) -> None:
    """Refuse nested lists and mappings that nobody could copy or print."""
    _check_depth(value, DEEPEST, set())


def _check_depth(value: Any, deepest: int, seen: set[int]) -> None:
    if deepest == 0:
        raise ValueError("it is nested too deeply")
    if id(value) in seen:  # a few aliases of YAML can stand for more than fits in any memory
        raise ValueError("one part of it stands for another (an alias): write it out")
    seen.add(id(value))
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            _check_depth(item, deepest - 1, seen)


def json_object(line: bytes) -> dict[str, Any]:
    """Read a line that is a JSON object of any kind."""
    row: dict[str, Any] = decoder(dict[str, Any])(line)
    check_depth(row)
    return row


def read_json_lines(
    path: Path,
    decode: Callable[[bytes], T] = json_object,  # type: ignore[assignment]
    *,
    skip_torn: bool = False,
    holding: str = "",
    broken: list[RecordError] | None = None,
) -> list[T]:
    """Return the objects of a JSON-lines file; none where there is no file.

    Only lines that hold the text `holding` are read: a study has a million without it.

    A last line without its end, torn by a kill or being written now, is left out; with `skip_torn`
    also one in the middle, of a file that was gone on with. Any other broken line raises
    `RecordError`, or is put into `broken`.
    """
    rows: list[T] = []
    for number, line in _lines(path, holding.encode()):
        try:
            rows.append(decode(line.rstrip()))
        except NOT_PARSED as error:
            if not line.endswith(b"\n") or (skip_torn and not line.rstrip().endswith(b"}")):
                continue
            what = f"line {number}: {said(error)}; restore the file, or delete that line"
            if broken is None:
                raise RecordError(path, what) from error
            broken.append(RecordError(path, what))
    return rows


def _lines(path: Path, text: bytes) -> Iterator[tuple[int, bytes]]:
    content = read_bytes(path, absent=b"")
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        if text in line:
            yield number, line


Row = dict[str, Whole | Figure | None]
"""What one logged step has: ``step``, ``tokens``, and figures by name."""


def stepped(line: bytes) -> dict[str, Any]:
    """Read a line of anything that happened at a step."""
    row = json_object(line)
    if not isinstance(row.get("step"), int):
        raise ValueError(f"step is {row.get('step')!r}, which is no count")
    return row


def metrics_row(line: bytes) -> dict[str, Any]:
    """Read one logged step."""
    row: dict[str, Any] = decoder(Row)(line)
    for name in ("step", "tokens"):
        if not isinstance(row.get(name), int) or row[name] < 0:
            raise ValueError(f"{name} is {row.get(name)!r}, which is no count")
    return row
