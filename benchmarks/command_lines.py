"""Give every command bad command lines, derived from what it declares, and judge what it does.

    python -m benchmarks.command_lines [--of 400] [--seed 0] [--write]

Each line is run as ``python -m`` would, in a process forked from one that has imported what the
commands import: a start of Python takes up to 3 s. A line is handled well if, within a minute, it
ends with exit 1 or 2 and one ``error:`` line that names the option, the key or the value, without
a traceback, a library's warning or a character that steers the terminal; and if no file was
written or changed. Exit 0 is right only where the value may be.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import random
import re
import runpy
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.bad_lines import PLACE, Line, lines
from benchmarks.fuzz import build, with_arguments
from benchmarks.report import machine, table, write_section
from benchmarks.scripted_judge import ScriptedJudge
from harness import evaluate, judge
from harness.records.files import printable
from harness.records.responses import Response, write_responses

PAGE = Path(__file__).parent.parent / "docs" / "chaos.md"
LIMIT_SECONDS = 60.0
STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
WARNS = re.compile(r"Traceback \(most recent|\b[A-Z]\w*Warning:")


@dataclass(frozen=True, slots=True)
class Done:
    """What a command line did."""

    code: int | None
    """None: it was stopped after `LIMIT_SECONDS`."""
    out: str
    err: str
    changed: tuple[str, ...] = ()
    """Files below the line's folder that are there now, gone or other than before."""

    def wrong(self, line: Line, named: list[str]) -> str:
        """Return what is wrong with it, empty if nothing is."""
        errors = [text for text in self.err.splitlines() if text.startswith("error: ")]
        allowed = (0, 1, 2) if line.free else (1, 2)
        if self.code not in allowed:
            return "no end" if self.code is None else f"exit {self.code}"
        if WARNS.search(self.err):
            return "traceback or warning"
        if STEERS.search(self.out + self.err):
            return "steers the terminal"
        if self.code == 0:
            return ""
        if len(errors) != 1:
            return f"{len(errors)} error lines"
        if not any(name in errors[0] for name in named):
            return "names neither option nor value"
        changed = self.changed[:3] if not line.free else ()
        return f"changed {', '.join(changed)}" if changed else ""


# --- a line's own folder


def furnish(folder: Path) -> None:
    """Make what every line finds: a study with answers and judgements, and files that are none."""
    built = build(folder.with_name("built"), n_seeds=2, figures=False)
    shutil.copytree(built, folder / "runs" / "study")
    (folder / "data").symlink_to(folder.with_name("built") / "data")
    study = str(folder / "runs" / "study")
    with_arguments(evaluate.main, "evaluate", study, "--tasks", "demo_words")
    rows = [
        Response(
            model=f"{arm}/{seed}", arm=arm, cell=arm, train_seed=seed, seed=0,
            instruction_id=str(i), instruction=f"Say {i}.", input="", reference="ok",
            response="ok", truncated=False,
        )
        for arm in ("baseline", "qkv_bias") for seed in range(2) for i in range(3)
    ]  # fmt: skip
    write_responses(folder / "responses.jsonl", rows)
    with ScriptedJudge(lambda _, answers: [float(len(text)) for text in answers]) as scripted:
        words = [str(folder / "responses.jsonl"), "--judge", "m", "--base-url", scripted.base_url]
        judge.main([*words, "--out", str(folder / "judgements.jsonl"), "--yes"])
    (folder / "empty").mkdir()
    (folder / "work").mkdir()
    (folder / "notes.txt").write_text("nothing that a command reads\n")
    (folder / "binary.csv").write_bytes(bytes(range(256)) * 20)


def place_for(line: Line, furnished: Path, folder: Path) -> list[str]:
    """Copy what a line finds into its own folder; return its words."""
    shutil.copytree(furnished, folder, symlinks=True)
    os.mkfifo(folder / "pipe")
    (folder / "forbidden").mkdir(mode=0)
    return [filled(word, folder) for word in line.words]


