"""What is shown of a study, while it runs and from elsewhere."""

import io
import sys

import pytest
from rich.console import Console
from rich.live import Live

from harness import status as command_line
from harness.cell import train as cell
from harness.cell.freeze import freeze
from harness.records import (
    Losses,
    Provenance,
    RunRecord,
    Seeds,
    Status,
    StudyPlan,
    read_record,
    write_plan,
    write_record,
)
from harness.records.cell import Cell
from harness.records.study import Study
from harness.status import beside
from harness.study import display as screen
from harness.study import states
from harness.study.display import Screen, summary, table
from harness.study.states import CellState, cell_states
from harness.study.states import shown as first_and_others
from tests.configs import load
from tests.harness.studies import STUDY, shown_table


@pytest.mark.slow
def test_status_shows_arms_by_seeds_from_elsewhere(command, tmp_path, tiny) -> None:
    assert command("harness", *tiny, *STUDY).returncode == 0
    done = command("harness.status", "runs/demo")
    assert done.returncode == 0
    for words in ("baseline", "qkv_bias", "seed 1", "4 complete"):
        assert words in done.stdout
    missing = command("harness.status", "runs/nothing")
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"schema_version": 7}', "has schema version 7, this program reads 1"),
        ("{", "move it away"),
    ],
)
def test_a_record_of_another_program_is_refused_in_one_line(
    command, tmp_path, tiny, content: str, words: str
) -> None:
    (freeze(load(tiny)) / "record.json").write_text(content)
    done = command("harness", *tiny)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert words in done.stderr
    shown = command("harness.status", "runs/adhoc", COLUMNS="1000")
    assert (shown.returncode, words in shown.stdout) == (0, True)


def test_a_frozen_cell_that_never_started_is_planned_with_or_without_a_plan(tiny, tmp_path) -> None:
    folder = freeze(load([*tiny, "+intervention=qkv_bias", "seed=3"]))
    (state,) = cell_states(Cell(folder).study)
    assert (state.arm, state.seed, state.state) == ("qkv_bias", "3", "planned")


def test_of_two_versions_of_a_cell_the_table_shows_the_planned_or_else_the_latest(tmp_path) -> None:
    study = tmp_path / "runs" / "twice"
    for loss, cell_id in ((3.1, "c"), (3.2, "a"), (3.3, "b")):
        record = RunRecord(
            study="twice", arm="baseline", interventions=[], cell=cell_id,
            seeds=Seeds(init=0, data=0, loop=0), status=Status.COMPLETE, losses=Losses(test=loss),
            n_steps=1, started=f"2026-01-{int(10 * loss)}",
        )  # fmt: skip
        write_record(study / "baseline" / cell_id, record)
    assert "3.3000" in shown_table(study)
    cells = [{"arm": "baseline", "seeds": {"init": 0}, "cell": "a"}]
    write_plan(study, StudyPlan(study="twice", cells=cells))
    assert "3.2000" in shown_table(study)


def test_cells_that_differ_in_one_of_their_seeds_are_all_shown(tmp_path) -> None:
    for cell_id, (data, loop) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        record = RunRecord(
            study="s", arm="baseline", interventions=[], cell=str(cell_id), n_steps=1,
            seeds=Seeds(init=0, data=data, loop=loop),
        )  # fmt: skip
        write_record(tmp_path / "baseline" / str(cell_id), record)
    first, others = first_and_others(cell_states(Study(tmp_path)))
    assert sorted(state.seed for state in first) == ["0", "0/0/1", "0/1/0", "0/1/1"]
    assert not others


def test_a_run_whose_process_died_is_shown_as_interrupted(tiny, tmp_path) -> None:
    folder = freeze(load(tiny))
    record = cell.run(folder)
    record.status = Status.RUNNING
    write_record(folder, record)
    states = cell_states(Cell(folder).study)
    assert states[0].state == "interrupted"
    assert "interrupted: baseline seed 0: step 10/10" in summary(states)


