"""Bad command lines, derived from what the project declares: options, settings, groups, commands.

A kind of bad value meets every option of every argparse parser and every key of the config's
schema that it is bad for. What a declaration allows is left out: a negative number where no bound
forbids it, any text where a text is free.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import Field, dataclass, fields, is_dataclass
from enum import Enum
from functools import partial
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints
from unittest.mock import patch

from hydra._internal.utils import get_args_parser

from analysis.__main__ import build_parser
from harness.config import Config
from harness.config.messages import COMMANDS
from harness.config.typed import RENAMED
from harness.evals.instructions.settings import TuneConfig
from harness.records.files import CONF_DIR
from interventions.__main__ import page, publish
from interventions.catalogue.new import create
from tests.conftest import TINY

PLACE = "@place@"
"""Stands for the line's own folder, which has what `benchmarks.command_lines` puts there."""
LONG = "a" * 300
TEXTS = {
    "empty": "",
    "300 characters": LONG,
    "steers the terminal": "\x1b[2J\x1b]0;x\x07\u202ex",
    "no UTF-8": "caf\udce9",
}
"""Bad wherever a value is one of a few, a number, or a name of something that exists."""
NUMBERS = {
    "text for a number": "x",
    "not a number": "nan",
    "infinite": "inf",
    "negative": "-1",
    "absurd": "9" * 40,
    "empty item": "1,,2",
}
READ = {
    "missing path": f"{PLACE}/nowhere",
    "empty folder": f"{PLACE}/empty",
    "text file": f"{PLACE}/notes.txt",
    "binary file": f"{PLACE}/binary.csv",
    "pipe": f"{PLACE}/pipe",
    "forbidden": f"{PLACE}/forbidden/x",
}
WRITTEN = {
    "missing path": "/proc/nowhere/x",
    "text file": f"{PLACE}/notes.txt/x",
    "pipe": f"{PLACE}/pipe/x",
    "forbidden": f"{PLACE}/forbidden/x",
}
STUDY, CELL = f"{PLACE}/runs/study", f"{PLACE}/cell"
GIVEN = {
    "runs": [STUDY], "study": [STUDY], "studies": [STUDY], "folder": [CELL], "model": [CELL],
    "models": [CELL], "responses": [f"{PLACE}/responses.jsonl"], "judge": ["m"],
    "to": [f"{PLACE}/new"], "interventions": ["rope", "swiglu", "rmsnorm"], "name": ["mine"],
    "judgements": [f"{PLACE}/judgements.jsonl"], "overrides": [],
}  # fmt: skip
"""Good values of what must be given, by its name in the parser."""
WITH = {
    "analysis design": ["--seeds", "1"],
    "analysis sequential": ["--looks", "2", "3"],
    "analysis watch": ["--port", "0"],
    "interventions new": ["--knob", "optim.lr=5e-4", "--summary", "s", "--source", "mine"],
    "harness": [*TINY, f"runs_dir={PLACE}/trained", f"data_dir={PLACE}/data"],
    "harness.bill": [*TINY, "device=h100"],
    "harness.prepare": ["data=stdlib_docs", f"data_dir={PLACE}/data"],
    "harness.schedule": TINY,
    "harness.throughput": [*TINY, f"data_dir={PLACE}/data"],
    "interventions show": ["rope", *TINY],
    "harness.finetune": [f"out={PLACE}/tuned", "device=cpu"],
}
"""What makes the rest of a line good."""
FREE = {"--prompt", "--project", "--entity", "--judge", "--summary", "--source", "--package",
        "--push"}  # fmt: skip
"""Options that any text is right for."""
UNUSED = {
    *(("analysis report", dest) for dest in ("baseline", "metric")),
    *(("analysis design", dest) for dest in ("column", "where", "baseline", "metric", "alpha")),
    ("harness.judge", "out"),
    ("interventions new", "name"),
}
"""Options whose value a good line may do without: a report is written and says why it compares
nothing, a design reads no runs, a judge's price is said and nothing written."""
READING = {"runs", "study", "studies", "model", "models", "responses", "judgements", "on", "rerun",
           "pilot", "sizes", "folder", "clusters", "gold", "task_files"}  # fmt: skip
