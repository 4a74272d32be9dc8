import dataclasses
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.config import DataConfig, Source, Tokenizer
from harness.data import build, manifest, tokens
from harness.data.corpus import (
    Corpus,
    ensure_prepared,
    open_corpus,
    prepare,
)
from harness.data.manifest import SPLITS, DataError, corpus_folder, read_manifest
from harness.data.tokens import split_of
from tests.configs import load

END = 256


def documents(corpus: Corpus, split: str) -> list[str]:
    """Cut a byte-level split at its document starts and decode it."""
    found = corpus.tokens(split)
    starts = [*corpus.document_starts(split).tolist(), len(found)]
    pieces = [found[a:b] for a, b in itertools.pairwise(starts)]
    assert all(piece[-1] == END for piece in pieces)
    assert not any((piece[:-1] == END).any() for piece in pieces)
    return [piece[:-1].astype(np.uint8).tobytes().decode() for piece in pieces]


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix == ".bin"}


def test_every_document_is_in_exactly_one_split(text_config: DataConfig, tmp_path: Path) -> None:
    corpus = prepare(text_config, tmp_path / "data")
    found = [text for split in SPLITS for text in documents(corpus, split)]
    written = [file.read_text(encoding="utf-8") for file in Path(text_config.path).iterdir()]
    assert sorted(found) == sorted(written)
    assert len(set(written)) == 200


def test_the_manifest_counts_what_the_files_hold(text_config: DataConfig, tmp_path: Path) -> None:
    corpus = prepare(text_config, tmp_path / "data")
    assert corpus.manifest.vocab_size == 257
    assert corpus.manifest.eot_token == END
    for split in SPLITS:
        found, entry = corpus.tokens(split), corpus.manifest.splits[split]
        assert found.dtype == np.uint16
        assert found.shape == (entry.n_tokens,)
        assert (found == END).sum() == entry.n_documents == len(corpus.document_starts(split))
        assert corpus.document_starts(split).dtype == np.int64


def test_split_fractions_are_those_asked_for() -> None:
    config = DataConfig(val_frac=0.1, test_frac=0.2)
    counts = np.bincount([split_of(f"document {number}", config) for number in range(10_000)])
    assert counts / 10_000 == pytest.approx([0.7, 0.1, 0.2], abs=0.02)


def test_neither_order_nor_budget_nor_fraction_of_validation_moves_a_test_document(
    text_config: DataConfig, tmp_path: Path
) -> None:
    whole = prepare(text_config, tmp_path / "data")
    small = prepare(dataclasses.replace(text_config, max_tokens=40_000), tmp_path / "data")
    more_val = prepare(dataclasses.replace(text_config, val_frac=0.3), tmp_path / "data")
    reverse = tmp_path / "reverse"
    reverse.mkdir()
    for number, file in enumerate(sorted(Path(text_config.path).iterdir(), reverse=True)):
        shutil.copy(file, reverse / f"{number:03}.txt")
    reordered = prepare(dataclasses.replace(text_config, path=str(reverse)), tmp_path / "data")
    test = documents(whole, "test")
    assert documents(more_val, "test") == test
    assert documents(reordered, "test") == test[::-1]
    assert documents(small, "test") == test[: len(documents(small, "test"))]
    assert 0 < len(documents(small, "test")) < len(test)


def test_a_smaller_budget_gives_a_prefix_of_whole_documents(
    text_config: DataConfig, tmp_path: Path
) -> None:
    whole = prepare(text_config, tmp_path / "data")
    small = prepare(dataclasses.replace(text_config, max_tokens=50_000), tmp_path / "data")
    sizes = [len(small.tokens(split)) for split in SPLITS]
    assert 48_000 < sum(sizes) <= 50_000
    for split, size in zip(SPLITS, sizes, strict=True):
        assert np.array_equal(small.tokens(split), whole.tokens(split)[:size])
        assert small.tokens(split)[-1] == END


def test_a_budget_that_fits_exactly_keeps_the_last_document(
    text_config: DataConfig, tmp_path: Path
) -> None:
    whole = prepare(text_config, tmp_path / "data")
    total = sum(len(whole.tokens(split)) for split in SPLITS)
    for budget, missing in [(total, 0), (total - 1, 1)]:
        corpus = prepare(dataclasses.replace(text_config, max_tokens=budget), tmp_path / "data")
        n_documents = sum(len(corpus.document_starts(split)) for split in SPLITS)
        assert n_documents == 200 - missing


