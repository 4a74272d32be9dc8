"""People score responses without knowing whose they are; the judged table reads it."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import pytest

from analysis.judged.gold import read_gold
from harness.label import main, shuffled
from harness.records.responses import read_responses, write_responses
from tests.harness.judged_files import N, respond, write_files


def label(files: list[str], out: Path, monkeypatch, answers: list[str], *more: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{answer}\n" for answer in answers)))
    return main([*files, "--out", str(out), *more])


def rows(file: Path) -> list[list[str]]:
    return list(csv.reader(file.read_text().splitlines()))


def test_scores_are_kept_one_by_one_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files, out = write_files(tmp_path), tmp_path / "gold.csv"
    assert (
        label(files, out, monkeypatch, ["80", "101", "nan", "x", "", "q"], "--instructions", "2")
        == 0
    )
    first = capsys.readouterr().out
    assert first.count("is no number from 0 to 100") == 3
    assert "--- 3 of 8 ---" in first
    assert "--- 4 of 8 ---" not in first
    assert [score for *_, score in rows(out)] == ["score", "80", ""]
    assert label(files, out, monkeypatch, ["0.5", *["7"] * 5], "--instructions", "2") == 0
    second = capsys.readouterr().out
    assert second.startswith("\n\n--- 3 of 8 ---")
    assert f"All 8 responses have been seen: {out}" in second
    found = rows(out)[1:]
    assert [score for *_, score in found] == ["80", "", "0.5", *["7"] * 5]
    assert len({(i, model) for i, model, _ in found}) == 8
    assert [i for i, *_ in found] == [found[0][0]] * 4 + [found[4][0]] * 4, (
        "each instruction's together"
    )
    assert sorted(read_gold(out).frame["label"]) == [0.5, *[7.0] * 5, 80.0]


def test_nothing_on_the_screen_says_whose_a_response_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [
        respond(arm, 0, 1, text) for arm, text in (("muon", "it is \x1b[31m"), ("base", "b\nc"))
    ]
    write_responses(tmp_path / "r.jsonl", answers)
    label([str(tmp_path / "r.jsonl")], tmp_path / "gold.csv", monkeypatch, ["1", "2"])
    shown = capsys.readouterr().out
    assert "muon" not in shown
    assert "base" not in shown
    assert r"Response:\nit is \x1b[31m".replace(r":\n", ":\n") in shown
    assert "Response:\nb\nc\n" in shown
    assert "Instruction:\nSay 1." in shown
    assert "Reference:\nreference 1" in shown


def test_instructions_and_orders_are_drawn_at_random_and_again_the_same(tmp_path: Path) -> None:
    responses = [r for file in write_files(tmp_path) for r in read_responses(Path(file))]
    whole = shuffled(responses, 100, 0)
    assert len(whole) == len(responses) == 4 * N
    assert shuffled(reversed(responses), 100, 0) == whole
    orders = [tuple(r.model for r in whole[4 * i : 4 * i + 4]) for i in range(N)]
    assert len(set(orders)) > 1
    draws = [
        frozenset(r.instruction_id for r in shuffled(responses, 2, seed)) for seed in range(20)
    ]
    assert all(len(draw) == 2 for draw in draws)
    assert len(set(draws)) > 5


def test_an_empty_response_is_shown_as_one_and_the_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_responses(tmp_path / "r.jsonl", [respond("muon", 0, 1, "")])
    out = tmp_path / "new" / "gold.csv"
    assert label([str(tmp_path / "r.jsonl")], out, monkeypatch, ["1"]) == 0
    shown = capsys.readouterr().out
    assert "Response:\n(empty)" in shown
    assert "Input:" not in shown
    assert rows(out)[1] == ["i001", "muon/s0", "1"]


def test_what_is_no_file_of_scores_is_refused(tmp_path: Path, monkeypatch, capsys) -> None:
    files, out = write_files(tmp_path), tmp_path / "gold.csv"
    out.write_text("a,b\n1,2\n")
    assert label(files, out, monkeypatch, ["1"]) == 2
    said = capsys.readouterr().err
    assert "its columns are a, b, not instruction_id, model, score: name a new file" in said
    assert out.read_text() == "a,b\n1,2\n"
    assert label([str(tmp_path / "none")], tmp_path / "new.csv", monkeypatch, ["1"]) == 2
