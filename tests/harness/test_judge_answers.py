"""What is read out of a judge's answer, and what is missing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.scripted_judge import ScriptedJudge, completion
from harness.evals.judging.prompt import read_scores
from harness.records.responses import Outcome, read_judgements
from tests.harness.judged_files import ORDERS, Faulty, N, ask, flat, write_files


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    return write_files(tmp_path)


def test_what_cannot_be_read_is_missing_and_counted_never_zero(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "j.jsonl"
    faults = [
        (200, completion("Sorry, here are my thoughts"), {}),
        (200, completion('{"a": 1', finish_reason="length"), {}),
        (200, completion(None, refusal="I cannot judge this"), {}),
        (200, completion(None, finish_reason="content_filter"), {}),
        (200, completion("[1, 2]"), {}),
        (200, {**completion("{}"), "choices": []}, {}),
        (400, {"error": {"message": "no", "code": "content_filter"}}, {}),
    ]
    with Faulty(*faults) as judge:
        assert ask(judge, files, out, "--yes", "--workers", "1") == 0
        outcomes = Counter(j.outcome for j in read_judgements(out))
        assert outcomes == {
            Outcome.UNPARSED: 3,
            Outcome.TRUNCATED: 1,
            Outcome.REFUSED: 3,
            Outcome.SCORED: 5,
        }
        for judgement in read_judgements(out):
            if judgement.outcome is not Outcome.SCORED:
                assert {e.score for e in judgement.entries} == {None}
        assert "5 scored, 1 truncated, 3 unparsed" in capsys.readouterr().out
        before = len(judge.requests)
        assert ask(judge, files, out, "--yes", "--again") == 0
        assert len(judge.requests) == before + 7


def test_scores_that_are_missing_or_out_of_range_are_none() -> None:
    answer = json.dumps({"a": 101, "b": 7, "c": True, "d": "90", "e": -1, "stranger": 5})
    assert read_scores(answer, ["a", "b", "c", "d", "e", "f"]) == [
        None,
        7.0,
        None,
        None,
        None,
        None,
    ]
    assert read_scores('{"a": NaN}', ["a"]) == [None]
    assert read_scores('"100"', ["a"]) is None


@pytest.mark.parametrize("opening", ["```json\n", "```\n", "\n```json \r\n"])
def test_an_answer_in_a_code_fence_counts_as_the_same_answer_without(
    files: list[str], tmp_path: Path, opening: str
) -> None:
    class Fencing(ScriptedJudge):
        def answer(self, request):
            return f"{opening}{super().answer(request)}\n```\n"

    out, plain = tmp_path / "j.jsonl", tmp_path / "plain.jsonl"
    for kind, file in ((Fencing, out), (ScriptedJudge, plain)):
        with kind(flat) as judge:
            assert ask(judge, files, file, "--yes", "--no-schema", "--workers", "1") == 0
    assert {j.outcome for j in read_judgements(out)} == {Outcome.SCORED}
    assert [j.entries for j in read_judgements(out)] == [j.entries for j in read_judgements(plain)]


@pytest.mark.parametrize(
    "answer",
    [
        'Here it is:\n```json\n{"a": 5}\n```',
        '```json\n{"a": 5}\n```\nI hope that this helps',
        '```json\n{"a": 5}\n```\n```json\n{"a": 6}\n```',
        '```json\n{"a": 5}',
        '```python\n{"a": 5}\n```',
        "[" * 100_000,
        '```json\n' + '{"a":' * 100_000 + "\n```",
    ],
)  # fmt: skip
def test_nothing_but_one_object_is_read_however_it_is_wrapped(answer: str) -> None:
    assert read_scores(answer, ["a"]) is None


def test_a_judge_that_cannot_be_read_stops_before_all_is_paid(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "j.jsonl"
    with Faulty(*[(200, completion("Sure! {}"), {})] * 10) as judge:
        assert ask(judge, files, out, "--yes", "--workers", "1") == 2
        assert "10 answers in a row could not be read" in capsys.readouterr().err
        assert ask(judge, files, out, "--yes", "--again") == 0
    last = {j.call: j.outcome for j in read_judgements(out)}
    assert list(last.values()) == [Outcome.SCORED] * N * ORDERS
