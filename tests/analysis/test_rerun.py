import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from studies import put, record

from analysis import AnalysisError
from analysis.__main__ import main
from analysis.audit.rerun import Rerun, compare_curves, curve, differences, rerun
from harness.records import Provenance


def test_curves_are_compared_at_their_common_steps(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "tokens": 8, "train_loss": 3.0}\n{"step": 2, "tokens": 16, "train_loss": 2.5}\n{"step": 3, "tra'
    )
    found = compare_curves(curve(tmp_path), {2: 2.25, 9: 1.0})
    assert found.steps == (2,)
    assert found.largest_difference == 0.25
    assert not found.identical


def test_a_rerun_ends_at_the_first_logged_step_that_reaches_the_one_asked_for(
    tmp_path, monkeypatch
):
    def train(copy, n_steps, timeout_seconds):
        assert (copy / "sources" / "idea.py").read_text() == "SCALE = 1\n"
        lines = [{"step": step, "tokens": 8, "train_loss": 3.0} for step in (4, 8, 12)]
        (copy / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))

    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "idea.py").write_text("SCALE = 1\n")
    (tmp_path / "sources" / "other.py").write_text("")
    train(tmp_path, 12, 0.0)
    (tmp_path / "config.yaml").touch()
    monkeypatch.setattr("analysis.audit.rerun._run_until", train)
    assert [rerun(tmp_path, n).steps for n in (1, 8)] == [(4,), (4, 8)]


def test_a_rerun_says_what_it_was_run_with_that_the_cell_was_not(tmp_path):
    then = Provenance(git_sha="a" * 40, device="H100", packages={"torch": "2.6", "numpy": "2.4"})
    now = Provenance(git_sha="b" * 40, device="H100", packages={"torch": "2.9", "numpy": "2.4"},
                     sources={"mine.f": "1"})  # fmt: skip
    cell = put(tmp_path / "then", record("b", 0, 3.7, provenance=then))
    again = put(tmp_path / "now", record("b", 0, 3.7, provenance=now))
    code = f"code {'a' * 12} then, {'b' * 12} now"
    assert differences(cell, again) == (code, "torch 2.6 then, 2.9 now", "mine.f none then, 1 now")
    assert differences(cell, cell) == ()


def test_a_cell_to_run_again_may_be_called_by_its_name(traced, capsys):
    home = next(traced.rglob("config.yaml")).parent
    for name in (home.name, f"{home.parent.name}/{home.name}"):
        assert main(["verify", str(traced), "--rerun", name]) == 2
        assert f"{home} has no metrics.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("again", "code", "said"), [(3.0, 0, "identical"), (3.5, 1, "differs by up to 0.5")]
)
def test_a_rerun_that_differs_fails(traced, monkeypatch, capsys, again, code, said):
    found = compare_curves({1: 3.0}, {1: again})
    monkeypatch.setattr("analysis.audit.rerun.rerun", lambda cell, n_steps: found)
    home = next(traced.rglob("config.yaml")).parent
    assert main(["verify", str(traced), "--rerun", home.name]) == code
    assert f"training loss {said} over 1 logged step" in capsys.readouterr().out


def test_a_cell_that_cannot_run_again_says_why(tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text("nonsense: true\n")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "tokens": 8, "train_loss": 3.0}\n')
    for executable, why in (("/bin/false", "no output"), ("/bin/echo", "-m harness.cell")):
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(AnalysisError, match=f"did not run again: {why}"):
            rerun(tmp_path, 1)


TRAINS = """#!/bin/sh
echo "$@" > {folder}/arguments
echo $$ > {folder}/process
for step in 2 4 6; do
    echo '{{"step": '$step', "tokens": 8, "train_loss": 3.'$step'}}' >> "$3/metrics.jsonl"
done
touch {folder}/trained
exec sleep 60
"""
"""A cell that logs three steps at once and never ends."""


