"""Write docs/config.md: every key of the config, from the dataclasses in `harness.config`."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from harness.config import CardConfig, Config
from harness.config.compose import load
from harness.config.validate import BOUNDS
from harness.records.files import CONF_DIR, write_atomic
from harness.records.terminal import Parser

PAGE = CONF_DIR.parent / "docs" / "config.md"
HEAD = """\
# Every key of the config

<!-- written by `python -m harness.config_page`; do not edit -->

`python -m harness KEY=VALUE` sets a key, `--cfg job` prints all of them, a file of `conf/` sets \
several. The defaults are the published 163M study's; the column `demo` has what `scale=demo`, \
which is chosen unless you choose another, sets instead. A slot is a mapping: `_target_` names any \
class or function that can be imported, the rest are its arguments.
"""
COLUMNS = "| key | type | default | demo | unit | meaning |\n|---|---|---|---|---|---|\n"
GROUP = """
## {title}

{text}

"""


def render() -> str:
    """Return the page."""
    demo = load()
    top = [item for item in fields(Config) if not is_dataclass(get_type_hints(Config)[item.name])]
    parts = [HEAD, GROUP.format(title="Top level", text=_first_line(Config)), COLUMNS]
    parts += [_row(Config, item, "", demo) for item in top]
    for item in fields(Config):
        kind = get_type_hints(Config)[item.name]
        if is_dataclass(kind):
            parts += _table(item.name, kind, demo)  # type: ignore[arg-type]
    return "".join([*parts, *_table("interventions.NAME", CardConfig, None)])


def _table(name: str, kind: type, demo: Config | None) -> Iterator[str]:
    yield GROUP.format(title=f"`{name}`", text=_first_line(kind))
    yield COLUMNS
    for item in fields(kind):
        yield _row(kind, item, f"{name}.", demo)


def _row(owner: type, item: Field[Any], prefix: str, demo: Config | None) -> str:
    default, key = _default(item), f"{prefix}{item.name}"
    here = default
    if demo is not None:
        group = getattr(demo, prefix[:-1]) if prefix else demo
        here = getattr(group, item.name)
    differs = demo is not None and here != default and not _is_reference(default)
    cells = [
        f"`{key}`",
        _type(get_type_hints(owner)[item.name], item),
        _value(default),
        _value(here) if differs else "",
        item.metadata.get("unit", ""),
        _sentences(owner)[item.name],
    ]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _default(item: Field[Any]) -> Any:
    if item.default is not MISSING:
        return item.default
    return item.default_factory() if item.default_factory is not MISSING else MISSING


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("${")


def _value(value: Any) -> str:
    if value is MISSING:
        return "required"
    if _is_reference(value):
        return f"follows `{re.findall(r'[a-z_.]+', value)[-1]}`"
    if isinstance(value, Enum):
        return f"`{value.name}`"
    if isinstance(value, dict) and value.keys() == {"_target_"}:
        return f"`{value['_target_']}`"
    if isinstance(value, bool) or value is None:
        return {True: "`true`", False: "`false`", None: "`null`"}[value]
    if isinstance(value, int) and value >= 10_000:
        return f"`{value:_}`"
    return f"`{value}`"


def _type(kind: Any, item: Field[Any]) -> str:
    words = {"above": "above", "at_least": "at least", "below": "below", "at_most": "at most"}
    bounds = [f"{words[name]} {item.metadata[name]:,}" for name in BOUNDS if name in item.metadata]
    default = _default(item)
    slot = isinstance(default, dict) and "_target_" in default
    return ", ".join(["slot" if slot else _type_name(kind), *bounds])


def _type_name(kind: Any) -> str:
    if get_origin(kind) is UnionType:
        return " or ".join(_type_name(part) for part in get_args(kind))
    if get_origin(kind) is list:
        (part,) = get_args(kind)
        return "list" if part is Any else f"list of {_type_name(part)}"
    if get_origin(kind) is dict:
        return "mapping"
    if inspect.isclass(kind) and issubclass(kind, Enum):
        return " ".join(f"`{member.name}`" for member in kind)
    return "null" if kind is type(None) else str(kind.__name__)


def _first_line(owner: type) -> str:
    return (owner.__doc__ or "").splitlines()[0]


def _sentences(owner: type) -> dict[str, str]:
    """Return field -> the docstring under it, on one line."""
    (tree,) = ast.parse(inspect.getsource(owner)).body
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    found = {}
    for statement, below in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = below.value.value if _is_text(below) else ""  # type: ignore[attr-defined]
            found[statement.target.id] = " ".join(text.replace("``", "`").split())
    return found


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def main(arguments: list[str] | None = None) -> int:
    """Write the page; return the exit code."""
    Parser(prog="python -m harness.config_page", description=__doc__).parse_args(arguments)
    write_atomic(PAGE, render())
    print(f"Written: {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
