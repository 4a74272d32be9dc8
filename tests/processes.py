"""Commands as processes of their own, forked from one that has imported PyTorch and Hydra."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
SECONDS = 300
"""A command that takes longer is killed."""

PARENT = """
import gc, importlib, json, os, runpy, sys
import hydra, pandas, scipy.stats, torch
import analysis.comparison.compare, harness.cell.train, harness.config.compose, harness.study.plan

harness.config.compose.load([])  # Hydra looks for its plugins and reads our files
gc.freeze()  # a child that looks through what it shares would copy it
asked, told = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")


def become(command):
    os.chdir(command["folder"])
    os.environ.clear()
    os.environ.update(command["environment"])
    places = [os.devnull, command["stdout"], command["stderr"]]
    for number, (place, flags) in enumerate(zip(places, [os.O_RDONLY, os.O_WRONLY, os.O_WRONLY])):
        os.dup2(os.open(place, flags), number)
    paths = command["environment"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [command["folder"], *filter(None, paths)]
    sys.argv[:] = ["-m", *command["arguments"]]
    sys.orig_argv[1:] = ["-m", command["module"], *command["arguments"]]
    importlib.invalidate_caches()
    for name in (command["module"], command["module"] + ".__main__"):
        if not hasattr(sys.modules.get(name), "__path__"):
            sys.modules.pop(name, None)  # a module that is run is imported anew


def command():
    for line in asked:
        if not (pid := os.fork()):
            return json.loads(line)
        print(pid, file=told, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=told, flush=True)


if found := command():
    become(found)
    asked.close(), told.close()
    runpy.run_module(found["module"], run_name="__main__", alter_sys=True)
"""
"""It forks a child for each command it is told on stdin; the child ends as any program does."""


class Parent:
    """The process that the commands of a test worker are forked from; begun when it is needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None

    def run(
        self, words: list[str], folder: Path, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess:
        """Run ``python -m WORDS`` in a folder, and return what it said and its exit code."""
        with tempfile.TemporaryDirectory() as said:
            out, err = (Path(said) / name for name in ("stdout", "stderr"))
            command = {
                "module": words[0], "arguments": words[1:], "folder": str(folder),
                "environment": dict(environment), "stdout": str(out), "stderr": str(err),
            }  # fmt: skip
            out.touch(), err.touch()
            code = self._ask(json.dumps(command))
            return subprocess.CompletedProcess(words, code, out.read_text(), err.read_text())

    def _ask(self, command: str) -> int:
        process = self._begun()
        process.stdin.write(f"{command}\n".encode())
        process.stdin.flush()
        pid = int(process.stdout.readline())
        if not select.select([process.stdout], [], [], SECONDS)[0]:
            os.kill(pid, signal.SIGKILL)
            process.stdout.readline()
            raise subprocess.TimeoutExpired(command, SECONDS)
        return int(process.stdout.readline())

    def _begun(self) -> subprocess.Popen:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PARENT], cwd=REPOSITORY, bufsize=0,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
        return self._process

    def end(self) -> None:
        """Let it go, once no more commands come."""
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait()
            self._process.stdout.close()