def test_equal_documents_share_a_split(tmp_path: Path) -> None:
    text = "<END>".join(f"document {number % 50}" for number in range(200))
    (tmp_path / "all.txt").write_text(text)
    config = DataConfig(
        name="twins",
        source=Source.text,
        path=str(tmp_path / "all.txt"),
        document_separator="<END>",
        val_frac=0.3,
        test_frac=0.3,
    )
    corpus = prepare(config, tmp_path / "data")
    train, val, test = ({*documents(corpus, split)} for split in SPLITS)
    assert len(train) + len(val) + len(test) == 50
    assert not train & val
    assert not train & test
    assert not val & test


def test_the_files_depend_on_neither_batches_nor_threads(
    text_config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepare(text_config, tmp_path / "one")
    monkeypatch.setattr(tokens, "BATCH_CHARACTERS", 700)
    monkeypatch.setattr(tokens, "n_cores", lambda: 7)
    other = prepare(text_config, tmp_path / "other")
    assert all_bytes(one.folder) == all_bytes(other.folder)
    assert one.dataset_sha256 == other.dataset_sha256


def test_the_dataset_hash_changes_with_one_character(
    text_config: DataConfig, tmp_path: Path
) -> None:
    before = prepare(text_config, tmp_path / "one").dataset_sha256
    file = Path(text_config.path) / "007.txt"
    file.write_text(file.read_text(encoding="utf-8").replace("word0", "Word0", 1), encoding="utf-8")
    assert prepare(text_config, tmp_path / "other").dataset_sha256 != before


def test_an_end_of_text_token_spelled_out_stays_text(
    text_config: DataConfig, tmp_path: Path
) -> None:
    for number in range(200):
        (Path(text_config.path) / f"{number:03}.txt").write_text(f"{number} <|endoftext|> on")
    corpus = prepare(text_config, tmp_path / "data")
    assert all("<|endoftext|>" in text for text in documents(corpus, "train"))


def test_preparing_twice_does_the_work_once(
    text_config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(text_config, tmp_path)
    monkeypatch.setattr(build, "tokenised", lambda *_: pytest.fail("tokenised again"))
    assert prepare(text_config, tmp_path).manifest == first.manifest


def test_a_missing_corpus_names_the_command_that_prepares_it(tmp_path: Path) -> None:
    config = load(["data=fineweb", "data.max_tokens=1000"]).data
    with pytest.raises(DataError, match="is not prepared") as caught:
        ensure_prepared(config, tmp_path)
    command = "python -m harness.prepare data=fineweb data.max_tokens=1000"
    assert str(caught.value).endswith(f"{command} data_dir={tmp_path}")


@pytest.mark.thorough
@pytest.mark.parametrize(
    "overrides",
    [
        ["data=fineweb_edu"],
        ["data=fineweb", "data.name=mine", "data.val_frac=0.01", "data.config=other, 'it'"],
        ["data=fineweb_tokens", "data.path=~/a b", "data.test_start_token=null"],
        ["data=text", "data.path=my books/**/*.txt", r'data.document_separator="<|end|>\n\n"'],
        ["data=text", "data.path=a,b", "data.tokenizer=gpt2", "data.test_frac=0.2"],
    ],
)
def test_the_command_in_the_message_prepares_exactly_the_missing_corpus(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("my books/one.txt", "a,b"):  # the text is there, the corpus is not
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    monkeypatch.chdir(tmp_path)
    quoted = [item if '"' in item else re.sub("=(.*[ ,~].*)", r'="\1"', item) for item in overrides]
    config = load(quoted).data
    with pytest.raises(DataError, match="is not prepared") as caught:
        ensure_prepared(config, tmp_path)
    words = shlex.split(str(caught.value).partition("; run: ")[2])
    assert words[:3] == ["python", "-m", "harness.prepare"]
    again = load(words[3:])
    assert again.data == config
    assert Path(again.data_dir) == tmp_path
    assert len(words) == 4 + len(overrides)


def test_a_missing_corpus_names_what_is_prepared_with_other_values(
    text_config: DataConfig, tmp_path: Path
) -> None:
    prepare(text_config, tmp_path)
    with pytest.raises(DataError, match=r"books-\w+ \(data.max_tokens=None data.val_frac=0.2\)"):
        open_corpus(dataclasses.replace(text_config, max_tokens=5000, val_frac=0.1), tmp_path)


def test_another_python_has_another_folder_of_library_prose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = corpus_folder(DataConfig(), tmp_path)
    monkeypatch.setattr("platform.python_version", lambda: "3.99.0")
    assert corpus_folder(DataConfig(), tmp_path) != here


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "remove", "boundaries"])
def test_a_damaged_file_is_named(damage: str, text_config: DataConfig, tmp_path: Path) -> None:
    corpus = prepare(text_config, tmp_path)
    name = "val.documents.bin" if damage == "boundaries" else "val.bin"
    file = corpus.folder / name
    content = file.read_bytes()
    flipped = content[:8] + bytes([content[8] ^ 1]) + content[9:]
    changed = {
        "flip": flipped,
        "boundaries": flipped,
        "cut": content[:-2],
        "grow": content + b"ab",
    }
    file.unlink()
    if damage in changed:
        file.write_bytes(changed[damage])
    with pytest.raises(DataError) as caught:
        open_corpus(text_config, tmp_path)
    assert str(file) in str(caught.value)
    assert f"delete {corpus.folder} and prepare it again" in str(caught.value)
    assert read_manifest(corpus.folder) == corpus.manifest


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"schema_version": 1', '"schema_version": 9', "schema version 9"),
        ('"n_documents": ', '"n_documents": 1', "damaged|bytes"),
        ('"vocab_size": 257', '"vocab_size": 300', "changed after it was written"),
        ('"request"', '"requests"', "not a corpus manifest"),
        ("{", "", "not a corpus manifest"),
    ],
)
def test_an_edited_manifest_is_refused(
    old: str, new: str, said: str, text_config: DataConfig, tmp_path: Path
) -> None:
    file = prepare(text_config, tmp_path).folder / "manifest.json"
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=said):
        open_corpus(text_config, tmp_path)


