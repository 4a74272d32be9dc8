"""Tiny cells: how the tests run them and read what they left."""

import json
from pathlib import Path

import pytest

from harness.cell import recorder
from harness.cell import train as cell
from harness.cell.freeze import freeze
from harness.records import RunRecord
from tests.configs import load


def run(overrides: list[str]) -> tuple[Path, RunRecord]:
    folder = freeze(load(overrides))
    return folder, cell.run(folder)


def run_until(step: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a cell until it has done so many steps, and let it die there."""
    original = recorder.Recorder.step_done

    def die(self, *arguments) -> None:
        original(self, *arguments)
        if self.training.step == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(recorder.Recorder, "step_done", die)
        with pytest.raises(KeyboardInterrupt):
            cell.run(folder)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def contents(folder: Path) -> dict[Path, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "log.txt"]
    return {path: path.read_bytes() for path in files}
