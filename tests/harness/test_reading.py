"""What is read back from a disk, line by line and level by level; how a file is written."""

import errno
import json
import math
import os
import pickle
from contextlib import nullcontext
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from harness.records import RecordError
from harness.records.files import (
    append_json_lines,
    as_json,
    canonical_hash,
    flatten,
    flocked,
    plain,
    printable,
    write_atomic,
    write_together,
)
from harness.records.numbers import number
from harness.records.reading import (
    check_depth,
    check_version,
    is_there,
    json_object,
    metrics_row,
    read_bytes,
    read_json,
    read_json_lines,
    said,
    stepped,
)
from harness.records.responses import Response, read_judgements, read_responses, write_responses
from harness.records.secrets import masked


def nested(levels: int, kind: type) -> Any:
    tree: Any = kind()
    for _ in range(levels - 1):
        tree = [0, tree] if kind is list else {"a": 0, "b": tree}
    return tree


@pytest.mark.parametrize("kind", [list, dict])
def test_forty_levels_may_be_nested_and_one_more_may_not(kind: type) -> None:
    check_depth(nested(40, kind))
    with pytest.raises(ValueError, match=r"^it is nested too deeply$"):
        check_depth(nested(41, kind))
    with pytest.raises(ValueError, match="too deeply"):
        json_object(json.dumps({"a": nested(40, kind)}).encode())


def test_a_part_that_stands_for_another_is_refused_and_equal_parts_are_not() -> None:
    part: list[int] = [1]
    check_depth({"a": [1], "b": [1], "c": 1})
    for tree in ({"a": part, "b": part}, [part, [part]]):
        with pytest.raises(ValueError, match=r"\(an alias\): write it out"):
            check_depth(tree)


