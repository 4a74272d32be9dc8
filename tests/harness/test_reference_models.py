"""Models that a study did not train, on its test set, and as rows of its table."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiktoken
import torch

from analysis.comparison.compare import compare
from analysis.runs.records import read_records
from harness.cell import train as cell
from harness.cell.freeze import freeze
from harness.evals.losses import measure, study_test_set
from harness.evals.models import LoadedModel, load
from harness.evals.reference import evaluate_on
from harness.model import build
from harness.records.evaluation import read_evaluations, reference_folder, write_evaluation
from tests.configs import load as load_config


@pytest.fixture
def study(tiny: list[str]) -> Path:
    for seed in (0, 1):
        folder = freeze(load_config([*tiny, f"seed={seed}", "checkpoint.n_weights=2"]))
        cell.run(folder)
    return folder.parents[1]


def cells(study: Path) -> list[Path]:
    return sorted(study.glob("baseline/*"))


def uniform(loaded: LoadedModel, **changes: object) -> LoadedModel:
    """A model that gives every token the same probability."""
    config = replace(loaded.model.config, **changes)
    model = build(config).eval()
    with torch.no_grad():
        model.head.weight.zero_()
    return replace(loaded, model=model)


def pairs() -> tiktoken.Encoding:
    ranks = {bytes([i]): i for i in range(256)}
    ranks |= {b"th": 256, b"e ": 257, b" a": 258, b"in": 259}
    return tiktoken.Encoding(
        "pairs", pat_str=r"[\s\S]{1,32}", mergeable_ranks=ranks,
        special_tokens={"<|endoftext|>": 260},
    )  # fmt: skip


def test_a_cell_s_losses_are_those_that_it_recorded(study: Path) -> None:
    folder = cells(study)[0]
    losses = measure(load(str(folder), "cpu"), study_test_set(study))
    recorded = np.load(folder / "test_losses.npy")
    np.testing.assert_allclose(losses.per_sequence, recorded, rtol=1e-6)
    assert losses.context == "the study's sequences of 16 tokens"


def test_a_uniform_model_costs_the_log_of_its_vocabulary(study: Path) -> None:
    loaded, test = load(str(cells(study)[0]), "cpu"), study_test_set(study)
    for block_size in (16, 5):
        losses = measure(uniform(loaded, block_size=block_size), test)
        np.testing.assert_allclose(losses.per_sequence, np.log(257), rtol=1e-6)
    assert losses.context == "each 16-token sequence in pieces of at most 5 tokens, its context"
    ends = sum(int((test.sequence(i)[1:] == 256).sum()) for i in range(8))
    assert losses.n_bytes == 8 * 16 - ends  # an end of text has no bytes
    bits = np.log2(257) * 8 * 16 / losses.n_bytes
    assert losses.bits_per_byte == pytest.approx(bits)


def test_another_tokenizer_s_model_pays_for_the_same_text(study: Path) -> None:
    """Pairs of letters as tokens: half as many, and each costs the log of that vocabulary."""
    loaded, test = load(str(cells(study)[0]), "cpu"), study_test_set(study)
    other = replace(uniform(loaded, vocab_size=261), encoding=pairs())
    losses = measure(other, test)
    text = b"".join(part for i in range(8) for part in test.target_bytes(i))
    assert sum(map(len, losses.targets)) < 8 * 16
    total = sum(map(len, losses.targets)) * np.log(261)
    assert float(losses.per_sequence.sum()) * 16 == pytest.approx(total, rel=1e-5)
    assert losses.n_bytes == len(text)


def test_the_command_records_a_reference_that_the_table_shows(command, study: Path) -> None:
    half, whole = f"{cells(study)[0]}@5", str(cells(study)[1])
    done = command("harness.evaluate", half, whole, "--on", str(study), "--tokens-of", "2")
    assert done.returncode == 0, done.stderr
    assert "bits per byte" in done.stdout
    found = {item.asked.rpartition("@")[2]: (folder, item)
             for folder, item in read_evaluations(study, []).items()}  # fmt: skip
    folder, reference = found["5"]
    views = json.loads((folder / "token_losses.json").read_text())["sequences"]
    assert [len(view["tokens"]) for view in views] == [16, 16] == [len(v["nats"]) for v in views]
    runs = read_records([study])
    assert runs.references == (reference,)  # the last weights are an arm's
    table = compare(runs).table.set_index("arm")
    assert table.loc[reference.label, "verdict"] == "reference"
    assert table.loc[reference.label, "mean_loss"] == reference.loss


def test_the_table_says_how_a_reference_read_the_text_and_which_has_no_row(study: Path) -> None:
    loaded, test = load(str(cells(study)[0]), "cpu"), study_test_set(study)
    weights = replace(loaded.weights, cell=None)
    other = replace(uniform(loaded, vocab_size=261), encoding=pairs(), weights=weights)
    done = evaluate_on(replace(other, name="hf:pairs"), test, study, "fp32", 0)
    old = replace(done, name="hf:old", test_set_sha256="0" * 64)
    write_evaluation(reference_folder(study, old.label), old)
    result = compare(read_records([study]))
    assert "hf:old" not in set(result.table["arm"])
    for said in (result.to_markdown(), result.to_table().to_markdown()):
        assert f"hf:pairs {done.bits_per_byte:.4f} (the text of each 16-token sequence" in said
        assert "per token of the study's, which compares" in said
        assert "without verdict" in said
        assert "hf:old on a different test set from these runs, so without a row" in said


def test_the_published_evaluation_in_half_precision_is_near(command, study: Path) -> None:
    folder = str(cells(study)[0])
    done = command("harness.evaluate", folder, "--precision", "fp16")
    assert done.returncode == 0, done.stderr
    item = next(iter(read_evaluations(study, []).values()))
    recorded = float(np.load(f"{folder}/test_losses.npy").mean())
    assert item.loss == pytest.approx(recorded, rel=1e-3)
    assert item.loss != recorded


@pytest.mark.parametrize(
    "missing", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}]
)
def test_a_hub_model_without_a_network_says_how_to_fetch_it(started, study: Path, missing) -> None:
    done = started(
        "harness.evaluate", "hf:openai-community/gpt2", "--on", str(study),
        **missing, HF_HOME=str(study / "empty"),
    )  # fmt: skip
    assert done.returncode == 2
    assert (
        "hf download openai-community/gpt2 config.json model.safetensors vocab.json" in done.stderr
    )
    assert "cannot be reached" in done.stderr