def test_files_are_hashed_again_only_when_they_changed(
    text_config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepare(text_config, tmp_path).folder
    hashed: list[str] = []
    real = manifest.sha256_of
    monkeypatch.setattr(
        manifest, "sha256_of", lambda file, *span: hashed.append(file.name) or real(file, *span)
    )
    open_corpus(text_config, tmp_path)
    assert hashed == []
    os.utime(folder / "train.bin", (1, 1))
    open_corpus(text_config, tmp_path)
    open_corpus(text_config, tmp_path)
    assert hashed == ["train.bin"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"val_frac": 0.0}, "both must be above 0"),
        ({"test_frac": 0.9}, "together below 1"),
        ({"max_tokens": 0}, "data.max_tokens=0: at least 1"),
        ({"max_tokens": 3}, "split of books is empty: 0 documents"),
        ({"name": "../books"}, "data.name='../books'"),
        ({"repo": "a/b"}, "data.repo=a/b has no effect with data.source=text"),
    ],
)
def test_impossible_requests_are_refused_and_leave_nothing(
    change: dict, said: str, text_config: DataConfig, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said):
        prepare(dataclasses.replace(text_config, **change), tmp_path / "data")
    assert left_behind(tmp_path / "data") == []


def test_a_path_without_its_corpus_is_told_of_data_text(tmp_path: Path) -> None:
    said = r"data.path=books/ has no effect with data.source=stdlib_docs: data=text .*add that"
    with pytest.raises(DataError, match=said):
        prepare(DataConfig(path="books/"), tmp_path)


def test_a_source_that_is_set_alone_is_told_of_its_corpus(tmp_path: Path) -> None:
    said = "data.source=text would be called stdlib_docs, .*: choose data=text, which names it"
    with pytest.raises(DataError, match=said):
        prepare(DataConfig(source=Source.text, path="books/"), tmp_path)


def left_behind(data_dir: Path) -> list[str]:
    return [path.name for path in data_dir.glob("*") if not path.name.endswith(".lock")]


def test_ctrl_c_leaves_nothing_half_written(text_config: DataConfig, tmp_path: Path) -> None:
    def interrupt(n_tokens: int, _frac: float | None) -> None:
        if n_tokens:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(text_config, tmp_path / "data", interrupt)
    assert left_behind(tmp_path / "data") == []


def test_an_unknown_split_names_the_ones_there_are(text_config: DataConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no split 'valid'; available: train, val, test"):
        prepare(text_config, tmp_path).tokens("valid")


def test_opening_a_corpus_imports_no_heavy_package() -> None:
    code = (
        "import json, sys, harness.data.corpus, harness.data.hub_text, harness.data.hub_tokens\n"
        "print(json.dumps([m for m in sys.modules if '.' not in m]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "datasets", "huggingface_hub", "tiktoken"} & set(json.loads(done.stdout))


@pytest.mark.proof
@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "tokenise.py"
    peaks = []
    for million in ("20", "80"):
        done = subprocess.run(
            [sys.executable, str(script), "--tokenizer", "bytes", "--million-tokens", million],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(re.findall(r"(\d+) MiB at end", done.stdout)[0]))  # with the hashing
    assert peaks[1] - peaks[0] < 20


def test_library_prose_is_prepared_by_itself(data_dir: Path) -> None:
    corpus = ensure_prepared(DataConfig(), data_dir)
    sizes = [len(corpus.tokens(split)) for split in SPLITS]
    assert sum(sizes) > 1_000_000
    assert min(sizes) > 0.02 * sum(sizes)
    assert corpus.manifest.request["python"].endswith(sys.version.split()[0])
    assert Tokenizer[corpus.manifest.tokenizer] is Tokenizer.bytes
