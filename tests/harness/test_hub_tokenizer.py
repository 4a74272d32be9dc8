"""The tokenizer beside a model that the study did not train: read as its makers read it."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import ByteLevelBPETokenizer

from harness.cell import train as cell
from harness.cell.freeze import freeze
from harness.config import ConfigError
from harness.evals.losses import measure, study_test_set
from harness.evals.models import load
from harness.hub.tokenizer import folder_tokenizer
from tests.configs import load as load_config
from tests.conftest import REPOSITORY
from tests.harness.hub_server import HubServer

END = "<|endoftext|>"
TEXT = "Zürich: don't  \n\t⚙ the 1234 theses\u00a0and\x00 so on"
CONTEXT = 11


def trained(folder: Path, *, whole: bool) -> ByteLevelBPETokenizer:
    """Train and write a tokenizer whose end of text is token 0, in one file or in two."""
    folder.mkdir(parents=True)
    bpe = ByteLevelBPETokenizer()
    page = str(REPOSITORY / "README.md")
    bpe.train([page], vocab_size=400, special_tokens=[END], show_progress=False)
    if whole:
        bpe.save(str(folder / "tokenizer.json"))
    else:
        bpe.save_model(str(folder))
    return bpe


def with_model(folder: Path) -> transformers.GPT2LMHeadModel:
    """Write a small GPT-2 of transformers beside its tokenizer."""
    torch.manual_seed(0)
    shape = {"n_positions": CONTEXT, "n_embd": 8, "n_layer": 1, "n_head": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=400, **shape, **ends)
    ).eval()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("whole", [True, False])
def test_a_text_becomes_the_tokens_that_its_makers_give_it(tmp_path: Path, whole: bool) -> None:
    bpe = trained(tmp_path / "own", whole=whole)
    ours = folder_tokenizer(tmp_path / "own")
    assert ours is not None
    assert ours.eot_token == 0
    for text in (TEXT, (REPOSITORY / "CHANGELOG.md").read_text()):
        assert ours.encode_ordinary(text) == bpe.encode(text).ids
    assert ours.decode(ours.encode_ordinary(TEXT)) == TEXT


def test_bits_per_byte_under_another_tokenizer_are_those_of_transformers(
    tiny: list[str], tmp_path: Path
) -> None:
    study = freeze(load_config([*tiny, "checkpoint.n_weights=1"]))
    cell.run(study)
    bpe = trained(tmp_path / "other", whole=True)
    theirs = with_model(tmp_path / "other")
    test = study_test_set(study.parents[1])
    found = measure(load(str(tmp_path / "other"), "cpu"), test)
    nats, n_bytes = [], 0
    for i in range(test.n_sequences):
        ids, parts = [0], bytes_of(test.sequence(i)[1:])
        for part in parts:
            ids += [*bpe.encode(part.decode()).ids, 0]
            n_bytes += len(part)
        nats.append(surprise(theirs, np.array(ids[:-1])))  # no document ends behind the last part
    assert found.n_bytes == n_bytes
    assert found.bits_per_byte == pytest.approx(sum(nats) / math.log(2) / n_bytes, rel=1e-5)
    np.testing.assert_allclose(found.per_sequence, np.array(nats) / test.block_size, rtol=1e-5)


def bytes_of(tokens: np.ndarray) -> list[bytes]:
    """Cut byte tokens where a document ends (256)."""
    ends = [-1, *np.flatnonzero(tokens == 256), len(tokens)]
    return [bytes(tokens[a + 1 : b].tolist()) for a, b in itertools.pairwise(ends)]


def surprise(model: transformers.GPT2LMHeadModel, ids: np.ndarray) -> float:
    """Return the nats of all tokens but the first, in equal pieces that fit the context."""
    n = len(ids) - 1
    k = math.ceil(n / CONTEXT)
    cuts = [round(n * j / k) for j in range(k + 1)]
    total = 0.0
    for a, b in itertools.pairwise(cuts):
        with torch.no_grad():
            logits = model(torch.from_numpy(ids[a:b])[None]).logits[0].double().numpy()
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        total -= float(np.log(chances[np.arange(b - a), ids[a + 1 : b + 1]]).sum())
    return total


def edited(folder: Path, edit) -> Path:
    """Change the tokenizer in one file."""
    trained(folder, whole=True)
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))
    return folder


def swap_two_merges(content: dict) -> None:
    merges = content["model"]["merges"]
    merges[5], merges[50] = merges[50], merges[5]


def forget_the_end(content: dict) -> None:
    content["added_tokens"] = []
    del content["model"]["vocab"][END]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (swap_two_merges, "its ids do not rise with its merges"),
        (forget_the_end, "no <|endoftext|>"),
        (lambda content: content["model"]["vocab"].pop("Ġ"), "its vocabulary has no 'Ġ'"),
        (lambda content: content["model"].pop("merges"), "'merges'"),
        (lambda content: content.update(pre_tokenizer={"type": "Metaspace"}), "way, Metaspace"),
        (lambda content: content.update(pre_tokenizer=None), "cuts text in another way"),
        (lambda content: content.update(model=[]), "cannot read the tokenizer"),
    ],
)  # fmt: skip
def test_a_tokenizer_of_another_kind_is_refused_in_one_line(
    tmp_path: Path, edit, said: str
) -> None:
    with pytest.raises(ConfigError, match="allowed is a byte-level BPE") as error:
        folder_tokenizer(edited(tmp_path / "t", edit))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = edited(tmp_path / "t", lambda content: content["added_tokens"][0].update(id=400))
    with_model(folder)
    with pytest.raises(ConfigError, match="knows 400 tokens, and the tokenizer beside it has ids"):
        load(str(folder), "cpu")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match="no tokenizer beside its weights: put its"):
        load(str(folder), "cpu")


def test_the_hub_is_asked_for_the_layout_that_a_model_has(started, tmp_path: Path) -> None:
    for name, whole in (("one", True), ("two", False)):
        trained(tmp_path / name, whole=whole)
        with_model(tmp_path / name)
    repos = {f"someone/{name}": tmp_path / name for name in ("one", "two")}
    said = []
    with HubServer(repos) as hub:
        for name in ("one", "two"):
            done = started(
                "harness.sample", f"hf:someone/{name}", "--tokens", "3", "--temperature", "0",
                "--prompt", "The", HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "hf"),
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            said.append(done.stdout.replace(name, "N"))
    again = started(
        "harness.sample", "hf:someone/one", "--tokens", "3", "--temperature", "0",
        "--prompt", "The", HF_HOME=str(tmp_path / "hf"), HF_HUB_OFFLINE="1",
    )  # fmt: skip
    assert again.stdout.replace("one", "N") == said[0]
    assert said[0].splitlines()[-1] == said[1].splitlines()[-1]