WRITING = {"out", "to", "folder"}
PARSED_ONLY = {"analysis watch", "analysis scale"}
"""What the parser takes is not judged: a study may become right while it is watched, and a good
line of the other needs studies at two sizes."""
SETTINGS = ("harness", "harness.bill", "harness.prepare", "harness.schedule", "harness.throughput",
            "interventions show")  # fmt: skip
"""Commands that take ``KEY=VALUE`` of the config's schema."""


@dataclass(frozen=True, slots=True)
class Line:
    """A command line that must be refused."""

    command: str
    kind: str
    words: tuple[str, ...]
    """What follows the command."""
    about: tuple[str, ...]
    """The option or key, and the value: the error names one of them."""
    free: bool = False
    """The declaration takes the value, so that exit 0 is right, too."""


def lines() -> list[Line]:
    """Return every line, in an order that never changes."""
    found = [line for name, parser in parsers().items() for line in _of_parser(name, parser)]
    for key in [*keys(Config), *OWN]:
        for command in SETTINGS:
            found += _of_key(command, key)
    for key in keys(TuneConfig):
        found += _of_key("harness.finetune", key)
    return [*found, *_of_groups(), *_of_names()]


# --- options


class _Declared(Exception):  # noqa: N818 - no error: what is sought
    """Carries the parser of a command that was about to parse."""


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Return command -> its parser, of all that have one."""
    (commands,) = (a.choices for a in _actions(build_parser()) if isinstance(a.choices, dict))
    found = {f"analysis {name}": parser for name, parser in commands.items()}
    for name, main in {"new": create, "publish": publish, "page": page}.items():
        found[f"interventions {name}"] = _declared_by(partial(main, []))  # type: ignore[misc]
    found["harness"] = get_args_parser()
    for name in COMMANDS:
        if (command := f"harness.{name}") not in SETTINGS:
            module = import_module("harness.cell.__main__" if name == "cell" else command)
            found[command] = _declared_by(module.main)
    return found


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return what may stand in a line, help apart; argparse has no public way to ask."""
    return [a for a in parser._actions if a.dest not in ("help", "version")]


def _declared_by(main: Callable[[], Any]) -> argparse.ArgumentParser:
    """Return the parser that a command asks to parse; `LookupError` if it has none."""

    def caught(parser: argparse.ArgumentParser, *_: object) -> None:
        raise _Declared(parser)

    with (
        patch.object(argparse.ArgumentParser, "parse_args", caught),
        patch("sys.argv", ["x", "-h"]),
    ):
        try:
            main()
        except _Declared as found:
            parser: argparse.ArgumentParser = found.args[0]
            return parser
    raise LookupError(main)


def _of_parser(command: str, parser: argparse.ArgumentParser) -> Iterator[Line]:
    for action in _actions(parser):
        name = _name(action)
        about = (name, action.dest, str(action.metavar or ""))
        free = name in FREE or (command, action.dest) in UNUSED
        for kind, words in _bad(action):
            if command in PARSED_ONLY and not _refused_by(action, kind):
                continue
            parents = [str(Path(word).parent) for word in words if "/" in word]
            text = _whole(command, parser, action, words)
            yield Line(command, kind, text, (*filter(None, about), *words, *parents), free)
    near = _misspelt(parser)
    for kind, word in {"unknown option": "--no-such-option", "misspelt option": near}.items():
        if word:
            yield Line(command, kind, (*_whole(command, parser), word), (word,))
    actions = [a for a in _actions(parser) if not a.option_strings and a.nargs not in ("?", "*")]
    if actions:
        yield Line(command, "missing value", (), tuple(str(a.metavar or a.dest) for a in actions))


