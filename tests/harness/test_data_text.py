import dataclasses
import shutil
from pathlib import Path

import pytest

from harness.cell.freeze import freeze
from harness.config import DataConfig, Source
from harness.data.corpus import open_corpus, prepare
from harness.data.manifest import SPLITS, DataError, corpus_folder, request
from harness.data.text import documents, text_files
from harness.prepare import main
from tests.configs import load


def texts(files: list[Path], separator: str | None = None) -> list[str]:
    return [text for text, _ in documents(files, DataConfig(document_separator=separator))]


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
    assert [frac for _, frac in documents(files, DataConfig())] == [0.75, 1.0]


@pytest.mark.parametrize("separator", [None, "--"])
def test_text_that_is_not_utf8_names_the_file_and_the_byte(
    separator: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "latin1.txt"
    file.write_bytes("abc--caf\xe9 au lait".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin1.txt is not UTF-8: byte 0xe9 at offset 8"):
        texts([file], separator)


PROSE = "".join(f"Line {n} of a tale — told anew.\n" + "\n" * (n % 7 == 0) for n in range(6000))


def test_one_long_file_is_cut_at_blank_lines_into_pieces_that_join_to_it(tmp_path: Path) -> None:
    found = texts(write(tmp_path, a=PROSE))
    assert "".join(found) == PROSE
    assert 200 <= len(found) <= 400
    assert all(text.endswith("\n\n") for text in found[:-1])
    least = len(PROSE.encode()) // 400
    assert all(least <= len(text.encode()) <= 2 * least for text in found[:-1])


@pytest.mark.parametrize(
    ("unit", "cut"), [("word\r\n\r\n", "\r\n\r\n"), ("a line\n", "\n"), ("word ", " "), ("数é", "")]
)
def test_a_text_without_blank_lines_is_cut_at_the_next_best_place_and_never_in_a_character(
    unit: str, cut: str, tmp_path: Path
) -> None:
    text = unit * (200_000 // len(unit))
    found = texts(write(tmp_path, a=text))
    assert "".join(found) == text
    assert 200 <= len(found) <= 400
    assert all(piece.endswith(cut) for piece in found)


def test_enough_files_are_documents_as_they_are(tmp_path: Path) -> None:
    files = write(tmp_path, **{f"{n:03}": "x" * 3000 for n in range(199)}, long=PROSE)
    assert texts(files)[-1] == PROSE
    assert len(texts(files)) == 200
    assert len(texts(files[1:])) > 250


def test_one_long_file_simply_works_with_splits_that_share_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = str(*write(tmp_path, a=PROSE))
    arguments = ["data=text", f"data.path={file}", f"data_dir={tmp_path / 'data'}"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert said.count("\n") == 2
    assert said.startswith("cut at blank lines where there are any")
    assert "Pieces of 1 of the 1 files are both in train and in test" in said
    corpus = open_corpus(load(arguments).data, tmp_path / "data")
    sizes = {split: len(corpus.tokens(split)) for split in SPLITS}
    assert 0.02 < sizes["test"] / sum(sizes.values()) < 0.1
    assert 0.02 < sizes["val"] / sum(sizes.values()) < 0.1
    n_documents = sum(len(corpus.document_starts(split)) for split in SPLITS)
    assert sum(sizes.values()) == len(PROSE.encode()) + n_documents


def test_files_that_are_never_cut_lie_whole_in_one_split(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "few").mkdir()
    files = write(tmp_path / "few", **{f"{n:02}": f"Tale {n}.\n\n" * 90 for n in range(20)})
    arguments = ["data=text", f"data.path={tmp_path / 'few'}", f"data_dir={tmp_path / 'data'}"]
    arguments += ["data.val_frac=0.2", "data.test_frac=0.2"]
    assert main(arguments) == 0
    assert "of the 20 files are both in train and in test" in capsys.readouterr().out
    assert main([*arguments, "data.cut=never"]) == 0
    assert "20 files, each whole in one split" in capsys.readouterr().out
    whole, cut = (load([*arguments, *more]).data for more in (["data.cut=never"], []))
    corpus = open_corpus(whole, tmp_path / "data")
    assert sum(len(corpus.document_starts(split)) for split in SPLITS) == len(files)
    assert "cut" not in request(cut)
    with pytest.raises(DataError, match="keeps files whole, and"):
        prepare(dataclasses.replace(whole, document_separator="--"), tmp_path / "data")


def test_a_path_names_one_corpus_however_it_is_spelt(
    books: Path, text_config: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(books.parent)
    monkeypatch.setenv("HOME", str(books.parent))
    (books.parent / "link").symlink_to(books)
    spelt = ["books", "books/", "./books", "../" + books.parent.name + "/books", str(books)]
    spelt += ["~/books", "link"]
    configs = [dataclasses.replace(text_config, path=path) for path in spelt]
    assert len({corpus_folder(config, Path("data")) for config in configs}) == 1
    assert [text_files(config)[7].name for config in configs] == ["007.txt"] * 7
    elsewhere = dataclasses.replace(text_config, path="books/*.txt")
    assert corpus_folder(elsewhere, Path("data")) != corpus_folder(configs[0], Path("data"))


def test_the_home_of_somebody_unknown_is_a_path_that_is_not_there(
    text_config: DataConfig, tmp_path: Path
) -> None:
    elsewhere = dataclasses.replace(text_config, path="~nobody-of-this-name/books")
    with pytest.raises(DataError, match="~nobody-of-this-name/books"):
        prepare(elsewhere, tmp_path)


def test_equal_texts_in_two_places_are_one_dataset(
    books: Path, text_config: DataConfig, tmp_path: Path
) -> None:
    copy = shutil.copytree(books, tmp_path / "copy")
    here = prepare(text_config, tmp_path / "data")
    there = prepare(dataclasses.replace(text_config, path=str(copy)), tmp_path / "data")
    assert here.folder != there.folder
    assert here.dataset_sha256 == there.dataset_sha256


def test_the_text_is_part_of_a_cells_identity_and_its_path_is_not(
    tmp_path: Path, tiny: list[str]
) -> None:
    def cell(folder: str, text: str) -> str:
        (tmp_path / folder).mkdir()
        (file,) = write(tmp_path / folder, a=text)
        chosen = [*tiny, "data=text", f"data.path={file}", f"data_dir={tmp_path / 'data'}"]
        config = load(chosen)
        prepare(config.data, tmp_path / "data")
        return freeze(config).name

    here = cell("here", PROSE)
    assert cell("there", PROSE) == here
    assert cell("edited", PROSE.replace("Line 7 ", "Line 8 ")) != here


def test_text_that_changed_since_it_was_prepared_trains_nothing(
    tmp_path: Path, tiny: list[str]
) -> None:
    (file,) = write(tmp_path, a=PROSE)
    chosen = ["data=text", f"data.path={tmp_path}/*.txt", f"data_dir={tmp_path / 'data'}"]
    config = load([*tiny, *chosen])
    prepare(config.data, tmp_path / "data")
    freeze(config)
    file.write_text(PROSE + "One more line.")
    with pytest.raises(DataError, match="has changed since"):
        freeze(load([*tiny, *chosen]))
    file.unlink()  # as on a machine that has the prepared corpus alone
    freeze(load([*tiny, *chosen]))


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
    config = DataConfig(name="none", source=Source.text, path=path)
    for step in (prepare, open_corpus):
        with pytest.raises(DataError, match=said):
            step(config, tmp_path)


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
