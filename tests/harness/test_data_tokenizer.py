import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from harness.config import VOCAB_SIZE, DataConfig, Tokenizer
from harness.data import tokens
from harness.data.tokens import Batch, Tokenised, get_tokenizer, tokenise

BYTES = get_tokenizer(Tokenizer.bytes)


@pytest.mark.thorough
@given(st.text())
def test_byte_tokens_are_the_utf8_bytes(text: str) -> None:
    assert BYTES.encode_ordinary(text) == list(text.encode())
    assert BYTES.decode(BYTES.encode_ordinary(text)) == text


def test_byte_tokens_hold_for_pieces_longer_than_the_cut() -> None:
    text = "wörd" * 1000
    assert get_tokenizer(Tokenizer.bytes).encode_ordinary(text) == list(text.encode())


def test_byte_vocabulary_is_what_the_model_is_built_for() -> None:
    encoding = get_tokenizer(Tokenizer.bytes)
    assert encoding.n_vocab == VOCAB_SIZE["bytes"]
    assert encoding.eot_token == 256
    assert encoding.decode([72, 105, 256]) == "Hi<|endoftext|>"


@pytest.mark.usefixtures("gpt2_files")
def test_gpt2_ids_are_the_published_ones() -> None:
    encoding = get_tokenizer(Tokenizer.gpt2)
    assert encoding.n_vocab == VOCAB_SIZE["gpt2"]
    assert encoding.eot_token == 50256
    assert encoding.encode("Every effort moves you") == [6109, 3626, 6100, 345]


@pytest.mark.usefixtures("gpt2_files")
def test_documents_become_the_ids_of_encode_ordinary_and_an_end() -> None:
    texts = ["Every effort moves you", "", "a <|endoftext|> b", "naïve 数\n\n  x" * 50]
    encoding = get_tokenizer(Tokenizer.gpt2)
    found = tokenise(Batch(texts=texts), encoding, DataConfig())
    expected = [[*encoding.encode_ordinary(text), 50256] for text in texts if text]
    assert found.tokens.tolist() == [token for ids in expected for token in ids]
    assert found.lengths.tolist() == [len(ids) for ids in expected]
    assert found.tokens.dtype == "uint16"


@pytest.mark.usefixtures("gpt2_files")
@pytest.mark.parametrize("name", list(Tokenizer))
def test_every_thread_tokenises_with_an_equal_encoding_of_its_own(
    name: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = get_tokenizer(name)
    used: dict[int, set[int]] = {}
    at_once = threading.Barrier(3)

    def spy(batch: Batch, encoding: tiktoken.Encoding, config: DataConfig) -> Tokenised:
        at_once.wait(timeout=600)
        used.setdefault(threading.get_ident(), set()).add(id(encoding._core_bpe))
        return tokenise(batch, encoding, config)

    monkeypatch.setattr(tokens, "tokenise", spy)
    monkeypatch.setattr(tokens, "n_cores", lambda: 3)
    texts = [f"naïve {number} <|endoftext|> 数" for number in range(6)]
    found = tokens.tokenised((Batch(texts=[text]) for text in texts), shared, DataConfig())
    assert [part.tokens.tolist() for part in found] == [
        [*shared.encode_ordinary(text), shared.eot_token] for text in texts
    ]
    assert [len(encodings) for encodings in used.values()] == [1, 1, 1]
    assert len(set.union(*used.values(), {id(shared._core_bpe)})) == 4


def test_lone_surrogates_do_not_stop_a_preparation() -> None:
    found = tokenise(Batch(texts=["a\ud800b"]), get_tokenizer(Tokenizer.bytes), DataConfig())
    assert found.tokens.tolist() == [97, 0xEF, 0xBF, 0xBD, 98, 256]


def test_missing_gpt2_files_are_explained_in_one_line(tmp_path: Path) -> None:
    code = (
        "from harness.config import Tokenizer\n"
        "from harness.data.manifest import DataError\n"
        "from harness.data.tokens import get_tokenizer\n"
        "try: get_tokenizer(Tokenizer.gpt2)\n"
        "except DataError as error: print(error)"
    )
    nowhere = "http://127.0.0.1:9"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TIKTOKEN_CACHE_DIR": str(tmp_path), "HTTPS_PROXY": nowhere},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("\n") == 1
    assert "TIKTOKEN_CACHE_DIR" in done.stdout