def _name(action: argparse.Action) -> str:
    """Return the longest of an option's names, empty for a word by its place."""
    return max(action.option_strings, key=len, default="")


def _whole(
    command: str,
    parser: argparse.ArgumentParser,
    bad: argparse.Action | None = None,
    words: Iterable[str] = (),
) -> tuple[str, ...]:
    """Return a line that is good but for the words of one option."""
    options: list[str] = [*WITH.get(command, [])]
    positional: list[str] = []
    for action in _actions(parser):
        if action is bad:
            (options if action.option_strings else positional).extend(words)
        elif not action.option_strings:
            positional += GIVEN.get(action.dest, [])
        elif action.required:
            options += [_name(action), *GIVEN[action.dest]]
    return (*positional, *options)


def _bad(action: argparse.Action) -> Iterator[tuple[str, list[str]]]:
    """Yield kind and words for one option."""
    flag = [_name(action)] if action.option_strings else []
    n = action.nargs if isinstance(action.nargs, int) else 1
    if n == 0:
        yield "a value for a switch", [f"{flag[0]}=x"]
        return
    if flag and action.nargs not in ("?", "*"):
        yield "missing value", flag
    for kind, value in _values(action).items():
        yield kind, [*flag, *[value] * n]
    if flag and _is_number(action):
        yield "given twice", [*flag, *["1"] * n, *flag, *["x"] * n]


def _values(action: argparse.Action) -> dict[str, str]:
    if action.choices is not None:
        return {"unknown name": "nosuch", **TEXTS}
    if _is_number(action):
        taken = {kind for kind in ("negative", "absurd") if _takes(action, NUMBERS[kind])}
        return {kind: text for kind, text in {**NUMBERS, **TEXTS}.items() if kind not in taken}
    if action.option_strings and action.dest in WRITING:
        return {**WRITTEN, "300 characters": f"{PLACE}/{LONG}"}
    if action.dest in READING:
        return {**READ, **TEXTS}
    return {"unknown name": "nosuch", **TEXTS}


def _refused_by(action: argparse.Action, kind: str) -> bool:
    """Tell whether the parser itself, or the first look at what it took, refuses."""
    at_once = action.dest in ("column", "where") or kind in ("empty", "no UTF-8", "missing value")
    missing = kind == "missing path" and action.dest == "runs"
    return action.choices is not None or _is_number(action) or at_once or missing


def _is_number(action: argparse.Action) -> bool:
    return action.type is not None and _takes(action, "0.5", "1") and not _takes(action, "x")


def _takes(action: argparse.Action, *texts: str) -> bool:
    """Tell whether an option takes one of the texts."""
    for text in texts:
        with suppress(argparse.ArgumentTypeError, ValueError):
            action.type(text)  # type: ignore[operator, misc]
            return True
    return False


def _misspelt(parser: argparse.ArgumentParser) -> str:
    """Return the longest option with two letters exchanged."""
    names = [name for a in _actions(parser) for name in a.option_strings if name[:2] == "--"]
    longest = max(sorted(names), key=len, default="")
    return longest[:-2] + longest[:-3:-1]


# --- settings


@dataclass(frozen=True, slots=True)
class Key:
    """A setting: its dotted name, its type, and the lowest value that its field declares."""

    name: str
    kind: Any
    low: float | None = None

    @property
    def plain(self) -> Any:
        """Its type, without `None`."""
        parts = [part for part in get_args(self.kind) if part is not type(None)]
        return parts[0] if get_origin(self.kind) is UnionType else self.kind


OWN = [Key("mfu", float, 0), Key("usd_per_hour", float, 0)]
"""Of ``python -m harness.bill``, beside the config's."""


def keys(owner: type, prefix: str = "") -> Iterator[Key]:
    """Yield every key of a schema."""
    hints = get_type_hints(owner)
    for item in fields(owner):
        kind = hints[item.name]
        if is_dataclass(kind):
            yield from keys(kind, f"{prefix}{item.name}.")  # type: ignore[arg-type]
        else:
            yield Key(prefix + item.name, kind, _lowest(item))


