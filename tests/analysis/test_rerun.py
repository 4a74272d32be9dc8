import json
import sys

import pytest
from studies import put, record

from analysis import AnalysisError
from analysis.__main__ import main
from analysis.audit.rerun import compare_curves, curve, differences, rerun
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
