"""Start an intervention: an overlay, a module and a test that run as they are, to be edited."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from harness.records.files import write_together
from harness.records.terminal import Parser
from interventions.card import OVERLAYS
from interventions.catalogue.stubs import EVENTS, SLOTS, TEST, Stub

NAME = re.compile(r"[a-z][a-z0-9_]*")
KINDS = {
    "knob": "a setting of the config, KEY=VALUE, e.g. optim.grad_clip=1.0",
    "slot": f"a part that is replaced: {', '.join(SLOTS)}",
    "event": f"a place in the loop where your function is called: {', '.join(EVENTS)}",
}
EXAMPLES = """examples:
  python -m interventions new smaller_steps --knob optim.lr=5e-4
  python -m interventions new louder_mlp --slot mlp --summary "MLPs count more" --source mine
  python -m interventions new watch_norms --event metrics --folder my_ideas
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What has to be known to write an intervention."""

    name: str
    kind: str
    """One of `KINDS`."""
    what: str
    """KEY=VALUE, a slot or an event."""
    summary: str
    source: str


@dataclass(frozen=True, slots=True)
class Places:
    """Where the files of an intervention lie, and how its module is called."""

    overlay: Path
    module: Path
    test: Path
    dotted: str
    """The module's name."""
    root: Path
    """Where its command is run."""

    @classmethod
    def of(cls, name: str, folder: Path) -> Places:
        """Return the places in one's own folder, or in a checkout of the project."""
        if (folder / "conf" / "intervention" / "baseline.yaml").exists():
            return cls(
                folder / "conf" / "intervention" / f"{name}.yaml",
                folder / "interventions" / f"{name}.py",
                folder / "tests" / "interventions" / f"test_{name}.py",
                f"interventions.{name}",
                folder,
            )
        return cls(
            folder / "conf" / "intervention" / f"{name}.yaml",
            folder / f"my_{name}.py",
            folder / f"test_my_{name}.py",
            f"my_{name}",
            folder,
        )


def create(arguments: list[str], ask: Callable[[str], str] = input) -> None:
    """Write the files and say how to go on; what the options leave open is asked for."""
    options = _parser().parse_args(arguments)
    if not sys.stdin.isatty() and ask is input:
        ask = _cannot_ask
    answers = _answers(options, ask)
    folder = Path(options.folder)
    places = Places.of(answers.name, folder)
    _refuse(answers, places)
    files = contents(answers, places)
    write_together(dict(files))
    for path in files:
        print(f"Written: {path}")
    where = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    print(f"\nTry it: {where}{_command(answers)}")
    print("Then edit it: it runs as it is, and what it does is an example.")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m interventions new",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help="small letters, digits and underscores")
    kinds = parser.add_mutually_exclusive_group()
    for kind, words in KINDS.items():
        kinds.add_argument(f"--{kind}", metavar=kind.upper(), help=words)
    parser.add_argument("--summary", help="one line: what it changes")
    parser.add_argument("--source", help="where it comes from: a paper, a repository, yourself")
    parser.add_argument("--folder", default=".", help="to write to (default: here)")
    return parser


def _cannot_ask(_: str) -> str:
    raise ValueError("nobody to ask: give --knob, --slot or --event, and --summary and --source")


def _answers(options: argparse.Namespace, ask: Callable[[str], str]) -> Answers:
    given = [(kind, value) for kind in KINDS if (value := getattr(options, kind))]
    if given:
        kind, what = given[0]
    else:
        lines = "\n".join(f"  {kind}: {words}" for kind, words in KINDS.items())
        kind = _chosen(ask(f"What does it change?\n{lines}\nknob, slot or event: "), KINDS, "kind")
        what = ask(f"Which {kind} ({KINDS[kind]}): ").strip()
    return Answers(
        name=options.name,
        kind=kind,
        what=what,
        summary=options.summary or ask("In one line, what does it change? "),
        source=options.source or ask("Where does it come from? "),
    )


def _chosen(answer: str, allowed: dict[str, str] | dict[str, Stub], what: str) -> str:
    if answer.strip() not in allowed:
        raise ValueError(f"{what} {answer.strip()!r}: one of {', '.join(allowed)}")
    return answer.strip()


def _refuse(answers: Answers, places: Places) -> None:
    """Refuse a name that is none, or taken, and files that are there."""
    if not NAME.fullmatch(answers.name):
        raise ValueError(f"{answers.name!r}: small letters, digits and underscores, a letter first")
    taken = OVERLAYS / f"{answers.name}.yaml"
    for path in (taken, places.overlay, places.module, places.test):
        if path.exists():
            raise ValueError(f"{path} exists: choose another name, or edit that")


def contents(answers: Answers, places: Places) -> dict[Path, str]:
    """Return file -> its text."""
    if answers.kind == "knob":
        card, rest, module = "", _knob(answers.what), ""
        effect = "weights"
    else:
        stubs = SLOTS if answers.kind == "slot" else EVENTS
        stub = stubs[_chosen(answers.what, stubs, answers.kind)]
        target = f"{places.dotted}.{stub.title(answers.name)}"
        card, rest = stub.card(answers.what, target), stub.setting(answers.what, target)
        module, effect = stub.module(answers.name, answers.summary), stub.effect
    test = TEST[effect].format(
        name=answers.name,
        depth=len(places.test.relative_to(places.root).parts) - 1,
    )
    found = {places.overlay: _overlay(answers, card, rest), places.test: test}
    return found | ({places.module: module} if module else {})


def _overlay(answers: Answers, card: str, rest: str) -> str:
    words = yaml.safe_dump(
        {"summary": answers.summary, "source": answers.source}, sort_keys=False, width=1000
    )
    indented = "".join(f"    {line}\n" for line in (words + card).splitlines())
    return (
        f"# @package _global_\n# {_command(answers)}\n"
        f"interventions:\n  {answers.name}:\n{indented}{rest}"
    )


def _command(answers: Answers) -> str:
    return f"python -m harness +intervention={answers.name}"


def _knob(text: str) -> str:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"--knob {text!r}: KEY=VALUE, e.g. optim.grad_clip=1.0")
    nested = yaml.safe_load(value)
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return str(yaml.safe_dump(nested, default_flow_style=None, width=1000))