def test_a_running_cell_says_how_far_it_is_and_what_is_left(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(states, "living_owner", lambda folder: "somebody")
    record = RunRecord(
        study="s", arm="baseline", interventions=[], cell="c", seeds=Seeds(init=0, data=0, loop=0),
        status=Status.RUNNING, n_steps=8, n_tokens=3000,
    )  # fmt: skip
    write_record(tmp_path / "baseline" / "c", record)
    line = '{"step": 2, "tokens": 1000, "train_loss": 3.25, "tokens_per_second": 200.0}\n'
    (tmp_path / "baseline" / "c" / "metrics.jsonl").write_text(line)
    (state,) = cell_states(Study(tmp_path))
    assert (state.state, state.text) == ("running", "3.250 25% 0.2k tok/s 10 s left")


def test_so_many_seeds_that_they_find_no_room_are_counted() -> None:
    states = [CellState("baseline", str(i), "planned", "") for i in range(50)]
    states[0] = CellState("baseline", "0", "complete", "2.5")
    states[1] = CellState("baseline", "1", "complete", "2.6")
    states[2] = CellState("baseline", "2", "running", "2.7 40%")
    shown = io.StringIO()
    Console(width=80, file=shown).print(table(states, "runs/demo", 80))
    for words in ("2.5500", "2: 2.7 40%", "47"):
        assert words in shown.getvalue()


def test_a_cell_s_words_do_not_steer_the_terminal(study, command):
    (file, *_) = sorted(study.glob("*/*/record.json"))
    record = read_record(file)
    record.status, record.error = Status.FAILED, "boom \x1b[2J\x07\u202e[red]"
    write_record(file.parent, record)
    shown = command("harness.status", str(study)).stdout
    assert "boom" in shown
    assert not set("\x1b\x07\u202e") & set(shown)


def test_cells_of_an_earlier_version_that_never_started_are_counted_as_such() -> None:
    states = [CellState("a", "0", "planned", "", cell) for cell in ("new", "old")]
    assert beside(states) == "not shown: 1 never started"


@pytest.mark.parametrize("file", ["record.json", "config.yaml"])
def test_a_cell_that_cannot_be_read_is_shown_as_such_beside_the_others(tiny, file) -> None:
    folder = freeze(load([*tiny, "seed=1"]))
    (freeze(load(tiny)) / file).write_text("{")
    states = cell_states(Cell(folder).study)
    assert sorted(state.state for state in states) == ["planned", "unreadable"]
    assert "1 planned" in summary(states)
    assert "unreadable: baseline" in summary(states)


def test_a_plan_and_commands_that_cannot_be_read_are_named_beside_the_cells(tiny, command) -> None:
    study = Cell(freeze(load([*tiny, "seed=1"]))).study.folder
    (study / "plan.json").write_text("{")
    (study / "commands.jsonl").write_text("{}x\n{}\n")
    shown = command("harness.status", "runs/adhoc", COLUMNS="1000").stdout
    assert shown.count("unreadable: ") == 2
    assert "plan.json" in shown
    assert "commands.jsonl" in shown


def test_status_counts_what_it_shows_and_lists_the_studies_of_a_folder(command, tmp_path) -> None:
    study = tmp_path / "runs" / "edited"
    for cell_id, source, status in (("a", "1", Status.COMPLETE), ("b", "2", Status.COMPLETE),
                                    ("c", "2", Status.FAILED)):  # fmt: skip
        seed = 1 if cell_id == "c" else 0
        record = RunRecord(
            study="edited", arm="mine", interventions=["mine"], cell=cell_id, n_steps=1,
            seeds=Seeds(init=seed, data=seed, loop=seed), status=status,
            losses=Losses(test=3.0), provenance=Provenance(sources={"f": source}),
            error="a, b, c " * 20, started=f"2026-01-{ord(cell_id)}",
        )  # fmt: skip
        write_record(study / "mine" / cell_id, record)
    counted = "1 complete, 1 failed"
    words = "not shown: 1 superseded (the arm was edited and asked for again)"
    one = command("harness.status", "runs/edited").stdout
    assert counted in one
    assert words in one
    assert "…" in one
    all_of_them = command("harness.status", "runs", COLUMNS="200").stdout
    assert all_of_them == f"runs/edited: {counted}; {words}\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (119, "119 s"), (200, "3.3 min"), (8000, "2.2 h")]
)
def test_what_is_left_is_told_in_the_unit_that_suits_it(tmp_path, monkeypatch, seconds, text):
    watched = screen.Screen(Study(tmp_path), n_cells=2, n_slots=1)
    watched.n_done = 1
    monkeypatch.setattr(screen.time, "perf_counter", lambda: watched.start + seconds)
    assert watched._left() == text


def test_a_view_never_stops_a_study(tmp_path) -> None:
    (tmp_path / "plan.json").write_text("{")
    screen = Screen(Study(tmp_path), 1, 1)
    screen.live = Live(console=Console(file=io.StringIO()), auto_refresh=False)
    screen.refresh(now=True)
    assert screen.due


def test_a_view_again_reads_only_what_has_changed(tmp_path, monkeypatch) -> None:
    def write(seed: int, status: Status, test: float | None = None) -> None:
        record = RunRecord(
            study="s", arm="a", interventions=[], cell=f"c{seed}", n_steps=2, status=status,
            seeds=Seeds(init=seed, data=seed, loop=seed), losses=Losses(test=test),
        )  # fmt: skip
        write_record(tmp_path / "a" / f"c{seed}", record)

    write(0, Status.COMPLETE, 3.0)
    write(1, Status.RUNNING)
    known: dict = {}
    first = cell_states(Study(tmp_path), known)
    read, whole = [], states.cell_state
    monkeypatch.setattr(states, "cell_state", lambda c, p: read.append(c.id) or whole(c, p))
    assert cell_states(Study(tmp_path), known) == first
    assert read == ["c1"]  # it may have stopped without a word
    write(0, Status.COMPLETE, 2.75)
    assert cell_states(Study(tmp_path), known)[0].text == "2.7500"


def test_a_view_that_takes_long_is_drawn_less_often() -> None:
    assert screen.pause(0.001, 2) == 2
    assert screen.pause(0.3, 2) == pytest.approx(12)


def test_watching_shows_what_changed_until_ctrl_c(tiny, monkeypatch, capsys) -> None:
    folder = freeze(load(tiny))
    waits = iter([lambda: cell.run(folder), None])

    def wait(_: float) -> None:
        something = next(waits)
        if something is None:
            raise KeyboardInterrupt
        something()

    monkeypatch.setattr(command_line.time, "sleep", wait)
    monkeypatch.setattr(sys, "argv", ["harness.status", str(folder.parents[1]), "--watch"])
    command_line.main()
    shown = capsys.readouterr().out
    assert f"{read_record(folder).losses.test:.4f}" in shown
