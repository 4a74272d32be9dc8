"""Which files are text: through links, and nothing that this program wrote."""

import json
from pathlib import Path

import pytest

from harness.config import DataConfig, Source
from harness.data.find import find
from harness.data.manifest import DataError, request
from harness.data.text import documents, files_without
from harness.prepare import main


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "disk" / "books").mkdir(parents=True)
    (tmp_path / "disk" / "books" / "b.txt").write_text("b")
    (tmp_path / "disk" / "books" / "loop").symlink_to("..")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "own.txt").write_text("own")
    (tmp_path / "corpus" / "books").symlink_to("../disk/books")
    (tmp_path / "corpus" / "again").symlink_to("../disk/books")
    return tmp_path / "corpus"


@pytest.mark.parametrize("path", ["", "**/*.txt"])
def test_linked_folders_are_followed_once_and_counted(corpus: Path, path: str) -> None:
    found = find(str(corpus / path))
    assert sorted(file.name for file in found.files) == ["b.txt", "own.txt"]
    assert bool(found.links) is (path == "")


@pytest.mark.parametrize("path", ["", "**/*.txt"])
@pytest.mark.parametrize(
    ("folder", "files"),
    [("runs/mine", ["commands.jsonl"]), ("runs/mine", ["plan.json"]),
     ("deep/a/cell", ["config.yaml", "record.json"]), ("data/x-1", ["manifest.json", "train.bin"])],
)  # fmt: skip
def test_what_this_program_wrote_is_no_text(
    corpus: Path, path: str, folder: str, files: list[str]
) -> None:
    at = corpus / folder
    (at / "baseline").mkdir(parents=True)
    for name in files:
        (at / name).write_text("{}")
    (at / "baseline" / "log.txt").write_text("step 1")
    found = find(str(corpus / path))
    assert "log.txt" not in {file.name for file in found.files}
    assert found.ours == [str(at)]


def test_a_separator_with_line_breaks_matches_either_kind(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\n\r\ntwo")
    (tmp_path / "b.txt").write_bytes(b"one\n\ntwo")
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    assert [text for text, _ in documents(files, DataConfig(document_separator=r"\n\n"))] == [
        "one",
        "two",
    ] * 2


def test_a_separator_that_never_occurs_is_refused_and_one_that_does_not_everywhere_counted(
    tmp_path: Path,
) -> None:
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    files[0].write_text("one<|end|>two")
    files[1].write_text("three")
    assert files_without(files, "<|end|>") == 1
    with pytest.raises(DataError, match=r"'<\|END\|>' does not occur in any of the 2"):
        files_without(files, "<|END|>")


def test_json_lines_are_read_through_a_field_and_counted(tmp_path: Path, capsys) -> None:
    rows = [{"id": i, "body": f"document {i} " + "word " * (20 + i % 7)} for i in range(400)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    at = ["data=text", f"data.path={tmp_path / 'a.jsonl'}", f"data_dir={tmp_path / 'data'}"]
    assert main(at) == 2
    assert (
        "line 1 has no text in the field 'text'; its fields are id, body" in capsys.readouterr().err
    )
    assert main([*at, "data.text_column=body"]) == 0
    assert "1 read as JSON lines: the field 'body' of each line" in capsys.readouterr().out


def test_corpora_of_text_keep_their_folders() -> None:
    config = DataConfig(source=Source.text, path="a.txt")
    assert "text_column" not in request(config)
    assert request(DataConfig(source=Source.text, path="a", text_column="b"))["text_column"] == "b"
