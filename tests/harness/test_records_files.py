"""JSON lines as runs write and read them, with what kills and other writers leave."""

import json
import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.engine import checkpoint
from harness.records import RecordError
from harness.records.files import append_json_lines, flocked, write_atomic
from harness.records.reading import read_json_lines


def test_what_was_appended_is_read_back(tmp_path) -> None:
    file = tmp_path / "rows.jsonl"
    assert read_json_lines(file) == []
    append_json_lines(file, [{"step": 1}, {"step": 2, "text": "é \u2028 \n"}])
    append_json_lines(file, [])
    append_json_lines(file, [{"step": 3}])
    assert [row["step"] for row in read_json_lines(file)] == [1, 2, 3]
    assert read_json_lines(file)[1]["text"] == "é \u2028 \n"


@pytest.mark.parametrize("torn", [b'{"step": 2, "lo', b"\x00\x00\x00", b"\xff{", b"2"])
def test_a_torn_last_line_is_left_out_and_spoils_nothing_that_follows(tmp_path, torn) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"step": 1}\n' + torn)
    assert read_json_lines(file) == [{"step": 1}]
    append_json_lines(file, [{"step": 3}])
    assert read_json_lines(file, skip_torn=True) == [{"step": 1}, {"step": 3}]


@pytest.mark.parametrize("broken", ["{", "[1]", "3"])
def test_a_broken_line_among_others_is_named(tmp_path, broken: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f'{{"step": 1}}\n{broken}\n{{"step": 3}}\n')
    with pytest.raises(RecordError, match=r"rows\.jsonl: line 2: .*delete that line"):
        read_json_lines(file)


def _append(file: Path, name: int) -> None:
    for i in range(50):
        append_json_lines(file, [{"name": name, "i": i, "text": "x" * 20_000}])


def test_a_writer_waits_for_another_whose_line_is_half_written(tmp_path) -> None:
    file = tmp_path / "rows.jsonl"
    writer = threading.Thread(target=append_json_lines, args=(file, [{"step": 2}]))
    with flocked(file):
        with file.open("ab") as half:
            half.write(b'{"st')
        writer.start()
        writer.join(0.2)
        assert file.read_bytes() == b'{"st'
        with file.open("ab") as rest:
            rest.write(b'ep": 1}\n')
    writer.join()
    assert read_json_lines(file) == [{"step": 1}, {"step": 2}]


def test_several_processes_append_whole_lines(tmp_path) -> None:
    file = tmp_path / "rows.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append, args=(file, name)) for name in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert all(json.loads(line) for line in file.read_text().splitlines())
    assert sorted((row["name"], row["i"]) for row in read_json_lines(file)) == [
        (name, i) for name in range(3) for i in range(50)
    ]


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_atomic(folder / "record.json", "{}"),
        lambda folder: checkpoint.save(folder, 1, {"step": 1}, keep=1),
    ],
)
def test_a_file_is_on_the_disk_before_it_takes_the_place_of_another(
    write: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []
    replace = Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: done.append(os.fstat(file).st_size > 0))
    monkeypatch.setattr(Path, "replace", lambda *paths: done.append("replaced") or replace(*paths))
    write(tmp_path)
    assert done == [True, "replaced"]
