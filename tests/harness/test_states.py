"""What is known of each cell of a study, word for word, and in which order it is told."""

import json
import os
from pathlib import Path

import pytest

from harness.records import (
    CONFIG_FILE,
    Losses,
    Provenance,
    RunRecord,
    Seeds,
    Status,
    StudyPlan,
    write_plan,
    write_record,
)
from harness.records.cell import Cell
from harness.records.study import Study
from harness.study import states
from harness.study.states import CellState, cell_state, cell_states


def put(folder: Path, cell: str, *seeds: int, arm: str = "a", **said: object) -> RunRecord:
    """Write a record, below its arm's folder, of a cell with one seed or three."""
    init, data, loop = seeds if len(seeds) == 3 else seeds * 3 or (0, 0, 0)
    record = RunRecord(study="s", arm=arm, interventions=[], cell=cell, n_steps=8,
                       seeds=Seeds(init=init, data=data, loop=loop), **said)  # fmt: skip
    write_record(folder / arm / cell, record)
    return record


def logged(folder: Path, *lines: dict) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)


@pytest.fixture
def owned(monkeypatch) -> None:
    """Let somebody run every cell."""
    monkeypatch.setattr(states, "living_owner", lambda folder: "somebody")


STEP = {"step": 2, "tokens": 1000, "train_loss": 3.25, "tokens_per_second": 200.0}


@pytest.mark.parametrize(
    ("said", "n_tokens", "text"),
    [
        ({}, 3000, "3.250 25% 0.2k tok/s 10 s left"),
        ({}, 0, "3.250 25% 0.2k tok/s 15 s left"),  # 8 steps of 500 tokens
        ({"step": 8, "tokens": 4000}, 3000, "3.250 100% 0.2k tok/s 0 s left"),
        ({"tokens_per_second": 60000.0}, 90001000, "3.250 25% 60.0k tok/s 25.0 min left"),
        ({"tokens_per_second": 0.5}, 1002, "3.250 25% 0.0k tok/s 4 s left"),
        ({"tokens_per_second": 0.01}, 1000, "3.250 25% 0.0k tok/s 0 s left"),
        ({"tokens_per_second": 0.0}, 3000, "3.250 25%"),
        ({"tokens_per_second": None}, 3000, "3.250 25%"),
        ({"train_loss": None, "tokens_per_second": None}, 3000, "not finite 25%"),
        ({"step": 0, "tokens": 0}, 3000, "3.250 0%"),
    ],
)
def test_a_running_cell_tells_its_loss_its_part_its_speed_and_what_is_left(
    tmp_path, owned, said: dict, n_tokens: int, text: str
) -> None:
    put(tmp_path, "c", n_tokens=n_tokens)
    cell = Cell(tmp_path / "a" / "c")
    assert (cell_state(cell).state, cell_state(cell).text) == ("running", "starting")
    logged(cell.folder, STEP | {"train_loss": 9.0}, STEP | said)
    assert (cell_state(cell).state, cell_state(cell).text) == ("running", text)


def test_a_cell_that_nobody_runs_was_interrupted_at_its_last_logged_step(tmp_path) -> None:
    put(tmp_path, "c")
    cell = Cell(tmp_path / "a" / "c")
    assert (cell_state(cell).state, cell_state(cell).text) == ("interrupted", "step 0/8")
    logged(cell.folder, STEP, STEP | {"step": 3})
    assert cell_state(cell).text == "step 3/8"


@pytest.mark.parametrize(
    ("said", "state", "text"),
    [
        ({"status": Status.COMPLETE, "losses": Losses(test=2.00004)}, "complete", "2.0000"),
        ({"status": Status.FAILED, "error": "boom\x1b"}, "failed", "boom\\x1b"),
        ({"status": Status.DIVERGED}, "diverged", "its last word"),
        ({"status": Status.STOPPED, "error": "stopped at step 3"}, "stopped", "stopped at step 3"),
    ],
)
def test_a_cell_that_has_ended_tells_its_loss_its_error_or_its_last_line(
    tmp_path, said: dict, state: str, text: str
) -> None:
    record = put(tmp_path, "c", 1, 2, 3, **said)
    cell = Cell(tmp_path / "a" / "c")
    cell.log_file.write_text("its first word\nits last word\n\n")
    found = cell_state(cell)
    assert found == CellState("a", "1/2/3", state, text, "c", record)
    assert not found.superseded


