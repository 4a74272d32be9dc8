"""Spoil every field of every file of a small finished study, and run every command on it.

A command may end with 0, 1 or 2. A traceback, a library's warning or another exit is mishandled.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import vl_convert
import yaml

from analysis.__main__ import main as analysis
from analysis.comparison.rules import Rules
from analysis.errors import AnalysisError
from analysis.report.watch import Live
from benchmarks.report import machine, table, write_section
from harness import status
from harness.cell import __main__ as one_cell
from harness.cell import train
from harness.config.compose import load
from harness.data.corpus import ensure_prepared
from harness.records.study import Study
from harness.study.plan import PlannedCell, settle
from tests.conftest import TINY

PAGE = Path("docs/chaos.md")
ARMS = ("baseline", "qkv_bias", "higher_lr", "qkv_bias+higher_lr")
DEEP: Any = None
for _ in range(300):
    DEEP = [DEEP]
VALUES: dict[str, Any] = {
    "null": None,
    "text": "x",
    "empty text": "",
    "way out": "../../x",
    "zero byte": "a\0b",
    "half a surrogate pair": "\ud800",
    "steers a terminal": "\x1b[2J\u202e",
    "negative": -1,
    "zero": 0,
    "fraction": 0.5,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "absurd": 1e300,
    "whole and absurd": 10**40,
    "true": True,
    "empty list": [],
    "empty mapping": {},
    "list": [1, "x", None],
    "mapping": {"x": 1},
    "deep": DEEP,
    "future version": 99,
}
GONE = object()


def npy(kind: str, shape: str) -> bytes:
    """Return an array's header alone."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00v\x00" + text.encode()


RAW: dict[str, bytes] = {
    "empty": b"",
    "zeros": b"\0" * 200,
    "no text": b"\xff\xfe\x80",
    "null": b"null\n",
    "nested": b"[" * 100_000,
    "nested mappings": b'{"a":' * 100_000,
    "torn": b'{"step": 1, "tok',
    "yaml that runs code": b"!!python/object/apply:os.system [exit 3]\n",
    "huge array": npy("<f8", "(10000000000000,)"),
    "objects": npy("|O", "(3,)"),
}


@dataclass(frozen=True, slots=True)
class Mutation:
    """One thing that is wrong with one file."""

    file: Path
    """Below the study's folder."""
    what: str
    spoil: Callable[[Path], None]


