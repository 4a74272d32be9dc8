import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from harness.config import ModelConfig
from harness.engine.batches import Batches
from harness.engine.randomness import initialise, key, parameter_hashes, sequence_order
from harness.loop import accumulate_gradients
from harness.model import build
from tests.configs import load

PUBLISHED = [
    "weight_tying",
    "qkv_bias",
    "no_dropout",
    "weight_decay_gpt2",
    "weight_decay_cerebras",
    "no_amp",
    "gradient_clipping",
    "higher_lr",
    "warmup_cosine",
    "scheduled_lr",
    "batch_size_small",
]


def hashes(config: ModelConfig, seed: int = 0) -> dict[str, str]:
    model = build(config)
    initialise(model, seed)
    return parameter_hashes(model)


@pytest.mark.thorough
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_intervention_leaves_every_shared_tensor_bit_identical(name: str) -> None:
    # precision=amp_fp16 as at the published scale, where no_amp has something to change
    common = ["precision=amp_fp16"]
    baseline = hashes(load(common).model)
    arm = hashes(load([*common, f"+intervention={name}"]).model)
    shared = baseline.keys() & arm.keys()
    assert len(shared) >= len(baseline) - 1  # weight tying alone has one tensor less
    assert {n: arm[n] for n in shared} == {n: baseline[n] for n in shared}


def test_every_tensor_and_every_seed_draws_its_own_numbers() -> None:
    config = ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=8, vocab_size=11, qkv_bias=True)
    first, second = hashes(config, 0), hashes(config, 1)
    drawn = {n for n in first if "norm" not in n}
    assert all(first[name] != second[name] for name in drawn)
    model = build(config)
    initialise(model, 0)
    same_shape = [b.mlp.up.weight for b in model.blocks]
    assert not torch.equal(*same_shape)


def test_initial_weights_follow_pytorchs_own_distributions() -> None:
    model = build(
        ModelConfig(n_layer=1, n_head=4, n_embd=64, block_size=64, vocab_size=300, qkv_bias=True)
    )
    initialise(model, 5)
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            assert stats.kstest(module.weight.detach().ravel(), "norm").pvalue > 1e-3, name
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            for parameter in module.parameters():
                values = parameter.detach().ravel()
                uniform = stats.uniform(-bound, 2 * bound)
                assert stats.kstest(values, uniform.cdf).pvalue > 1e-3, name
        elif isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()


def test_a_module_that_cannot_be_initialised_by_name_is_refused() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.randn(3))

    with pytest.raises(TypeError, match=r"Scale .* has no reset_parameters"):
        initialise(nn.Sequential(Scale()), 0)


def test_initialising_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    hashes(ModelConfig(n_layer=1, n_head=1, n_embd=8, block_size=8, vocab_size=9))
    assert torch.equal(torch.rand(3), expected)


def test_keys_differ_by_seed_purpose_and_names() -> None:
    keys = {
        key(s, p, *n) for s in (0, 1) for p in ("init", "data") for n in ((1, 2), (12,), ("1", ""))
    }
    assert len(keys) == 2 * 2 * 3


def test_an_epoch_visits_every_sequence_once_in_an_order_of_its_own() -> None:
    orders = [sequence_order(100, epoch, seed) for epoch in (0, 1) for seed in (0, 1)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert sequence_order(100, 3, None).tolist() == list(range(100))


def test_batches_depend_on_the_step_alone_and_cover_the_stream() -> None:
    tokens = np.arange(1001, dtype=np.uint16)
    batches = Batches(tokens, block_size=10, batch_size=8, seed=4)
    again = Batches(tokens, block_size=10, batch_size=8, seed=4)
    assert batches.n_sequences == 100
    for step in (12, 3, 12):
        assert torch.equal(batches(step)[0], again(step)[0])
    visited = np.concatenate([batches.indices(step) for step in range(25)])  # two epochs
    assert (np.bincount(visited) == 2).all()
    x_BT, y_BT = batches(0)
    assert torch.equal(x_BT[:, 1:], y_BT[:, :-1])
    assert (y_BT[:, -1] == x_BT[:, -1] + 1).all()


def test_the_batch_size_does_not_change_the_order_of_the_sequences() -> None:
    tokens = np.zeros(1001, dtype=np.uint16)
    small, large = (Batches(tokens, 10, size, seed=4) for size in (5, 20))
    together = np.concatenate([small.indices(step) for step in range(4)])
    assert (together == large.indices(0)).all()


def test_unshuffled_batches_read_the_stream_as_stored_whatever_the_seed() -> None:
    tokens = np.arange(1001, dtype=np.uint16)
    batches = Batches(tokens, 10, 8, seed=None)
    assert batches.indices(1).tolist() == list(range(8, 16))
    assert batches.fingerprint(5) != Batches(tokens, 10, 8, seed=0).fingerprint(5)


def test_dropout_is_keyed_by_loop_seed_and_step(make_training) -> None:
    def gradient(overrides: list[str], step: int) -> torch.Tensor:
        training = make_training(["data.shuffle=false", *overrides])
        training.batches.indices = lambda _: np.arange(16)  # the same data at every step
        training.model.zero_grad()
        accumulate_gradients(training, step)
        return training.model.head.weight.grad.clone()

    first = gradient([], 0)
    assert torch.equal(first, gradient([], 0))
    assert not torch.equal(first, gradient([], 1))
    assert not torch.equal(first, gradient(["seeds.loop=1"], 0))
    assert torch.equal(first, gradient(["seeds.data=1"], 0))
    assert torch.equal(gradient(["model.dropout=0"], 0), gradient(["model.dropout=0"], 1))


def test_a_shuffled_order_s_fingerprint_holds_every_epoch_that_is_read() -> None:
    one, other = (Batches(np.zeros(1001, dtype=np.uint16), 10, 8, seed=4) for _ in range(2))
    other._order = lambda epoch: one._order(2 * epoch)  # the same first epoch, another second
    assert one.fingerprint(12) == other.fingerprint(12)
    assert one.fingerprint(13) != other.fingerprint(13)
