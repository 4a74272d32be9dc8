"""Corpora to test on apart from the one that is trained on: data is an arm."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest

from analysis import AnalysisError, compare
from harness.cell import train as cell
from harness.cell.freeze import freeze
from harness.config import ConfigError
from harness.data.corpus import open_corpora, prepare
from harness.data.evaluated import test_sequences as sequences_of_the_test
from harness.records import RunRecord, Status
from tests.configs import load
from tests.harness.cells import run_until

ON_DOCS = ["+data@eval.data.docs=stdlib_docs", "eval.test_set=docs"]


@pytest.fixture
def ways(tiny: list[str], books: Path, tmp_path: Path) -> dict[str, list[str]]:
    """Return overrides: train on the built-in corpus or on books, test both on the former."""
    fracs = "val_frac: 0.2, test_frac: 0.2"
    overlay = tmp_path / "conf" / "intervention" / "on_books.yaml"
    overlay.parent.mkdir(parents=True)
    overlay.write_text(
        "# @package _global_\n"
        "interventions: {on_books: {summary: s, source: t, declares: [data]}}\n"
        f"data: {{name: books, source: text, path: {books}, {fracs}}}\n"
    )
    more = tmp_path / "conf" / "data" / "books.yaml"
    more.parent.mkdir()
    more.write_text(
        f"name: books\nsource: text\ntokenizer: bytes\npath: {books}\nval_frac: 0.2\ntest_frac: 0.2\n"
    )
    base = [*tiny, f"hydra.searchpath=[file://{tmp_path / 'conf'}]"]
    config = load([*base, "data=books"])
    prepare(config.data, Path(config.data_dir))
    return {
        "base": [*base, *ON_DOCS, "+data@eval.data.books=books"],
        "arm": [*base, *ON_DOCS, "+data@eval.data.books=books", "+intervention=on_books"],
        "alone": [*base, "+intervention=on_books"],
    }


def trained(overrides: list[str]) -> tuple[Path, RunRecord]:
    folder = freeze(load(overrides))
    record = cell.run(folder)
    assert record.status is Status.COMPLETE, record.error
    return folder, record


def test_arms_trained_on_different_corpora_are_compared_on_one_test_set(ways) -> None:
    folder, base = trained(ways["base"])
    home, arm = trained(ways["arm"])
    assert base.provenance.dataset_sha256 != arm.provenance.dataset_sha256
    assert base.provenance.test_set_sha256 == arm.provenance.test_set_sha256
    for place, record in ((folder, base), (home, arm)):
        main, books = (np.load(place / f"test_losses{end}.npy") for end in ("", ".books"))
        assert len(main) == len(books) == 8
        assert record.losses.test == pytest.approx(main.mean())
        assert record.losses.tests["books"]["loss"] == pytest.approx(books.mean())
        assert record.losses.tests["docs"]["loss"] == record.losses.test
        assert not (place / "test_losses.docs.npy").exists()


def test_the_analysis_compares_on_the_set_that_is_asked_for(ways, command, tmp_path) -> None:
    for seed in range(3):
        for way in ("base", "arm"):
            trained([*ways[way], f"seed={seed}"])
    runs = str(tmp_path / "runs" / "adhoc")
    whole, books = compare(runs), compare(runs, metric="test_loss.books")
    assert whole.table["delta"].iloc[0] != books.table["delta"].iloc[0]
    done = command("analysis", runs, "--test-set", "books", "--no-write")
    assert done.returncode == 0, done.stderr
    assert done.stdout == books.to_markdown()
    with pytest.raises(AnalysisError, match=r"no column 'test_loss\.nowhere'.*test_loss\.books"):
        compare(runs, metric="test_loss.nowhere")


def test_bits_per_byte_are_the_loss_over_the_bytes_of_the_text(ways) -> None:
    folder, record = trained(ways["base"])
    config = load(ways["base"])
    tokens = sequences_of_the_test(config, open_corpora(config).main).tokens
    n_bytes = (tokens[:, 1:] < 256).sum()
    bits = np.load(folder / "test_losses.npy").astype(float).sum() * 16 / n_bytes / math.log(2)
    assert record.losses.bits_per_byte == pytest.approx(bits)


def test_a_data_arm_without_a_common_test_set_is_refused(ways) -> None:
    with pytest.raises(ConfigError, match=r"'on_books' sets data\.name .*eval\.test_set=fineweb"):
        load(ways["alone"])


def test_a_test_set_that_is_not_there_is_refused(tiny) -> None:
    with pytest.raises(ConfigError, match=r"eval\.test_set=edu: no such corpus .* none"):
        load([*tiny, "eval.test_set=edu"])


def test_test_sets_are_part_of_a_cells_identity_and_hardly_change_its_training(
    ways, tiny, monkeypatch
) -> None:
    _, plain = trained(tiny)
    folder = freeze(load(ways["base"]))
    assert folder.name != plain.cell
    run_until(5, folder, monkeypatch)
    again = cell.run(folder)
    assert again.fingerprints.final_weights == plain.fingerprints.final_weights
    assert again.losses.test == plain.losses.test


def test_longer_contexts_are_tested_on_sequences_of_the_baselines_length(tiny) -> None:
    size = [item for item in tiny if "block_size" not in item]
    config = load([*size, "train.tokens=9216", "+intervention=context_3072"])
    assert (config.model.block_size, config.eval.block_size) == (192, 64)
    record = cell.run(freeze(config))
    _, base = trained([*size, "train.tokens=1024"])
    assert record.provenance.test_set_sha256 == base.provenance.test_set_sha256
    assert (record.status, record.step) == (Status.COMPLETE, 3)


def test_spread_sequences_come_from_all_documents_and_the_first_ones_from_the_start(tiny) -> None:
    config = load([*tiny, "eval.test_sequences=64", "eval.spread=false"])
    corpus = open_corpora(config)
    tokens, starts = corpus.tokens("test"), corpus.document_starts("test")
    first = sequences_of_the_test(config, corpus)
    config.eval.spread = True
    spread = sequences_of_the_test(config, corpus)
    n, block_size = 64, config.model.block_size
    assert first.tokens.shape == spread.tokens.shape == (n, block_size + 1)
    assert first.sha256() == hashlib.sha256(tokens[: n * block_size + 1].tobytes()).hexdigest()
    np.testing.assert_array_equal(first.tokens[-1], tokens[63 * block_size : n * block_size + 1])
    step = (len(tokens) - 1) // block_size / n  # of the places, in sequences
    last = int(63 * step) * block_size
    np.testing.assert_array_equal(spread.tokens[-1], tokens[last : last + block_size + 1])
    assert spread.documents[-1] == np.searchsorted(starts, last, side="right") - 1
    assert len(set(spread.documents)) > 2 * len(set(first.documents))
    assert spread.sha256() != first.sha256()


def test_a_cell_whose_sequences_are_spread_is_another_cell(tiny) -> None:
    plain, spread = (
        trained([*tiny, f"eval.spread={spread}", "eval.n_val=1"]) for spread in (False, True)
    )
    assert plain[0].name != spread[0].name
    hashes = [record.provenance.test_set_sha256 for _, record in (plain, spread)]
    assert hashes[0] != hashes[1]
    assert plain[1].losses.val != spread[1].losses.val
