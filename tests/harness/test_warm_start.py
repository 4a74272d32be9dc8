"""A training that begins with the weights of another."""

import shutil
from pathlib import Path

import pytest
import torch

from harness.cell import train as cell
from harness.cell.build import build_training, corpus_batches
from harness.cell.freeze import freeze, load_frozen, locate
from harness.config import Config, ConfigError
from harness.data.corpus import open_corpus
from harness.engine.distributed import World
from harness.evals.models import load as load_model
from harness.records import read_record
from tests.configs import load


@pytest.fixture
def parent(tiny: list[str]) -> Path:
    folder = freeze(load([*tiny, "study_name=first", "checkpoint.n_weights=2"]))
    cell.run(folder)
    return folder


def fresh_weights(config: Config) -> dict[str, torch.Tensor]:
    corpus = open_corpus(config.data, Path(config.data_dir))
    batches = corpus_batches(config, corpus)
    model = build_training(config, batches, torch.device("cpu"), World()).model
    return dict(model.named_parameters(remove_duplicate=False))


def test_it_begins_with_the_parent_s_weights_and_records_their_hash(
    tiny: list[str], parent: Path
) -> None:
    folder = freeze(load([*tiny, f"train.init_from={parent}@5"]))
    config = load_frozen(folder)
    begun = fresh_weights(config)
    trained = load_model(f"{parent}@5", "cpu")
    for name, parameter in trained.model.named_parameters():
        assert torch.equal(begun[name], parameter)
    cell.run(folder)
    record = read_record(folder)
    assert record.provenance.init_sha256 == trained.weights.sha256
    assert record.provenance.init_from == f"{parent}@5"


def test_the_parent_s_content_and_not_its_place_names_the_cell(
    tiny: list[str], parent: Path, tmp_path: Path
) -> None:
    plain = locate(load(tiny)).name
    here = locate(load([*tiny, f"train.init_from={parent}"])).name
    moved = shutil.copytree(parent, tmp_path / "elsewhere" / "baseline" / parent.name)
    assert locate(load([*tiny, f"train.init_from={moved}"])).name == here != plain
    assert locate(load([*tiny, f"train.init_from={parent}@5"])).name != here


def test_an_arm_s_folder_stands_for_its_cell_with_the_same_seeds(
    tiny: list[str], parent: Path
) -> None:
    second = freeze(load([*tiny, "study_name=first", "seed=1"]))
    cell.run(second)
    for seed, expected in ((0, parent), (1, second)):
        child = load([*tiny, f"seed={seed}", f"train.init_from={parent.parent}"])
        locate(child)
        assert child.train.init_from == f"{expected}@10"
    with pytest.raises(ConfigError, match="no cells with these seeds"):
        locate(load([*tiny, "seed=2", f"train.init_from={parent.parent}"]))


def test_parts_that_the_parent_lacks_keep_their_drawn_weights(
    tiny: list[str], parent: Path
) -> None:
    begun = fresh_weights(load([*tiny, "model.qkv_bias=true", f"train.init_from={parent}"]))
    drawn = fresh_weights(load([*tiny, "model.qkv_bias=true"]))
    assert torch.equal(begun["blocks.0.attn.qkv.bias"], drawn["blocks.0.attn.qkv.bias"])
    assert not torch.equal(begun["tok_emb.weight"], drawn["tok_emb.weight"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.block_size=8", r"position.weight is \[16, 16\], and the model has \[8, 16\]"),
        ("model.tie_weights=true", "set model.tie_weights=false"),
        ("+model.norm.bias=false", "norm1.bias is .* has no such weight"),
    ],
)
def test_weights_without_a_place_are_refused(
    tiny: list[str], parent: Path, override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        fresh_weights(load([*tiny, override, f"train.init_from={parent}"]))


def test_a_parent_that_changed_since_is_refused(tiny: list[str], parent: Path) -> None:
    folder = freeze(load([*tiny, f"train.init_from={parent}"]))
    files = sorted((parent / "weights").iterdir())
    shutil.copy(files[0], files[-1])
    assert cell.run(folder).status == "failed"
    assert "is another file than when" in read_record(folder).error