def _lowest(item: Field[Any]) -> float | None:
    return item.metadata.get("at_least", item.metadata.get("above"))


SCALARS = {"text for a number": "x", "not a number": "nan", "infinite": "inf"}
LISTS = {"a list for a value": "[1,2]", "a mapping for a value": "{a:1}"}
MISSING = "NO_SUCH_NAME"
GRAMMAR = {"broken grammar": "[", "interpolation": f"${{oc.env:{MISSING}}}", "unclosed quote": "'a"}


def _of_key(command: str, key: Key) -> Iterator[Line]:
    if key in OWN and command != "harness.bill":
        return
    base = (*(GIVEN["models"] if command == "harness.finetune" else ()), *WITH[command])
    name = RENAMED.get(key.name, key.name)
    for kind, value in {**_bad_values(key), **GRAMMAR}.items():
        yield Line(command, kind, (*base, f"{key.name}={value}"), (name, value, MISSING))
    typo = key.name[:-1] + key.name[-1] * 2
    yield Line(command, "misspelt option", (*base, f"{typo}=1"), (typo,))
    yield Line(command, "unknown option", (*base, f"+{typo}=1"), (typo,))


def _bad_values(key: Key) -> dict[str, str]:
    kind = key.plain
    if kind in (int, float):
        negative = {"negative": "-1"} if key.low is not None and key.low >= 0 else {}
        fraction = {"fraction": "1.5"} if kind is int else {}
        absurd = {"absurd": "9" * 40 if kind is int else "1e300"}
        return {**SCALARS, **negative, **fraction, **absurd, **LISTS, "empty": ""}
    if kind is bool or (isinstance(kind, type) and issubclass(kind, Enum)):
        return {"unknown name": "nosuch", **LISTS, "not a number": "nan", "empty": ""}
    if kind is str:
        return LISTS
    if get_origin(kind) is list:
        of_numbers = {"not a number": "[nan]"} if get_args(kind)[0] in (int, float) else {}
        return {
            "a value for a list": "x",
            "a mapping for a value": "{a:1}",
            **of_numbers,
            "empty item": "[1,,2]",
        }
    return {"a value for a mapping": "x", "a list for a value": "[1,2]"}


# --- names


def _of_groups() -> Iterator[Line]:
    """Yield names that a group of the config does not have."""
    groups = sorted({str(path.parent.relative_to(CONF_DIR)) for path in CONF_DIR.rglob("*/*.yaml")})
    names = {"unknown name": "nosuch", "300 characters": LONG, "a way out": "../../x",
             "steers the terminal": "'\x1b[2J'", "empty item": "[a,,b]",
             "no UTF-8": "caf\udce9"}  # fmt: skip
    for group in groups:
        plus = "+" if group in ("intervention", "study") else ""
        for command in SETTINGS[:-1]:
            for kind, name in names.items():
                words = (*WITH[command], f"{plus}{group}={name}")
                yield Line(command, kind, words, (group, name.strip("'")))


def _of_names() -> Iterator[Line]:
    """Yield words in the place of commands, and words too many."""
    words = {"unknown name": "nosuch", **TEXTS, **READ}
    for command in ("analysis", "interventions", "interventions show"):
        for kind, word in words.items():
            yield Line(command, kind, (word,), (word, "command", "RUNS", "name", "folder"))
    for command in (
        "harness",
        "harness.schedule",
        "harness.throughput",
        "harness.prepare",
        "harness.bill",
    ):
        for kind, word in {
            "unknown name": "nosuch",
            "unknown option": "--no-such",
            **TEXTS,
        }.items():
            yield Line(command, kind, (*WITH[command], word), (word, "setting"))
    for kind, word in {"empty": "", "unknown name": "nosuch", "300 characters": LONG}.items():
        yield Line(
            "harness.bill", kind, (*WITH["harness.bill"][:-1], f"device={word}"), ("device",)
        )
