import dataclasses
from pathlib import Path

import pytest

from harness.config import DataConfig, Source
from harness.data.corpus import DataError, prepare
from harness.data.text import documents, text_files


def texts(files: list[Path], separator: str | None = None) -> list[str]:
    return [text for text, _ in documents(files, separator)]


def write(folder: Path, **contents: str) -> list[Path]:
    files = []
    for name, content in contents.items():
        files.append(folder / f"{name}.txt")
        files[-1].write_bytes(content.encode())
    return files


def test_one_file_is_one_document_line_ends_untouched(tmp_path: Path) -> None:
    files = write(tmp_path, a="one\r\ntwo\n", b="drei — 3")
    assert texts(files) == ["one\r\ntwo\n", "drei — 3"]


def test_a_separator_cuts_files_into_documents(tmp_path: Path) -> None:
    files = write(tmp_path, a="one<|endoftext|>two<|endoftext|>", b="three")
    assert texts(files, "<|endoftext|>") == ["one", "two", "three"]


def test_a_separator_written_with_backslash_n_means_line_breaks(tmp_path: Path) -> None:
    assert texts(write(tmp_path, a="one\n\n\ntwo\n\nstill two"), r"\n\n\n") == [
        "one",
        "two\n\nstill two",
    ]


def test_a_byte_order_mark_is_not_text(tmp_path: Path) -> None:
    assert texts(write(tmp_path, a="\ufeffone")) == ["one"]


def test_an_empty_file_is_no_document(tmp_path: Path) -> None:
    assert texts(write(tmp_path, a="", b="two")) == ["two"]


def test_the_fraction_read_grows_to_one(tmp_path: Path) -> None:
    files = write(tmp_path, a="x" * 30, b="y" * 10)
    assert [frac for _, frac in documents(files, None)] == [0.75, 1.0]


@pytest.mark.parametrize("separator", [None, "--"])
def test_text_that_is_not_utf8_names_the_file_and_the_byte(
    separator: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "latin1.txt"
    file.write_bytes("abc--caf\xe9 au lait".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin1.txt is not UTF-8: byte 0xe9 at offset 8"):
        texts([file], separator)


def test_a_folder_is_read_in_sorted_order_without_hidden_files(tmp_path: Path) -> None:
    write(tmp_path, b="b", a="a", **{".hidden": "h"})
    (tmp_path / "below").mkdir()
    write(tmp_path / "below", c="c")
    (tmp_path / ".git").mkdir()
    write(tmp_path / ".git", d="d")
    found = text_files(DataConfig(source=Source.text, path=str(tmp_path)))
    assert texts(found) == ["a", "b", "c"]


def test_a_glob_picks_files(tmp_path: Path) -> None:
    write(tmp_path, a="a", b="b")
    (tmp_path / "c.md").write_text("c")
    found = text_files(DataConfig(source=Source.text, path=str(tmp_path / "**/*.txt")))
    assert [file.name for file in found] == ["a.txt", "b.txt"]


@pytest.mark.parametrize(
    ("path", "said"), [(None, "data.path is not set"), ("/no/such", "names no file")]
)
def test_a_path_that_names_nothing_is_refused(path: str | None, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        prepare(DataConfig(name="none", source=Source.text, path=path), tmp_path)


def test_one_document_is_too_few_and_the_error_says_how_to_cut_it(tmp_path: Path) -> None:
    config = DataConfig(name="one", source=Source.text, path=str(*write(tmp_path, a="text")))
    with pytest.raises(DataError, match=r"empty: 1 documents .*data\.document_separator"):
        prepare(config, tmp_path / "data")


def test_text_that_changed_since_is_refused_instead_of_ignored(
    text_config: DataConfig, books: Path, tmp_path: Path
) -> None:
    prepare(text_config, tmp_path / "data")
    (books / "new.txt").write_text("one more")
    with pytest.raises(DataError, match="has changed since"):
        prepare(text_config, tmp_path / "data")
    prepare(dataclasses.replace(text_config, name="books2"), tmp_path / "data")
