"""Which tokens a step reads, and which a test does: by their places, to the last one."""

import hashlib
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from harness.config.steps import Stage, Steps
from harness.data.evaluated import Sequences, val_sequences
from harness.data.evaluated import test_sequences as sequences_of_the_test
from harness.engine import randomness
from harness.engine.batches import Batches, Consecutive, to_device
from harness.engine.randomness import generator, key, seed_global, tensor_hash, weights_hash


class Backwards:
    """A pipeline of one's own: sequences of two tokens and a target, the last first."""

    n_sequences = 100

    def positions(self, places: np.ndarray) -> np.ndarray:
        return 200 - places[:, None] + np.arange(3)


class Ordered(Backwards):
    """The same with an order of its own, another in each epoch."""

    def order(self, epoch: int) -> np.ndarray:
        return np.roll(np.arange(100), epoch)


STAGES = Steps((Stage(0, 0, 4, 2), Stage(2, 8, 2, 1)), 4)
"""Two steps of 4 sequences, each cut into 2, then steps of 2 whole ones."""


def test_a_stream_is_cut_into_sequences_that_share_their_ends() -> None:
    assert [Consecutive(n, 4).n_sequences for n in (4, 5, 8, 9)] == [0, 1, 1, 2]
    assert Consecutive(9, 4).positions(np.array([1, 0])).tolist() == [
        [4, 5, 6, 7, 8],
        [0, 1, 2, 3, 4],
    ]


def test_a_step_s_inputs_and_targets_are_these_tokens() -> None:
    batches = Batches(np.arange(100, 121, dtype=np.uint16), 4, 3, seed=None)
    x_BT, y_BT = batches(1)  # sequences 3 and 4, then 0 of the next epoch
    assert x_BT.tolist() == [[112, 113, 114, 115], [116, 117, 118, 119], [100, 101, 102, 103]]
    assert y_BT.tolist() == [[113, 114, 115, 116], [117, 118, 119, 120], [101, 102, 103, 104]]
    assert x_BT.dtype == y_BT.dtype == torch.int64
    assert batches.indices(4).tolist() == [2, 3, 4]


def test_stages_change_how_many_sequences_a_step_reads_and_how_they_are_cut() -> None:
    batches = Batches(np.arange(41, dtype=np.uint16), 4, STAGES, seed=None)
    assert [batches.indices(step).tolist() for step in (1, 2, 3)] == [[4, 5, 6, 7], [8, 9], [0, 1]]
    x_BT, y_BT = batches(0)
    assert x_BT.tolist() == [[2 * i, 2 * i + 1] for i in range(8)]
    assert y_BT.tolist() == [[2 * i + 1, 2 * i + 2] for i in range(8)]
    assert batches(2)[0].tolist() == [[32, 33, 34, 35], [36, 37, 38, 39]]


def test_a_pipeline_of_one_s_own_says_which_tokens_and_may_say_in_which_order() -> None:
    tokens = np.arange(300, dtype=np.uint16)
    plain, ordered = (Batches(tokens, 2, 60, seed=None, pipeline=p()) for p in (Backwards, Ordered))
    assert plain(0)[0][:2].tolist() == [[200, 201], [199, 200]]
    assert plain.n_sequences == 100
    assert ordered.indices(1)[[0, 39, 40, 41]].tolist() == [60, 99, 99, 0]
    assert plain.indices(1)[[0, 39, 40, 41]].tolist() == [60, 99, 0, 1]


@pytest.mark.parametrize(
    ("made", "n_steps", "expected"),
    [
        ((3, None), 2, "d495c740780ce341"), ((3, None), 20, "7b004e3dc12f4255"),
        ((3, 4), 2, "56952c0ab5ccf0ce"), ((3, 4), 20, "26544892cf27f4cc"),
        ((STAGES, 4), 4, "fa65a7ea7f0666d6"), ((60, None, Backwards()), 2, "5664cadbb8b2e416"),
        ((60, None, Backwards()), 4, "d4d1ac9b643dc1f5"), ((60, None, Ordered()), 4, "3ffb9ffcf327883c"),
        ((60, 4, Backwards()), 4, "ecf4456e1d9eb356"),
    ],
)  # fmt: skip
def test_the_order_of_the_data_has_the_hash_that_earlier_records_hold(
    made, n_steps, expected
) -> None:
    batches = Batches(np.arange(21, dtype=np.uint16), 4, *made)
    assert batches.fingerprint(n_steps) == expected


