"""What was asked for of a study, and which version of an edited arm counts."""

import json
import re
import sys

import pytest

from harness.cell import train as cell
from harness.records.study import Study
from harness.records.versions import last_asked
from harness.status import beside
from harness.study.plan import PlannedCell, settle
from harness.study.states import cell_states
from tests.configs import load
from tests.harness.studies import overlay, shown_table


@pytest.fixture
def own_arm(tmp_path, monkeypatch):
    """Return what gives the overrides of an arm of one's own, its overlay edited to some eps."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_smoothing.py").write_text(
        "from torch.nn.functional import cross_entropy\n"
        "def smooth(loss, logits, y, model, eps):\n"
        "    return cross_entropy(logits.flatten(0, 1), y.flatten(), label_smoothing=eps)\n"
    )
    search = overlay(tmp_path, "own", "loss", "own_smoothing.smooth, eps: 0")
    file = tmp_path / "conf" / "intervention" / "own.yaml"

    def edited(eps: str) -> list[str]:
        file.write_text(re.sub(r"eps: [\d.]+", f"eps: {eps}", file.read_text()))
        return [search, "+intervention=own"]

    yield edited
    sys.modules.pop("own_smoothing", None)


def test_a_version_of_an_arm_asked_for_again_is_the_one_shown(
    tiny, own_arm, tmp_path, capsys
) -> None:
    study, losses = tmp_path / "runs" / "adhoc", {}
    for eps in ("0.1", "0.9", "0.1"):
        config = load([*tiny, *own_arm(eps)])
        one = PlannedCell(config)
        settle([one])
        assert "warning" not in capsys.readouterr().err  # an edited arm is no other setting
        losses[eps] = f"{cell.run(one.folder).losses.test:.4f}"
        assert losses[eps] in shown_table(study)
    assert losses["0.1"] != losses["0.9"]
    assert "1 superseded (the arm was edited and asked for again)" in beside(
        cell_states(Study(study))
    )
    lines = (study / "commands.jsonl").read_text().splitlines()
    assert len(lines) == 3
    settle([one])
    assert (study / "commands.jsonl").read_text().splitlines() == lines  # asked once more
    assert [c["arm"] for c in json.loads(lines[-1])["cells"]] == ["own"]


def test_a_command_behind_a_torn_line_is_not_lost(tmp_path) -> None:
    cells = [{"arm": "a", "seeds": {"init": i}, "cell": f"c{i}"} for i in range(2)]
    Study(tmp_path).note_command(cells[:1])
    file = tmp_path / "commands.jsonl"
    with file.open("ab") as torn:
        torn.write(b'{"time": "2026", "cells": [{"cel\x00\xff')
    Study(tmp_path).note_command(cells)
    assert [command["cells"] for command in Study(tmp_path).commands()] == [cells[:1], cells]
    assert last_asked(Study(tmp_path).commands()).keys() == {"c0", "c1"}
    assert file.read_bytes().count(b"\n") == 3


@pytest.mark.slow
def test_a_single_run_is_noted_too(command, tiny, tmp_path) -> None:
    for _ in range(2):
        assert command("harness", *tiny, "seed=3").returncode == 0
    (line,) = (tmp_path / "runs" / "adhoc" / "commands.jsonl").read_text().splitlines()
    (asked,) = json.loads(line)["cells"]
    assert (asked["arm"], asked["seeds"]) == ("baseline", {"init": 3, "data": 3, "loop": 3})
    assert json.loads(line)["command"][-1] == "seed=3"
