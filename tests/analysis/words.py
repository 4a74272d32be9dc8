"""Files of words as they were last read: ``# TITLE``, an empty line, the words of that title."""

from collections.abc import Callable, Mapping
from pathlib import Path

Said = Mapping[str, Callable[[], str]]
"""Title -> what makes its words."""


def last_read(file: Path) -> dict[str, str]:
    """Return title -> words."""
    parts = ("\n" + file.read_text(encoding="utf-8")).split("\n# ")[1:]
    return {title: words.strip("\n") for title, _, words in (p.partition("\n") for p in parts)}


def write(file: Path, said: Said) -> None:
    """Write a file of words anew, for a person to read its difference."""
    parts = [f"# {title}\n\n{make().strip()}\n" for title, make in said.items()]
    file.write_text("\n".join(parts), encoding="utf-8")