def test_streams_of_random_numbers_have_the_keys_of_earlier_records() -> None:
    whole = hashlib.sha256(b"3\x1finit\x1fhead.weight\x1f1").digest()
    assert key(3, "init", "head.weight", 1) == int.from_bytes(whole[:8], "big") // 2
    assert generator(3, "init", "head.weight", 1).initial_seed() == key(3, "init", "head.weight", 1)


@pytest.mark.parametrize("there", [True, False])
def test_dropout_is_keyed_on_a_gpu_where_there_is_one(there, monkeypatch) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    seed_global(5, "dropout", 1)
    assert seeded == [key(5, "dropout", 1)] * there
    assert torch.default_generator.initial_seed() == key(5, "dropout", 1)


def test_a_hash_of_a_tensor_is_of_its_shape_its_type_and_its_bytes() -> None:
    values = np.array([[1.0, 2.0]], dtype="<f4")
    expected = hashlib.sha256(b"(1, 2)torch.float32" + values.tobytes()).hexdigest()[:16]
    assert tensor_hash(torch.from_numpy(values)) == expected
    assert tensor_hash(torch.tensor([[1.0], [2.0]]).T) == expected
    assert tensor_hash(nn.Parameter(torch.from_numpy(values))) == expected
    one = hashlib.sha256(b"()torch.int64" + np.int64(3).tobytes()).hexdigest()[:16]
    assert tensor_hash(torch.tensor(3)) == one


def test_a_model_s_hash_is_that_of_its_parameters_in_the_order_of_their_names() -> None:
    model = nn.ModuleDict({"b": nn.Linear(1, 1, bias=False), "a": nn.Linear(1, 1, bias=False)})
    parts = [f"{name}.weight{tensor_hash(model[name].weight)}" for name in "ab"]
    assert weights_hash(model) == hashlib.sha256("".join(parts).encode()).hexdigest()[:16]
    assert list(randomness.parameter_hashes(model)) == ["b.weight", "a.weight"]


def test_on_a_cpu_tokens_stay_what_they_are() -> None:
    tokens = torch.arange(3)
    assert to_device(tokens, torch.device("cpu")) is tokens


CORPUS = SimpleNamespace(
    tokens=lambda split: np.arange({"test": 21, "val": 20}[split], dtype=np.uint16),
    document_starts=lambda split: np.array([0, 4, 9, 12]),
)


@pytest.mark.parametrize(
    ("split", "spread", "firsts", "documents"),
    [("test", False, [0, 4, 8], [0, 1, 1]), ("test", True, [0, 4, 12], [0, 1, 3]),
     ("val", False, [0, 4, 8], [0, 1, 1]), ("val", True, [0, 4, 8], [0, 1, 1])],
)  # fmt: skip
def test_the_first_sequences_of_a_split_are_evaluated_or_some_all_over_it(
    split, spread, firsts, documents
) -> None:
    config = SimpleNamespace(
        eval_block_size=4, eval=SimpleNamespace(spread=spread, test_sequences=3, val_sequences=3)
    )
    read = sequences_of_the_test if split == "test" else val_sequences
    found = read(config, CORPUS)
    assert (found.firsts.tolist(), found.documents.tolist()) == (firsts, documents)
    assert found.tokens.tolist() == [list(range(first, first + 5)) for first in firsts]


@pytest.mark.parametrize(
    ("firsts", "once"),
    [([0, 2, 4], [0, 1, 2, 3, 4, 5, 6]), ([0, 3, 7], [0, 1, 2, 3, 4, 5, 7, 8, 9]),
     ([0, 2, 6], [0, 1, 2, 3, 4, 6, 7, 8]), ([5], [5, 6, 7])],
)  # fmt: skip
def test_the_hash_of_a_test_set_is_of_each_of_its_tokens_once(firsts, once) -> None:
    tokens = np.array([range(first, first + 3) for first in firsts], dtype="<u2")
    found = Sequences(tokens, np.array(firsts), np.zeros(len(firsts), int)).sha256()
    assert found == hashlib.sha256(np.array(once, dtype="<u2").tobytes()).hexdigest()


def test_what_is_evaluated_is_known_without_numpy() -> None:
    code = "import sys, harness.data.evaluated; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
