"""One place defines the weights that are evaluated; the weights that train go on untouched."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from harness.cell import train as cell
from harness.cell.freeze import freeze
from harness.engine.randomness import weights_hash
from harness.loop import Nobody, Training, evaluate, evaluated_weights, train
from harness.model import build
from tests.configs import load
from tests.harness.cells import lines, run, run_until

OWN_AVERAGE = """
import torch

class Average:
    def __init__(self, keep):
        self.keep, self.average = keep, None

    def step_done(self, model, step, optimizer, training, progress):
        assert optimizer is training.optimizer
        assert progress == step / training.config.n_steps
        weights = [p.detach() for p in model.parameters()]
        if self.average is None:
            self.average = [w.clone() for w in weights]
        torch._foreach_lerp_(self.average, weights, 1 - self.keep)

    def before_eval(self, model):
        with torch.no_grad():
            for p, a in zip(model.parameters(), self.average):
                p.copy_(a)

    def state_dict(self):
        return {"average": self.average}

    def load_state_dict(self, state):
        self.average = state["average"]
"""
OVERLAY = """# @package _global_
interventions:
  average:
    {summary: s, source: t, fn: {_target_: own_average.Average, keep: "${oc.select:keep,0.5}"}}
"""


@pytest.fixture
def average(tmp_path: Path, monkeypatch) -> list[str]:
    (tmp_path / "own_average.py").write_text(OWN_AVERAGE)
    overlays = tmp_path / "conf" / "intervention"
    overlays.mkdir(parents=True)
    (overlays / "average.yaml").write_text(OVERLAY)
    monkeypatch.syspath_prepend(tmp_path)
    return [f"hydra.searchpath=[file://{tmp_path / 'conf'}]", "+intervention=average"]


def first_sequence(t: Training) -> np.ndarray:
    return t.batches.tokens[None, : t.config.model.block_size + 1]


def weights(folder: Path, config) -> torch.nn.Module:
    model = build(config.model)
    model.load_state_dict(load_file(max((folder / "weights").iterdir())))
    return model.eval()


def test_the_test_samples_saved_weights_and_hash_are_of_the_same_weights(tiny, average) -> None:
    overrides = [*tiny, *average, "checkpoint.n_weights=1", "sample.n_times=1"]
    config = load([*overrides, "data.shuffle=true"])
    folder = freeze(config)
    record = cell.run(folder)
    model = weights(folder, config)
    assert weights_hash(model) == record.fingerprints.final_weights
    again = load([*tiny, "study_name=again"])
    assert record.losses.test != run([*tiny, "study_name=plain"])[1].losses.test
    from harness.data.corpus import open_corpora
    from harness.data.evaluated import test_sequences as sequences_of_the_test
    from harness.evaluation import sequence_losses

    sequences = sequences_of_the_test(again, open_corpora(again)).tokens
    losses = sequence_losses(model, sequences, 16)
    assert losses.mean() == pytest.approx(record.losses.test, rel=1e-6)
    (sample,) = lines(folder / "samples.jsonl")
    assert sample["step"] == 10


def test_however_often_it_is_evaluated_the_weights_train_alike(make_training, average) -> None:
    hashes = []
    for looks in (False, True):
        training = make_training(average)

        class Watch(Nobody):
            def step_done(self, *_: object, t=training, looks=looks) -> None:
                if looks:
                    evaluate(t, first_sequence(t))

        train(training, Watch())
        hashes.append(weights_hash(training.model))
        with evaluated_weights(training) as model:
            evaluated = weights_hash(model)
        assert evaluated != hashes[-1] == weights_hash(training.model)
    assert len(set(hashes)) == 1


def test_the_weights_that_train_come_back_after_an_error(make_training, average) -> None:
    training = make_training(average)
    train(training, Nobody())
    before = weights_hash(training.model)
    with pytest.raises(RuntimeError), evaluated_weights(training):
        raise RuntimeError
    assert weights_hash(training.model) == before


@pytest.mark.parametrize("stop_at", [3, 4])
def test_an_average_is_resumed_to_the_bit(tiny, tmp_path, monkeypatch, average, stop_at) -> None:
    _, expected = run([*tiny, *average, f"runs_dir={tmp_path / 'undisturbed'}"])
    folder = freeze(load([*tiny, *average]))
    run_until(stop_at, folder, monkeypatch)
    record = cell.run(folder)
    assert (record.fingerprints, record.losses) == (expected.fingerprints, expected.losses)


def test_weights_of_sixteen_bits_are_evaluated_in_float32(make_training) -> None:
    training = make_training([])
    training.model.bfloat16()
    with evaluated_weights(training) as model:
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert evaluate(training, first_sequence(training)).dtype == "float32"
    assert {p.dtype for p in training.model.parameters()} == {torch.bfloat16}