@pytest.mark.parametrize(
    ("name", "there", "words"),
    [
        ("file", True, None),
        ("gone", False, "No such file or directory"),
        ("file/below", False, "Not a directory"),
        ("x" * 300, True, "File name too long"),
        ("zero\0byte", True, "embedded null byte"),
    ],
)
def test_a_name_is_free_only_where_nothing_can_be_there(
    tmp_path, name: str, there: bool, words: str | None
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    path = tmp_path / name
    assert is_there(path) is there
    if words is None:
        assert read_bytes(path) == read_bytes(path, absent=b"none") == b"content"
        return
    with pytest.raises(RecordError) as caught:
        read_bytes(path)
    assert str(caught.value) == f"cannot read {path}: {words}"
    if there:
        with pytest.raises(RecordError, match=words):
            read_bytes(path, absent=b"none")
    else:
        assert read_bytes(path, absent=b"none") == b"none"


@pytest.mark.parametrize("found", ["1", "null", '"1"', f'"{"x" * 60}"'])
def test_another_version_is_told_in_at_most_forty_characters(found: str) -> None:
    raw = f'{{"schema_version": {found}}}'.encode()
    check_version(b'{"schema_version": 2}', 2)
    shown = {"null": "None"}.get(found, found.strip('"')[:40])
    words = f"it has schema version {shown}, this program reads 2: use the version of the project"
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its words are held whole
        check_version(raw, 2)
    assert str(caught.value) == f"{words} that wrote it"


def test_a_version_is_asked_for_only_where_a_file_has_one(tmp_path) -> None:
    (tmp_path / "a.json").write_text("[1]")
    assert read_json(tmp_path / "a.json", list[int]) == [1]
    with pytest.raises(RecordError, match=r"a\.json: Expected `object`, got `array`; restore it"):
        read_json(tmp_path / "a.json", list[int], 1)


def test_what_was_wrong_is_one_line_and_never_none() -> None:
    errors = (ValueError("a\n  b"), ValueError(), RecursionError("maximum"))
    assert [said(error) for error in errors] == ["a b", "ValueError", "it is nested too deeply"]


def test_an_unreadable_file_is_told_by_another_process_too() -> None:
    error = RecordError(reason="torn", file=Path("/a.json"))
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "cannot read /a.json: torn"


def test_lines_are_read_torn_broken_and_filtered_as_asked(tmp_path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"a": 1}\n{"b": \n{"b": x}\n{"b": 4}\n{"b"')
    broken: list[RecordError] = []
    assert read_json_lines(file, broken=broken) == [{"a": 1}, {"b": 4}]
    assert [str(error).partition(";")[0].split(":")[1] for error in broken] == [
        " line 2",
        " line 3",
    ]
    broken.clear()
    assert read_json_lines(file, broken=broken, skip_torn=True) == [{"a": 1}, {"b": 4}]
    (error,) = broken
    assert str(error).startswith(f"cannot read {file}: line 3: JSON is malformed")
    assert str(error).endswith("; restore the file, or delete that line")
    assert read_json_lines(file, holding='"a"') == [{"a": 1}]
    assert read_json_lines(file, holding="4") == [{"b": 4}]
    with pytest.raises(RecordError, match="line 3"):
        read_json_lines(file, skip_torn=True)
    assert read_json_lines(tmp_path / "gone") == []


@pytest.mark.parametrize("step", [None, "3", 1.5, -1])
def test_a_logged_step_has_counts(step: object) -> None:
    good = {"step": 0, "tokens": 0, "train_loss": None}
    assert metrics_row(json.dumps(good).encode()) == good
    assert stepped(b'{"step": -1, "text": "t"}') == {"step": -1, "text": "t"}
    for name in ("step", "tokens"):
        line = json.dumps(good | {name: step}).encode()
        with pytest.raises(ValueError, match=r"^(\w+ is .*, which is no count|Expected `int .*)$"):
            metrics_row(line)
    if step != -1:
        with pytest.raises(ValueError, match=f"^step is {step!r}, which is no count$"):
            stepped(json.dumps({"step": step}).encode())


@pytest.mark.parametrize("before", [b"", b"{", b"\n", b'{"a": 1}\n', b'{"a": 1}', b'{"a"\n{'])
def test_a_line_is_appended_on_a_line_of_its_own_to_the_byte(tmp_path, before: bytes) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(before)
    append_json_lines(file, [{"b": 2}, {"c": "é"}])
    torn = b"\n" if before and not before.endswith(b"\n") else b""
    assert file.read_bytes() == before + torn + b'{"b": 2}\n{"c": "\\u00e9"}\n'


def test_json_for_every_reader() -> None:
    assert as_json({"b": "é😀", "a": 1}) == '{"b": "\\u00e9\\ud83d\\ude00", "a": 1}'
    assert as_json(["\udcff", "😀"], indent=1) == '[\n "?",\n "\\ud83d\\ude00"\n]'
    for value in (math.nan, math.inf):
        for writes in (as_json, canonical_hash):
            with pytest.raises(ValueError, match="Out of range float"):
                writes([value])
    assert len(canonical_hash(1)) == 12
    assert canonical_hash(1, length=20).startswith(canonical_hash(1))
    assert len(canonical_hash(1, length=20)) == 20


def test_of_files_that_belong_together_none_is_written_where_one_cannot_be(tmp_path) -> None:
    first, second, third = (tmp_path / "in" / name for name in "abc")
    write_together({first: "é", second: b"\xff"})
    assert (first.read_bytes(), second.read_bytes()) == ("é".encode(), b"\xff")
    with pytest.raises(TypeError, match="a bytes-like object is required"):
        write_together({first: "new", second: 3, third: "new"})
    third.mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_together({first: "new", third: "new"})
    assert (caught.value.errno, caught.value.filename) == (errno.EISDIR, str(third))
    assert caught.value.strerror == os.strerror(errno.EISDIR)
    assert sorted(path.name for path in first.parent.iterdir()) == ["a", "b", "c"]
    assert first.read_text() == "é"
    write_atomic(first, "again")
    assert first.read_text() == "again"


class BusyError(Exception):
    pass


@pytest.mark.parametrize(
    ("held", "asked"), [(True, True), (True, False), (False, True), (False, False)]
)
def test_shared_locks_go_together_and_an_exclusive_one_alone(tmp_path, held, asked) -> None:
    file = tmp_path / "lock"
    with flocked(file):
        assert file.read_bytes() == b""
    file.write_text("kept")
    entered = []
    refused = nullcontext() if held and asked else pytest.raises(BusyError, match="held")
    with flocked(file, shared=held), refused, flocked(file, shared=asked, busy=BusyError("held")):
        entered.append(True)
    assert bool(entered) is (held and asked)
    assert file.read_text() == "kept"
    with pytest.raises(FileNotFoundError), flocked(tmp_path / "gone", shared=True):
        pass


class Colour(Enum):
    red = 1


@dataclass
class Part:
    colour: Colour
    sizes: tuple[int, ...]


def test_nested_values_become_plain_ones_and_dotted_keys() -> None:
    tree = {1: Part(Colour.red, (1, 2)), "b": [None, True, 0.5, "s"], "c": {}, "d": Path("/x")}
    assert plain(tree) == {"1": {"colour": "red", "sizes": [1, 2]}, "b": [None, True, 0.5, "s"],
                           "c": {}, "d": Path("/x")}  # fmt: skip
    assert flatten({"a": {"b": {"c": 1}, "d": [{"e": 2}]}, "f": {}}) == {
        "a.b.c": 1,
        "a.d": [{"e": 2}],
    }


def test_what_would_steer_a_terminal_is_spelt_out() -> None:
    assert printable("a\x1b\n\u202e\u2028é b") == "a\\x1b\\n\\u202e\\u2028é b"
    assert printable("a\n\tb", keep="\n") == "a\n\\tb"


@pytest.mark.parametrize(
    ("kind", "bounds", "good", "bad", "words"),
    [
        (int, {"at_least": 1, "at_most": 3}, ["1", "3"], ["0", "4", "1.5", ""],
         "is no whole number at least 1 and at most 3"),
        (float, {"above": 0, "below": 0.5}, ["1e-9", "0.49"], ["0", "0.5", "nan", "x"],
         "is no number above 0 and below 0.5"),
        (float, {}, ["-1e300"], ["inf", "-inf", "nan"], "is no number"),
        (int, {}, ["-3"], ["1" * 400], "is no whole number"),
    ],
)  # fmt: skip
def test_a_number_on_a_command_line_is_refused_in_words_outside_its_bounds(
    kind, bounds, good, bad, words
) -> None:
    read = number(kind, **bounds)
    assert [read(text) for text in good] == [kind(text) for text in good]
    for text in bad:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - its type is told below
            read(text)
        assert type(caught.value).__name__ == "ArgumentTypeError"
        assert str(caught.value) == f"{text!r} {words}"


def test_secrets_are_hidden_by_the_words_of_their_keys() -> None:
    given = ["a.token=1", "tokens=1", "API-KEY=x=y", "x={pass:1, my_password : 2}", "key",
             "+hydra.job.env_set.ANY=1", "hydra.job.name=1"]  # fmt: skip
    assert masked(given) == ["a.token=***", "tokens=1", "API-KEY=***",
                             "x={pass:1, my_password : ***}", "key",
                             "+hydra.job.env_set.ANY=***", "hydra.job.name=1"]  # fmt: skip


def answer() -> Response:
    return Response(model="m", arm="a", seed=0, instruction_id="i", instruction="do", input="",
                    reference="r", response="s", truncated=False)  # fmt: skip


def test_responses_are_appended_below_a_folder_that_need_not_be_there(tmp_path) -> None:
    file = tmp_path / "deep" / "down" / "responses.jsonl"
    for _ in range(2):
        write_responses(file, [answer()])
    assert read_responses(file) == [answer()] * 2
    assert json.loads(file.read_text().splitlines()[0])["schema_version"] == 1


def test_responses_are_whole_and_judgements_may_hold_a_torn_line(tmp_path) -> None:
    file = tmp_path / "a.jsonl"
    for read in (read_responses, read_judgements):
        with pytest.raises(RecordError, match="it is no file: name a file of JSON lines"):
            read(file)
    write_responses(file, [answer()])
    file.write_bytes(b'{"mod\n' + file.read_bytes())
    with pytest.raises(RecordError, match="line 1: "):
        read_responses(file)
    file.write_bytes(b'{"call\n')
    assert read_judgements(file) == []
    write_responses(file, [answer()])
    with pytest.raises(RecordError, match="line 2: Object missing required field"):
        read_judgements(file)
    file.write_text(file.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(RecordError, match="it has schema version 2, this program reads 1"):
        read_judgements(file)
