"""Any model by name: cells, saved steps, arms, GPT-2-shaped models of the hub and of folders."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from harness.cell import train as cell
from harness.cell.freeze import freeze
from harness.config import ConfigError
from harness.data.corpus import open_corpora
from harness.data.evaluated import test_sequences as sequences_of_the_test
from harness.evals.models import load
from harness.evaluation import sequence_losses
from harness.hub.weights import find_weights
from tests.configs import load as load_config


def trained(overrides: list[str]) -> Path:
    folder = freeze(load_config(overrides))
    assert cell.run(folder).status == "complete"
    return folder


def test_a_hub_model_computes_the_logits_that_transformers_computes(gpt2_folder: Path) -> None:
    theirs = transformers.GPT2LMHeadModel.from_pretrained(gpt2_folder).eval()
    ours = load(f"hf:{gpt2_folder}", "cpu")
    ids = torch.randint(0, 257, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(ours.model(ids), theirs(ids).logits, rtol=0, atol=1e-5)
    assert (ours.block_size, ours.encoding.name) == (16, "bytes")
    assert len(ours.provenance()["weights_sha256"]) == 64


def test_a_local_folder_s_model_has_a_short_name_of_its_own_and_is_found_again(
    gpt2_folder: Path, tmp_path: Path
) -> None:
    kept, other = tmp_path / "a" / "out" / "last", tmp_path / "b" / "out" / "last"
    shutil.copytree(gpt2_folder, kept)
    shutil.copytree(gpt2_folder, other)
    tensors = load_file(other / "model.safetensors")
    save_file({name: 2 * tensor for name, tensor in tensors.items()}, other / "model.safetensors")
    names = [find_weights(text).name for text in (f"hf:{kept}", str(kept), f"hf:{other}")]
    assert names[0] == names[1] != names[2]
    assert all(re.fullmatch(r"hf:out/last@[0-9a-f]{8}", name) for name in names)
    assert find_weights(find_weights(str(kept)).place).name == names[0]


def test_a_cell_has_the_test_losses_that_it_recorded(tiny: list[str]) -> None:
    folder = trained([*tiny, "checkpoint.n_weights=2", "+intervention=weight_tying"])
    for name in (str(folder), str(folder.parent)):
        loaded = load(name, "cpu")
        config = loaded.config
        losses = sequence_losses(
            loaded.model, sequences_of_the_test(config, open_corpora(config)).tokens, 8
        )
        np.testing.assert_array_equal(losses, np.load(folder / "test_losses.npy"))
    assert loaded.name == f"weight_tying/{folder.name}@10"
    assert load(f"{folder}@5", "cpu").weights.step == 5
    with pytest.raises(ConfigError, match="has no weights of step 7; it has: 5, 10"):
        load(f"{folder}@7", "cpu")


def test_a_cell_is_found_by_its_id(tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trained(tiny)
    monkeypatch.chdir(folder.parents[3])
    assert load(folder.name, "cpu").weights.cell == folder
    with pytest.raises(ConfigError, match="there is no such model"):
        load("0123456789ab")


def test_a_cell_without_weights_says_how_to_get_them(tiny: list[str]) -> None:
    folder = trained([*tiny, "checkpoint.n_weights=0"])
    with pytest.raises(ConfigError, match=r"checkpoint\.n_weights=1"):
        load(str(folder))


def test_a_study_where_one_model_is_wanted_names_some_of_its_cells(tiny: list[str]) -> None:
    baseline = freeze(load_config(tiny))
    other = freeze(load_config([*tiny, "seed=1"]))
    arm = freeze(load_config([*tiny, "+intervention=qkv_bias"]))
    study = arm.parents[1]
    first = min(baseline, other)
    with pytest.raises(ConfigError, match=f"holds 3 cells.* name one, as {first}, {arm}$"):
        load(str(study))
    with pytest.raises(ConfigError, match=f"holds 3 cells.* name one, as {first}, {arm}$"):
        load(str(study.parent))
    with pytest.raises(
        ConfigError, match=f"has 2 cells, where one model is wanted: name one, as {first}, "
    ):
        load(str(baseline.parent))