def test_a_cell_without_a_record_has_the_seeds_of_the_plan_else_of_its_config(tmp_path) -> None:
    cell, entry = Cell(tmp_path / "a" / "c"), {"arm": "a", "seeds": {"init": 4}, "cell": "c"}
    cell.folder.mkdir(parents=True)
    config = cell.folder / CONFIG_FILE
    config.write_text("seeds: {init: 1, data: 1, loop: 1}\n")
    assert cell_state(cell) == CellState("a", "1", "planned", "", "c")
    assert cell_state(cell, entry) == CellState("a", "4", "planned", "", "c")
    config.write_text("seeds: {init: 1}\n")
    words = f"cannot read {config}: seeds: Object missing required field `data`"
    assert cell_state(cell) == CellState("a", "?", "unreadable", words, "c")
    write_record(cell.folder, RunRecord(study="s", arm="a", interventions=[], cell="c", n_steps=8,
                 seeds=Seeds(init=1, data=1, loop=1), status=Status.COMPLETE))  # fmt: skip
    words = f"cannot read {cell.record_file}: it is called complete, and has no test loss"
    assert cell_state(cell, entry) == CellState("a", "4", "unreadable", words, "c")


def test_the_plans_cells_come_first_then_others_by_arm_and_seeds_the_latest_first(tmp_path) -> None:
    study = Study(tmp_path)
    put(tmp_path, "late", 9, started="2026-03")
    put(tmp_path, "early", 9, started="2026-01")
    put(tmp_path, "asked", 9, started="2025-01")
    put(tmp_path, "ten", 10)
    put(tmp_path, "two", 9, 9, 10)
    put(tmp_path, "other", 0, arm="A")
    put(tmp_path, "planned", 11, arm="z")
    (tmp_path / "a" / "odd").mkdir()
    (tmp_path / "a" / "odd" / CONFIG_FILE).write_text("{")
    entries = [{"arm": arm, "seeds": {"init": 11}, "cell": cell}
               for arm, cell in (("z", "planned"), ("y", "missing"))]  # fmt: skip
    write_plan(tmp_path, StudyPlan(study="s", cells=entries))
    line = {"time": "2026-02", "cells": [{"arm": "a", "seeds": {"init": 9}, "cell": "asked"}]}
    (tmp_path / "commands.jsonl").write_text(json.dumps(line) + "\n")
    found = cell_states(study)
    assert [state.cell for state in found] == [
        "planned", "missing", "other", "odd", "late", "asked", "early", "two", "ten"]  # fmt: skip
    assert (found[1].arm, found[1].seed, found[1].state) == ("y", "11", "planned")
    assert not any(state.superseded for state in found)


def test_a_version_that_another_counts_for_is_marked_and_the_planned_one_counts(tmp_path) -> None:
    for cell, source in (("new", "2"), ("old", "1")):
        put(
            tmp_path, cell, recipe="r", started=source, provenance=Provenance(sources={"f": source})
        )
    marked = {state.cell: state.superseded for state in cell_states(Study(tmp_path))}
    assert marked == {"new": False, "old": True}
    entry = {"arm": "a", "seeds": {"init": 0}, "cell": "old"}
    write_plan(tmp_path, StudyPlan(study="s", cells=[entry]))
    marked = {state.cell: state.superseded for state in cell_states(Study(tmp_path))}
    assert marked == {"old": False, "new": True}


def test_a_second_look_reads_again_what_may_have_changed_alone(tmp_path, monkeypatch) -> None:
    for cell, status in (
        ("done", Status.DIVERGED),
        ("failed", Status.FAILED),
        ("runs", Status.RUNNING),
    ):
        put(tmp_path, cell, status=status)
    (tmp_path / "a" / "frozen").mkdir()
    (tmp_path / "a" / "frozen" / CONFIG_FILE).write_text("seeds: {init: 1, data: 1, loop: 1}\n")
    (tmp_path / "a" / "broken").mkdir()
    (tmp_path / "a" / "broken" / CONFIG_FILE).write_text("{")
    known: states.Known = {}
    first = cell_states(Study(tmp_path), known)
    read: list[str] = []
    whole = states.cell_state
    monkeypatch.setattr(states, "cell_state", lambda c, p: read.append(c.id) or whole(c, p))
    assert cell_states(Study(tmp_path), known) == first
    assert sorted(read) == ["broken", "runs"]
    read.clear()
    for name in ("done/log.txt", "failed/record.json", "frozen/config.yaml"):
        file = tmp_path / "a" / name
        file.touch()
        os.utime(file, ns=(1, 1))
    assert len(cell_states(Study(tmp_path), known)) == len(first)
    assert sorted(read) == ["broken", "done", "failed", "frozen", "runs"]
    read.clear()
    assert len(cell_states(Study(tmp_path))) == len(read) == len(first)
