import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from harness.config import DataConfig, Source, Tokenizer
from harness.data import hub_tokens
from harness.data.corpus import open_corpus, prepare
from harness.data.manifest import DataError
from tests.harness.hub_server import HubServer

END = 50256


def published(n_tokens: int, seed: int) -> np.ndarray:
    """Return tokens of which about every twentieth ends a document; the last one does."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, END, n_tokens).astype(np.uint16)
    tokens[rng.random(n_tokens) < 0.05] = END
    tokens[-1] = END
    return tokens


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the two published files, small."""
    found = tmp_path / "published"
    found.mkdir()
    save_file({"tokens": published(30_000, 0)}, found / "train.safetensors", {"note": "odd"})
    save_file({"tokens": published(10_000, 1)}, found / "validation.safetensors")
    return found


@pytest.fixture
def config(folder: Path) -> DataConfig:
    return DataConfig(
        name="tokens",
        source=Source.hub_tokens,
        tokenizer=Tokenizer.gpt2,
        path=str(folder),
        test_start_token=5_000,
    )


def test_tokens_are_read_in_place_and_never_copied(
    config: DataConfig, folder: Path, tmp_path: Path
) -> None:
    corpus = prepare(config, tmp_path / "data")
    assert np.array_equal(corpus.tokens("train"), published(30_000, 0))
    assert Path(corpus.tokens("train").filename) == folder / "train.safetensors"
    own = sum(file.stat().st_size for file in corpus.folder.iterdir())
    assert own < 30_000


def test_test_set_starts_at_its_token_and_validation_ends_with_a_whole_document(
    config: DataConfig, tmp_path: Path
) -> None:
    corpus, tokens = prepare(config, tmp_path / "data"), published(10_000, 1)
    val, test = corpus.tokens("val"), corpus.tokens("test")
    assert np.array_equal(test, tokens[5_000:])
    assert np.array_equal(val, tokens[: len(val)])
    assert val[-1] == END
    assert not (tokens[len(val) : 5_000] == END).any()


@pytest.mark.parametrize("chunk_tokens", [64, 1 << 23])
def test_documents_begin_behind_each_end_of_text(
    chunk_tokens: int, config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_tokens, "_CHUNK_TOKENS", chunk_tokens)
    corpus, tokens = prepare(config, tmp_path / "data"), published(30_000, 0)
    expected = [0, *(np.flatnonzero(tokens[:-1] == END) + 1)]
    assert corpus.document_starts("train").tolist() == expected
    assert corpus.document_starts("test")[0] == 0


def test_a_budget_limits_the_training_tokens_alone(config: DataConfig, tmp_path: Path) -> None:
    corpus = prepare(dataclasses.replace(config, max_tokens=1_234), tmp_path / "data")
    assert np.array_equal(corpus.tokens("train"), published(30_000, 0)[:1_234])
    assert len(corpus.tokens("test")) == 5_000


def test_the_hash_knows_one_changed_token(config: DataConfig, folder: Path, tmp_path: Path) -> None:
    corpus = prepare(config, tmp_path / "data")
    file = folder / "train.safetensors"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"train\.safetensors is damaged"):
        open_corpus(config, tmp_path / "data")
    assert prepare(config, tmp_path / "other").dataset_sha256 != corpus.dataset_sha256


@pytest.mark.parametrize("start", [None, 0, 10_000, 60_000])
def test_a_test_set_outside_the_published_validation_is_refused(
    start: int | None, config: DataConfig, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=f"test_start_token={start}: must be inside the 10000"):
        prepare(dataclasses.replace(config, test_start_token=start), tmp_path)


def test_validation_without_a_whole_document_is_refused(
    config: DataConfig, folder: Path, tmp_path: Path
) -> None:
    save_file({"tokens": np.ones(10_000, np.uint16)}, folder / "validation.safetensors")
    with pytest.raises(DataError, match="validation would be empty"):
        prepare(config, tmp_path)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"tokens": np.zeros(10, np.int64)}, "I64 of shape"),
        ({"tokens": np.zeros((5, 2), np.uint16)}, r"U16 of shape \[5, 2\]"),
        ({"ids": np.zeros(10, np.uint16)}, "no tensor 'tokens'; available: ids"),
        ({"tokens": np.full(10, 50257, np.uint16)}, "holds token 50257"),
    ],
)
def test_files_that_are_not_16_bit_gpt2_tokens_are_refused(
    tensors: dict, said: str, config: DataConfig, folder: Path, tmp_path: Path
) -> None:
    save_file(tensors, folder / "train.safetensors")
    with pytest.raises(DataError, match=said):
        prepare(config, tmp_path / "data")
    assert not [path for path in (tmp_path / "data").glob("*") if path.suffix != ".lock"]


def test_a_truncated_file_is_refused(config: DataConfig, folder: Path, tmp_path: Path) -> None:
    file = folder / "train.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(DataError, match="not a complete safetensors file"):
        prepare(config, tmp_path)


def test_a_folder_without_the_files_is_refused(config: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no train.safetensors and no validation.safetensors"):
        prepare(dataclasses.replace(config, path=str(tmp_path / "empty")), tmp_path)


@pytest.mark.thorough
def test_the_published_corpus_comes_from_the_hub_once(folder: Path, tmp_path: Path) -> None:
    with HubServer({"gpjt/fineweb-gpt2-tokens": folder}) as hub:
        command = [
            *(sys.executable, "-m", "harness.prepare", "data=fineweb_tokens"),
            *("data.test_start_token=5000", f"data_dir={tmp_path / 'data'}"),
        ]
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
        for _ in range(2):
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            assert "train 30,000 tokens" in done.stdout
        downloads = [line for line in hub.requests if line.startswith("GET /datasets/")]
    assert len(downloads) == 2
    manifest = json.loads(next((tmp_path / "data").glob("*/manifest.json")).read_text())
    assert Path(manifest["splits"]["train"]["file"]).is_relative_to(tmp_path / "hf")
