"""What a record and a plan hold: every default, every bound on both of its sides."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from msgspec import ValidationError

from harness.records import (
    RecordError,
    RunRecord,
    Seeds,
    StudyPlan,
    find_records,
    read_plan,
    read_record,
    write_plan,
    write_record,
)
from harness.records.benchmarks import ItemScore, TaskRun, read_task, write_task
from harness.records.files import now
from harness.records.reading import (
    Amount,
    Count,
    Figure,
    FolderName,
    Large,
    Positive,
    Whole,
    decoder,
)
from harness.records.responses import (
    Entry,
    Judgement,
    Kind,
    Outcome,
    read_judgements,
    write_judgement,
)

FEW = {"study": "s", "arm": "a", "interventions": [], "cell": "c", "n_steps": 10}
"""All that a record must say, beside its seeds."""


def few() -> RunRecord:
    return RunRecord(**FEW, seeds=Seeds(init=1, data=2, loop=3))


def nothing_of(kind: type, **said: object) -> dict[str, object]:
    return dict.fromkeys(kind.__dataclass_fields__) | said


@pytest.mark.parametrize(
    ("kind", "within", "beyond"),
    [
        (Count, [0, 2**63 - 1], [-1, 2**63]),
        (Whole, [-(2**63), 2**63 - 1], [-(2**63) - 1, 2**63]),
        (Positive, [1, 2**63 - 1], [0, 2**63]),
        (Figure, [-1e30, 1e30], [-1.01e30, 1.01e30, math.inf, math.nan]),
        (Amount, [0, 1e30], [-1e-9, 1.01e30]),
        (Large, [0, 1e60], [-1e-9, 1.01e60]),
        (FolderName, ["x", ".x", "...", "x" * 255], ["", ".", "..", "x/y", "x\0", "x" * 256]),
    ],
)
def test_a_number_and_a_name_are_read_to_their_bounds(
    kind: Any, within: list, beyond: list
) -> None:
    read = decoder(kind)
    assert [read(json.dumps(value).encode()) for value in within] == within
    for value in beyond:
        with pytest.raises(ValueError):  # noqa: PT011 - msgspec's words, or its JSON's
            read(json.dumps(value).encode())


def test_a_record_that_says_the_least_has_these_defaults() -> None:
    record = asdict(few())
    losses = {"train": None, "val": None, "test": None, "bits_per_byte": None, "tests": {}}
    cost = {"train_seconds": 0.0, "tokens_per_second": None, "flops": None, "mfu": None,
            "peak_memory_bytes": None, "usd": None}  # fmt: skip
    fingerprints = {"init": {}, "data_order": None, "data_shuffled": None, "final_weights": None}
    provenance = nothing_of(
        type(few().provenance), untracked={}, sources={}, kept_sources=[], packages={},
        n_devices=1, compile=False, command=[],
    )  # fmt: skip
    assert record == FEW | {
        "schema_version": 1, "cards": {}, "changes": {}, "version": None, "recipe": None,
        "tuning": False, "equal_budget": None, "seeds": {"init": 1, "data": 2, "loop": 3},
        "status": "running", "step": 0, "tokens": 0, "n_tokens": 0, "n_params": 0,
        "skipped_steps": 0, "losses": losses, "cost": cost, "fingerprints": fingerprints,
        "provenance": provenance, "started": None, "updated": None, "finished": None,
        "error": None, "line_to_fix": None,
    }  # fmt: skip


def test_a_plan_that_says_the_least_has_these_defaults_and_is_written_for_people(tmp_path) -> None:
    plan = StudyPlan(study="s")
    expected = {"schema_version": 1, "study": "s", "alpha": 0.05, "rope": None, "looks": [],
                "cells": [], "tuning": {}, "code": [], "created": None}  # fmt: skip
    write_plan(tmp_path, plan)
    assert (tmp_path / "plan.json").read_text() == json.dumps(expected, indent=1) + "\n"
    assert read_plan(tmp_path) == plan
    assert read_plan(tmp_path / "plan.json") is None


@pytest.mark.parametrize(("alpha", "read"), [(0, False), (1e-9, True), (0.999, True), (1, False)])
def test_a_plans_alpha_lies_between_0_and_1(tmp_path, alpha: float, read: bool) -> None:
    (tmp_path / "plan.json").write_text(
        json.dumps({"schema_version": 1, "study": "s", "alpha": alpha})
    )
    if read:
        assert read_plan(tmp_path).alpha == alpha
    else:
        with pytest.raises(RecordError, match=r"`\$\.alpha`; restore it, or move it away$"):
            read_plan(tmp_path)


@pytest.mark.parametrize("pair", [[], [1], [1, 2], [1, 2, 3]])
def test_a_change_has_a_value_before_and_one_after(tmp_path, pair: list[int]) -> None:
    record = few()
    record.changes = {"optim.lr": pair}
    write_record(tmp_path, record)
    if len(pair) == 2:
        assert read_record(tmp_path).changes == {"optim.lr": pair}
    else:
        with pytest.raises(RecordError, match="Expected `array` of length"):
            read_record(tmp_path)


def test_a_record_is_read_by_its_file_and_by_its_folder_as_it_was_written(tmp_path) -> None:
    record = few()
    before = now()
    write_record(tmp_path, record)
    assert before <= record.updated <= now()
    assert read_record(tmp_path) == read_record(tmp_path / "record.json") == record
    assert (tmp_path / "record.json").read_text() == json.dumps(asdict(record), indent=1) + "\n"


@pytest.mark.parametrize("card", [{"published_delta": "-0.1"}, {"control": 1}, {"control": None}])
def test_a_card_that_cannot_be_computed_with_is_refused(tmp_path, card: dict) -> None:
    record = few()
    record.cards = {"a": card}
    write_record(tmp_path, record)
    with pytest.raises(RecordError, match=r"Expected `.*restore it, or move it away$"):
        read_record(tmp_path)


@pytest.mark.parametrize("part", ["cards", "changes"])
def test_no_card_and_no_change_is_nested_without_end(tmp_path, part: str) -> None:
    deep: Any = []
    for _ in range(60):
        deep = [deep]
    record = few()
    record.cards, record.changes = ({"a": {"note": deep}}, {}) if part == "cards" else (
        {}, {"k": [1, deep]})  # fmt: skip
    write_record(tmp_path, record)
    with pytest.raises(RecordError, match="it is nested too deeply; restore it"):
        read_record(tmp_path)


def test_records_are_found_once_each_by_their_first_name_and_none_inside_a_cell(tmp_path) -> None:
    names = [f"{number:02}" for number in range(10)]
    for name in names:
        cell = tmp_path / f"z{name}" / "cell"
        write_record(cell, few())
        write_record(cell / "inside", few())
        (tmp_path / f"a{name}").symlink_to(tmp_path / f"z{name}")
    (tmp_path / "z00" / "back").symlink_to(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd" / "record.json").mkdir(parents=True)
    found = find_records(tmp_path)
    odd = tmp_path / "odd" / "record.json"
    assert found == [*(tmp_path / f"a{name}" / "cell" / "record.json" for name in names), odd]
    whole: list[RecordError] = []
    assert find_records(found[0], whole) == found[:1]
    assert whole == []


def test_a_folder_that_cannot_be_entered_is_noted_where_that_is_asked(tmp_path) -> None:
    gone, closed = tmp_path / "gone", []
    assert find_records(gone) == find_records(gone, closed) == []
    assert list(map(str, closed)) == [f"cannot read {gone}: No such file or directory"]


TASK = {"task": "a b/c.d-e_f", "source": "bundled", "items_sha256": "0", "model": "m",
        "weights_sha256": "0", "precision": "float32", "created": "2026-01-01"}  # fmt: skip


def score(nats: list[float], answer: int = 0, *, greedy: bool = False) -> ItemScore:
    return ItemScore(item="i", group="g", answer=answer, nats=nats, lengths=[4, 0, 1][: len(nats)],
                     greedy=greedy)  # fmt: skip


def test_a_tasks_answers_are_read_as_they_were_written_under_a_name_for_a_file(tmp_path) -> None:
    run, scores = TaskRun(**TASK, n_items=2, n_cut=0), [score([-1.0]), score([-1.0, -2.0], 1)]
    file = write_task(tmp_path, run, scores)
    assert file == tmp_path / "benchmarks" / "a_b_c.d-e_f.jsonl"
    assert read_task(file) == (run, scores)
    assert asdict(run) == TASK | {
        "schema_version": 1, "n_items": 2, "n_cut": 0, "final_weights": None, "cell": None,
        "in_study": False, "metrics": {}, "provenance": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"n_items": 2}, "it has 1 of 2 items"),
        (
            {"schema_version": 2},
            "it has schema version 2, this program reads 1: use the version of",
        ),
        ({"answer": 1}, "item 'i' has 1 choices, 1 lengths and the answer 1"),
        ({"lengths": []}, "item 'i' has 1 choices, 0 lengths and the answer 0"),
        ({"nats": [], "lengths": []}, "item 'i' has 0 choices, 0 lengths and the answer 0"),
    ],
)
def test_answers_that_do_not_fit_together_are_refused(tmp_path, changed: dict, words: str) -> None:
    file = write_task(tmp_path, TaskRun(**TASK, n_items=1, n_cut=0), [score([-1.0])])
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        row |= {key: value for key, value in changed.items() if key in row}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(RecordError, match=rf": {words}.*; evaluate the model again$"):
        read_task(file)
    file.write_bytes(b"")
    with pytest.raises(RecordError, match="truncated; evaluate the model again"):
        read_task(file)


def test_a_choice_is_right_by_its_nats_or_by_its_nats_a_character() -> None:
    # of 4, 0 and 1 characters: -2, -3 and -1 nats are -0.5, -3 and -1 of each
    item = score([-2.0, -3.0, -1.0])
    assert (item.margin(), item.right()) == (-1.0, False)
    assert (item.margin(per_character=True), item.right(per_character=True)) == (0.5, True)
    assert not score([-2.0, -2.0]).right()
    assert score([-2.0, -2.25]).right()
    alone = [score([-2.0], greedy=greedy) for greedy in (True, False)]
    assert [(s.margin(), s.margin(per_character=True), s.right()) for s in alone] == [
        (-2.0, -0.5, True), (-2.0, -0.5, False)]  # fmt: skip


def test_a_judgement_says_this_where_it_says_the_least(tmp_path) -> None:
    said = {"call": "h", "judge": "j", "judge_version": "v", "instruction_id": "i", "order": 0,
            "outcome": "scored", "answer": "a", "time": "t"}  # fmt: skip
    entry = {"slot": 0, "token": "A", "kind": "empty", "n_characters": 0}
    judgement = Judgement(
        **said | {"outcome": Outcome.SCORED}, entries=[Entry(**entry | {"kind": Kind.EMPTY})]
    )
    write_judgement(tmp_path / "judgements.jsonl", judgement)
    assert json.loads((tmp_path / "judgements.jsonl").read_text()) == said | {
        "schema_version": 1, "fingerprint": None, "input_tokens": 0, "output_tokens": 0,
        "entries": [entry | {"model": "", "arm": "", "train_seed": None, "seed": None,
                             "score": None}],
    }  # fmt: skip
    assert read_judgements(tmp_path / "judgements.jsonl") == [judgement]
    assert [outcome.value for outcome in Outcome if outcome.has_scores] == ["scored", "partial"]


@pytest.mark.parametrize(
    ("points", "read"), [(0, True), (100, True), (-0.5, False), (100.5, False)]
)
def test_a_score_lies_between_0_and_100(points: float, read: bool) -> None:
    line = json.dumps(
        {"slot": 0, "token": "A", "kind": "empty", "n_characters": 0, "score": points}
    )
    if read:
        assert decoder(Entry)(line.encode()).score == points
    else:
        with pytest.raises(ValidationError):
            decoder(Entry)(line.encode())


def test_a_folder_above_a_record_need_not_be_there(tmp_path: Path) -> None:
    write_record(tmp_path / "deep" / "down", few())
    assert read_record(tmp_path / "deep" / "down").arm == "a"
