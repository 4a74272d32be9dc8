"""Items with choices: those bundled with the project, and those of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from harness.config import ConfigError
from harness.evals.rows import read_rows
from harness.extras import require
from harness.records.files import canonical_hash

HERE = Path(__file__).parent
BUNDLED = ("demo_choices", "demo_words")
"""About the demo's own text; a file each beside this one."""
ENDINGS = (".yaml", ".yml", ".json", ".jsonl")


@dataclass(frozen=True, slots=True)
class Item:
    """A question of which one choice is right; with a single choice, a last word to guess."""

    id: str
    group: str
    """Items of one group are no independent questions."""
    prompts: tuple[tuple[str, str], ...]
    """Context and continuation of each choice."""
    answer: int


@dataclass(frozen=True, slots=True)
class Items:
    """The items of a task."""

    task: str
    source: str
    items: Sequence[Item]

    @property
    def sha256(self) -> str:
        """Hash of all items in their order, the first 12 digits."""
        return canonical_hash([astuple(item) for item in self.items])


def is_ours(name: str) -> bool:
    """Tell whether a task needs no further package: it is bundled, or a file."""
    return name in BUNDLED or Path(name).suffix in ENDINGS


def check_task(name: str) -> None:
    """Refuse a task that cannot be asked: a file without items, a name without its package."""
    if is_ours(name):
        read_items(name)
        return
    require(
        "lm_eval",
        f"task {name!r}",
        f"name {', '.join(BUNDLED)} or a file of items. lm_eval downgrades python-dateutil: give "
        "it an environment of its own",
    )


def read_items(name: str) -> Items:
    """Read a bundled task, or a file of one's own (`ConfigError` where it is none)."""
    file = HERE / f"{name}.yaml" if name in BUNDLED else Path(name)
    rows = read_rows(file, f"--tasks {name}", "name a file of items")
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f"{file} is no list of items")
    items = [_item(f"{file}, item {i}", i, row) for i, row in enumerate(rows)]
    source = "bundled" if name in BUNDLED else str(file.absolute())
    return Items(file.stem, source, items)


def _item(where: str, index: int, row: Any) -> Item:
    fields = {"context", "choices", "answer", "group"}
    given = row if isinstance(row, dict) else {}
    context, choices = given.get("context", ""), given.get("choices")
    if set(given) - fields or not isinstance(choices, list) or not choices:
        raise ConfigError(
            f"{where}: it needs the texts `context` and `choices` (a list), and may have `answer` "
            "(which choice is right; default 0, the first) and `group`"
        )
    if not all(isinstance(text, str) and text for text in choices) or not isinstance(context, str):
        raise ConfigError(f"{where}: {[context, *choices]} are not all texts (quote them)")
    answer = given.get("answer", 0)
    if not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise ConfigError(f"{where}: answer is {answer!r}, allowed are 0 to {len(choices) - 1}")
    prompts = tuple((context, choice) for choice in choices)
    return Item(f"{index}", str(given.get("group", index)), prompts, answer)