def cell_of(folder: Path, *steps: int) -> Path:
    """Return a cell that logged these steps."""
    home = folder / "cell"
    home.mkdir()
    (home / "config.yaml").write_text("seed: 1\n")
    rows = [{"step": step, "tokens": 8, "train_loss": 3 + step / 10} for step in steps]
    (home / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return home


@pytest.fixture
def training(tmp_path, monkeypatch):
    """Let every Python started be a cell that never ends."""
    script = tmp_path / "python"
    script.write_text(TRAINS.format(folder=tmp_path))
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr("analysis.audit.rerun.POLL_SECONDS", 0.02)
    return tmp_path


def has_ended(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    ("recorded", "n_steps", "common"),
    [((2, 4, 6, 8), 4, (2, 4)), ((2, 4), 100, (2, 4)), ((2, 4, 6), 1, (2,))],
)
def test_a_cell_that_would_train_on_is_ended_at_the_step_asked_for(
    training, recorded, n_steps, common
):
    began = time.monotonic()
    found = rerun(cell_of(training, *recorded), n_steps, timeout_seconds=50.0)
    assert time.monotonic() - began < 50
    assert (found.steps, found.identical) == (common, True)
    command = (training / "arguments").read_text().split()
    assert command[:2] == ["-m", "harness.cell"]
    assert (Path(command[2]).name, command[3:]) == ("cell", ["--unchecked"])
    assert has_ended(int((training / "process").read_text()))


def test_a_cell_that_does_not_come_so_far_is_ended_when_the_time_is_over(training, monkeypatch):
    def clock() -> float:
        return 1000.0 if (training / "trained").exists() else 900.0

    timer = SimpleNamespace(monotonic=clock, sleep=time.sleep)
    monkeypatch.setattr("analysis.audit.rerun.time", timer)
    found = rerun(cell_of(training, 2, 4, 6, 8), 8, timeout_seconds=99.0)
    assert found.steps == (2, 4, 6)
    assert has_ended(int((training / "process").read_text()))


SAME, OTHER = Rerun((2, 4), 0.0), Rerun((2, 4, 9), 0.25)
OVER = "training loss differs by up to 0.25 over 3 logged steps up to 9.\n"


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (SAME, "training loss identical over 2 logged steps up to 4.\n"),
        (
            OTHER,
            f"{OVER}Code, packages and device are those of then: training is not deterministic.\n",
        ),
        (Rerun((9,), 0.0, ("a", "b")), "training loss identical over 1 logged steps up to 9.\n"
         "Not the run of then: a; b.\n"),
        (Rerun((2, 4, 9), 0.25, ("a",)), f"{OVER}Not the run of then: a.\n"),
    ],
)  # fmt: skip
def test_two_curves_are_told_apart_in_words(found, text):
    assert found.to_markdown() == text


def test_a_step_that_logged_no_loss_is_none_and_curves_without_a_common_step_are_refused(tmp_path):
    home = cell_of(tmp_path, 2)
    with (home / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "tokens": 8, "train_loss": null}\n{"step": 4, "tokens": 8}\n')
    assert curve(home) == {2: 3.2}
    with pytest.raises(AnalysisError, match="no step that the first one has: ask for more steps"):
        compare_curves({2: 3.2}, {3: 3.2})


def test_all_that_may_move_a_loss_is_told(tmp_path):
    then = Provenance(git_dirty=True, device="H100", n_devices=2, micro_batch=4, compile=True,
                      packages={"torch": "2.6", "old": "1"}, sources={"mine.f": "1"})  # fmt: skip
    now = Provenance(git_sha="b" * 40, packages={"torch": "2.6", "new": "1"})
    cell = put(tmp_path / "then", record("b", 0, 3.7, provenance=then))
    again = put(tmp_path / "now", record("b", 0, 3.7, provenance=now))
    assert differences(cell, again) == (
        f"code unknown with uncommitted changes then, {'b' * 12} now",
        "device H100 then, None now",
        "n_devices 2 then, 1 now",
        "micro_batch 4 then, None now",
        "compile True then, False now",
        "mine.f 1 then, none now",
    )
    assert differences(cell, tmp_path) == ()