def filled(word: str, folder: Path) -> str:
    cell = next((folder / "runs" / "study" / "baseline").iterdir())
    return word.replace(f"{PLACE}/cell", str(cell)).replace(PLACE, str(folder))


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Return path -> size and time, of every file and folder below."""
    return {
        str(path.relative_to(folder)): (status.st_size, status.st_mtime_ns)
        for path in folder.rglob("*")
        if path.name != "work" and (status := path.lstat())
    }


# --- running one


def run(line: Line, furnished: Path) -> tuple[Done, str]:
    """Run a line in a folder of its own; return what it did, and what is wrong with that."""
    with tempfile.TemporaryDirectory(prefix="line-", ignore_cleanup_errors=True) as made:
        folder = Path(made) / "place"
        words = place_for(line, furnished, folder)
        before = tree(folder)
        out, err = Path(made) / "out", Path(made) / "err"
        pid = os.fork()
        if pid == 0:
            _become(line.command, words, folder / "work", (out, err))
        code = _wait(pid)
        after = tree(folder)
        changed = [name for name in before | after if before.get(name) != after.get(name)]
        said = [path.read_bytes().decode(errors="replace") for path in (out, err)]
        done = Done(code, said[0], said[1], tuple(changed))
        named = [form for word in line.about if word for form in forms(filled(word, folder))]
        return done, done.wrong(line, named)


def forms(word: str) -> set[str]:
    """Return the ways a word may stand in a message."""
    plain = {printable(word), repr(word)[1:-1], ascii(word)[1:-1]}
    return {form.encode(errors="replace").decode() for form in plain}


def _become(command: str, words: list[str], folder: Path, files: tuple[Path, Path]) -> None:
    """Be ``python -m COMMAND WORDS`` in this folder, and end."""
    code: Any = 1
    try:
        os.setsid()
        os.chdir(folder)
        for number, path in zip((1, 2), files, strict=True):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _obey_permissions()
        module, *more = command.split()
        sys.argv[1:] = [*more, *words]
        package = import_module(module).__spec__.submodule_search_locations is not None
        sys.modules.pop(f"{module}.__main__" if package else module, None)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as stop:
        code = stop.code
        if not isinstance(code, int | None):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)


def _obey_permissions() -> None:
    """Give up what lets root read what is forbidden (capset(2), Linux only)."""
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
    ctypes.CDLL(None).capset(header, none)


def _wait(pid: int) -> int | None:
    """Return the exit code; None, and kill it, when it takes too long."""
    end = time.monotonic() + LIMIT_SECONDS
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(0.005)


# --- all of them


@dataclass(frozen=True, slots=True)
class Verdict:
    """A line, how it ended, and what was wrong with that."""

    line: Line
    code: int | None
    wrong: str


def sample(found: list[Line], n: int, seed: int) -> list[Line]:
    """Return so many lines, of all commands and kinds evenly."""
    by_cell: dict[tuple[str, str], list[Line]] = {}
    for line in found:
        by_cell.setdefault((line.command, line.kind), []).append(line)
    dice = random.Random(seed)
    cells = list(by_cell.values())
    dice.shuffle(cells)
    for cell in cells:
        dice.shuffle(cell)
    rounds = max(map(len, cells))
    return [cell[i] for i in range(rounds) for cell in cells if i < len(cell)][:n]


def share(chosen: list[Line], furnished: Path, n_workers: int, worker: int) -> list[Verdict]:
    """Run one worker's share of the lines."""
    found = []
    for line in chosen[worker::n_workers]:
        done, wrong = run(line, furnished)
        found.append(Verdict(line, done.code, wrong))
        if wrong:
            words = printable(" ".join(word[:80] for word in line.words))
            said = printable((done.err.strip() or done.out.strip())[-300:], keep="\n")
            print(f"{wrong}: {line.kind}: {line.command} {words}\n    {said}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--of", type=int, default=400, metavar="N", help="lines (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="commands and kinds that hold this")
    parser.add_argument("--write", action="store_true", help="into docs/chaos.md")
    options = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline", "OPENAI_API_KEY": "none"}
    base = Path(tempfile.mkdtemp(prefix="lines-"))
    furnish(base / "furnished")
    known = [line for line in lines() if options.only in f"{line.command}: {line.kind}"]
    chosen = sample(known, options.of, options.seed)
    begin, n_workers = time.perf_counter(), os.cpu_count() or 1
    with ProcessPoolExecutor(n_workers, multiprocessing.get_context("fork")) as pool:
        work = partial(share, chosen, base / "furnished", n_workers)
        found = [verdict for part in pool.map(work, range(n_workers)) for verdict in part]
    shutil.rmtree(base)
    text = told(found, len(known), options.seed, time.perf_counter() - begin)
    print(text)
    if options.write:
        write_section("command-lines", text, PAGE)
    sys.exit(any(verdict.wrong for verdict in found))


def told(found: list[Verdict], n_known: int, seed: int, seconds: float) -> str:
    """Return what happened, as Markdown."""
    commands = sorted({verdict.line.command for verdict in found})
    kinds = sorted({verdict.line.kind for verdict in found})
    rows = [
        {
            "command": name,
            "lines": str(len(of)),
            **{f"exit {code}": str(codes[code]) for code in (0, 1, 2)},
            "mishandled": str(sum(bool(v.wrong) for v in of)),
        }
        for name in commands
        if (of := [v for v in found if v.line.command == name])
        and (codes := Counter(v.code for v in of)) is not None
    ]
    by_kind = [
        {"kind": kind, "lines": str(len(of)), "mishandled": str(sum(bool(v.wrong) for v in of))}
        for kind in kinds
        if (of := [v for v in found if v.line.kind == kind])
    ]
    return (
        f"{len(found)} of {n_known} lines (`--seed {seed}`) for {len(commands)} commands in "
        f"{seconds:.0f} s: **{sum(bool(v.wrong) for v in found)} mishandled**.\n\n"
        f"{table(by_kind)}\n\n{table(rows)}\n\n{machine('torch', 'hydra-core')}."
    )


if __name__ == "__main__":
    main()