def build(base: Path, *, n_seeds: int = 3, figures: bool = True) -> Path:
    """Train two arms, their stack and a baseline on some seeds, analyse them; return the folder."""
    ensure_prepared(load().data, base / "data")
    cells = [
        PlannedCell(load(overrides(base, arm, seed))) for arm in ARMS for seed in range(n_seeds)
    ]
    settle(cells, looks=[2, 3][: len(cells) // len(ARMS) - 1])
    for cell in cells:
        cell.freeze()
        train.run(cell.folder)
    study = cells[0].study.folder
    (study / "looks.jsonl").write_text('{"look": 1, "time": "2026", "next_n": 3, "arms": []}\n')
    if figures:
        quietly(lambda: analysis(["report", str(study), "--figures"]))
    quietly(lambda: analysis([str(study)]))
    return study


def overrides(base: Path, arm: str, seed: int) -> list[str]:
    study = [f"study.arms=[{','.join(ARMS)}]", "study.seeds=3"]
    cell = [f"+intervention=[{arm.replace('+', ',')}]", f"seed={seed}"]
    return [*TINY, *study, *cell, f"data_dir={base / 'data'}", f"runs_dir={base / 'runs'}"]


def quietly(work: Callable[[], Any]) -> tuple[int, str]:
    """Run a command in this process; return its exit code and what it said on stderr."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error")
        try:
            code = work() or 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else bool(stop.code)
        except BaseException:
            code = -1
            traceback.print_exc()
    return int(code), err.getvalue()


# --- what is spoilt


def mutations(study: Path) -> Iterator[Mutation]:
    """Yield every mutation of one file of each kind."""
    for file in kinds(study):
        yield from whole(file)
        if file.suffix == ".json":
            yield from of_tree(file, (study / file).read_text(), json.loads, dump)
        elif file.suffix == ".yaml":
            yield from of_tree(file, (study / file).read_text(), yaml.safe_load, yaml.safe_dump)
        elif file.suffix == ".jsonl":
            yield from of_lines(file, (study / file).read_text().splitlines())
        elif file.suffix == ".npy":
            yield from of_array(file, np.load(study / file))


def kinds(study: Path) -> list[Path]:
    """Return one file of each name."""
    found: dict[str, Path] = {}
    for path in sorted(study.rglob("*")):
        if path.is_file() and path.suffix in (".json", ".yaml", ".jsonl", ".npy", ".txt"):
            found.setdefault(path.name, path.relative_to(study))
    return list(found.values())


def whole(file: Path) -> Iterator[Mutation]:
    for what, content in RAW.items():
        yield Mutation(file, what, lambda at, content=content: at.write_bytes(content))  # type: ignore[misc]
    places: dict[str, Callable[[Path], None]] = {
        "missing": lambda at: None,
        "folder": Path.mkdir,
        "pipe": os.mkfifo,
        "link to nothing": lambda at: at.symlink_to("nowhere"),
        "link to itself": lambda at: at.symlink_to(at.name),
    }
    for what, place in places.items():
        yield Mutation(file, what, lambda at, place=place: (at.unlink(), place(at)))  # type: ignore[misc]


def of_tree(file: Path, text: str, read: Callable, write: Callable) -> Iterator[Mutation]:
    tree = read(text)
    for path in paths(tree):
        for what, value in {**VALUES, "gone": GONE}.items():
            if file.suffix == ".yaml" and what == "half a surrogate pair":
                continue
            yield Mutation(
                file,
                f"{'.'.join(map(str, path))}: {what}",
                lambda at, path=path, value=value: at.write_text(write(changed(tree, path, value))),  # type: ignore[misc]
            )


def dump(value: Any) -> str:
    return json.dumps(value)


def paths(tree: Any, above: tuple = ()) -> Iterator[tuple]:
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree[:1])
        if isinstance(tree, list)
        else ()
    )
    for key, value in items:
        yield (*above, key)
        yield from paths(value, (*above, key))


def changed(tree: Any, path: tuple, value: Any) -> Any:
    tree = copy.deepcopy(tree)
    *above, last = path
    node = tree
    for key in above:
        node = node[key]
    if value is GONE:
        del node[last]
    else:
        node[last] = value
    return tree


def of_lines(file: Path, lines: list[str]) -> Iterator[Mutation]:
    for what, line in {
        "null line": "null",
        "text": '"x"',
        "torn": lines[0][:10],
        "list": "[]",
    }.items():
        yield Mutation(
            file,
            what,
            lambda at, line=line: at.write_text("\n".join([line, *lines[1:]]) + "\n"),  # type: ignore[misc]
        )
    for path in paths(json.loads(lines[-1])):
        for what, value in {**VALUES, "gone": GONE}.items():
            yield Mutation(
                file,
                f"{'.'.join(map(str, path))}: {what}",
                lambda at, path=path, value=value: at.write_text(  # type: ignore[misc]
                    "\n".join([*lines[:-1], dump(changed(json.loads(lines[-1]), path, value))])
                    + "\n"
                ),
            )


def of_array(file: Path, values: np.ndarray) -> Iterator[Mutation]:
    arrays = {
        "NaN": np.full_like(values, np.nan, dtype=float),
        "two axes": values.reshape(2, -1),
        "no axis": values[0],
        "shorter": values[:3],
        "none": values[:0],
        "words": np.array(["a", "b"]),
        "complex": values.astype(complex),
        "absurd": np.full(len(values), 1e308),
    }
    for what, array in arrays.items():
        yield Mutation(file, what, lambda at, array=array: save(at, array))  # type: ignore[misc]
    yield Mutation(file, "torn", lambda at: at.write_bytes(at.read_bytes()[:-3]))


def save(at: Path, array: np.ndarray) -> None:
    with at.open("wb") as file:
        np.save(file, array)


# --- what is run


def commands(study: Path, out: Path) -> dict[str, Callable[[], Any]]:
    """Return the commands that read, each to be run in this process."""
    name = str(study)
    return {
        "table": lambda: analysis(["table", name, "--no-write"]),
        "report": lambda: analysis(["report", name, "--out", str(out)]),
        "plot": lambda: analysis(["plot", name, "--out", str(out)]),
        "verify": lambda: analysis(["verify", name]),
        "noise": lambda: analysis(["noise", name]),
        "stack": lambda: analysis(["stack", name]),
        "sequential": lambda: analysis(["sequential", name]),
        "plan": lambda: analysis(["plan", "--delta", "0.1", "--arms", "2", "--pilot", name]),
        "watch": lambda: watched(name),
        "status": lambda: with_arguments(status.main, "harness.status", name),
        "again": lambda: again(study),
    }


def watched(name: str) -> int:
    with contextlib.suppress(AnalysisError):
        Live([name], Rules()).page()
    return 0


def with_arguments(main: Callable[[], Any], *arguments: str) -> Any:
    before = sys.argv
    sys.argv = list(arguments)
    try:
        return main()
    finally:
        sys.argv = before


def again(study: Path) -> int:
    """Start the study again: plan it, then train what has no result."""
    base = study.parents[1]
    try:
        cells = [PlannedCell(config()) for config in CONFIGS[base]]
        settle(cells, looks=[2, 3][: len(cells) // len(ARMS) - 1])
    except ValueError as error:  # as `harness.__main__` does
        print(error, file=sys.stderr)
        return 2
    for cell in cells:
        code, said = quietly(
            lambda cell=cell: with_arguments(one_cell.main, "cell", str(cell.folder))  # type: ignore[misc]
        )
        if code not in (0, 1, 2):
            print(said, file=sys.stderr)
            return code
    return 0


CONFIGS: dict[Path, list[Callable[[], Any]]] = {}


@dataclass(slots=True)
class Tally:
    """What came of it."""

    runs: Counter = field(default_factory=Counter)
    """Command and exit code -> number."""
    mishandled: list[str] = field(default_factory=list)
    n: int = 0
    n_known: int = 0
    """Mutations that there are."""

    def add(self, other: Tally) -> None:
        """Count what another worker did."""
        self.runs += other.runs
        self.mishandled += other.mishandled
        self.n += other.n


def fuzz(study: Path, chosen: list[Mutation], names: list[str], say: bool = True) -> Tally:
    """Apply one mutation after the other, run the commands, put the study back."""
    tally, base = Tally(), study.parents[1]
    calm = base / "calm"
    shutil.copytree(study, calm, symlinks=True, dirs_exist_ok=True)
    asked = Study(study).plan()
    grid = [(cell["arm"], cell["seeds"]["init"]) for cell in asked.cells]
    composed = [load(overrides(base, *cell)) for cell in grid]
    CONFIGS[base] = [lambda config=config: copy.deepcopy(config) for config in composed]  # type: ignore[misc]
    for mutation in chosen:
        tally.n += 1
        with contextlib.suppress(UnicodeEncodeError):  # that file cannot be written
            mutation.spoil(study / mutation.file)
        for name, command in commands(study, base / "out").items():
            if name not in names:
                continue
            code, said = quietly(command)
            tally.runs[name, code] += 1
            if code not in (0, 1, 2) or "Traceback" in said:
                last = [line for line in said.splitlines() if line.strip()][-1:]
                tally.mishandled.append(f"{name}: {mutation.file.name}: {mutation.what}: {last}")
                if say:
                    print(tally.mishandled[-1], flush=True)
                    print(said, file=sys.stderr)
        shutil.rmtree(study)
        shutil.copytree(calm, study, symlinks=True)
    return tally


def sample(study: Path, n: int, seed: int = 0) -> list[Mutation]:
    """Return so many mutations, of all kinds of files evenly."""
    by_file: dict[Path, list[Mutation]] = {}
    for mutation in mutations(study):
        by_file.setdefault(mutation.file, []).append(mutation)
    dice = random.Random(seed)
    for found in by_file.values():
        dice.shuffle(found)
    rounds = max(map(len, by_file.values()))
    mixed = [found[i] for i in range(rounds) for found in by_file.values() if i < len(found)]
    return mixed[:n]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutations", type=int, default=600)
    parser.add_argument("--only", default="", help="files whose name holds this")
    parser.add_argument("--commands", default="", help="separated by commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="into docs/chaos.md")
    options = parser.parse_args()
    n_workers = os.cpu_count() or 1
    with ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn")) as pool:
        work = partial(share, options, n_workers)
        tally, *others = pool.map(work, range(n_workers))
    for other in others:
        tally.add(other)
    text = told(tally, list(dict.fromkeys(name for name, _ in tally.runs)))
    print(text)
    if options.write:
        write_section("fuzz", text, PAGE)
    sys.exit(bool(tally.mishandled))


def share(options: argparse.Namespace, n_workers: int, worker: int) -> Tally:
    """Do one worker's share of the mutations, on a study of its own."""
    draw_once()
    base = Path(tempfile.mkdtemp(prefix="fuzz-"))
    study = build(base)
    mine = sample(study, options.mutations, options.seed)[worker::n_workers]
    chosen = [mutation for mutation in mine if options.only in mutation.file.name]
    names = options.commands.split(",") if options.commands else list(commands(study, base))
    tally = fuzz(study, chosen, names)
    tally.n_known = len(list(mutations(study)))
    shutil.rmtree(base)
    return tally


def draw_once() -> None:
    """Draw equal charts once: most mutations leave most of them as they are."""

    def remembering(draw: Callable[..., Any]) -> Callable[..., Any]:
        drawn: dict[str, Any] = {}

        def found(what: Any, **how: Any) -> Any:
            key = json.dumps([what, how])
            if key not in drawn:
                drawn[key] = draw(what, **how)
            return drawn[key]

        return found

    vl_convert.vegalite_to_svg = remembering(vl_convert.vegalite_to_svg)
    vl_convert.svg_to_png = remembering(vl_convert.svg_to_png)


def told(tally: Tally, names: list[str]) -> str:
    """Return what happened, as Markdown."""
    rows = [
        {"command": name, **{f"exit {code}": str(tally.runs[name, code]) for code in (0, 1, 2)},
         "mishandled": str(sum(m.startswith(f"{name}: ") for m in tally.mishandled))}
        for name in names
    ]  # fmt: skip
    return (
        f"{tally.n} of {tally.n_known} mutations, each met by {len(names)} commands: "
        f"{tally.runs.total()} runs, **{len(tally.mishandled)} mishandled**.\n\n{table(rows)}\n\n"
        f"{machine('torch', 'msgspec')}."
    )


if __name__ == "__main__":
    main()
