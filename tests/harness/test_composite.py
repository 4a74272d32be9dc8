"""Several optimisers as one: what each moves, skipped steps, and states that go on."""

from functools import partial

import pytest
import torch
from torch import nn

from harness.cell import train as cell
from harness.cell.freeze import freeze
from harness.config import Autocast, ConfigError, Matmul, OptimConfig, PrecisionConfig
from harness.engine.precision import Precision
from harness.engine.randomness import weights_hash
from harness.loop import Nobody, train
from harness.optim import Composite, clip_gradients, inner_matrices, split
from tests.configs import load
from tests.harness.cells import run, run_until

MUON = ["+intervention=muon"]
SPLIT_SGD = [
    "optim.optimizer._target_=harness.optim.split",
    "+optim.optimizer.matrices={_target_:torch.optim.SGD,_partial_:true,momentum:0.9,lr:0.02}",
]


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tok_emb, self.inner = nn.Embedding(8, 4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 8, bias=False)

    def loss(self) -> torch.Tensor:
        return self.head(self.inner(self.tok_emb.weight)).logsumexp(-1).square().mean()


def test_matrices_are_those_of_linear_layers_but_the_head(make_training) -> None:
    model = make_training(["model.n_layer=2", "model.tie_weights=true"]).model
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)] for p in inner_matrices(model)} == {
        f"blocks.{i}.{part}.weight"
        for i in range(2)
        for part in ("attn.qkv", "attn.proj", "mlp.up", "mlp.down")
    }


@pytest.mark.thorough
def test_a_split_moves_each_part_as_its_optimiser_alone_would() -> None:
    ours, theirs = Toy(), Toy()
    config = OptimConfig(lr=0.01, weight_decay=0.3)
    optimizer = split(ours, config, partial(torch.optim.SGD, momentum=0.9))
    rest = [theirs.tok_emb.weight, theirs.inner.bias, theirs.head.weight]
    alone = [
        torch.optim.SGD([theirs.inner.weight], lr=0.01, momentum=0.9, weight_decay=0.3),
        torch.optim.AdamW(rest, lr=0.01, weight_decay=0.3, fused=True),
    ]
    for _ in range(3):
        for model, optimizers in ((ours, [optimizer]), (theirs, alone)):
            model.loss().backward()
            for each in optimizers:
                each.step()
                each.zero_grad()
    assert weights_hash(ours) == weights_hash(theirs)


def test_the_parts_of_a_split_keep_rates_of_their_own_under_one_schedule(make_training) -> None:
    training = make_training([*SPLIT_SGD, "optim.lr=1e-3", "schedule=warmup_cosine"])
    rates: list[list[float]] = []

    class Watch(Nobody):
        def step_done(self, *_: object) -> None:
            rates.append([group["lr"] for group in training.optimizer.param_groups])

    train(training, Watch())
    assert all(matrices == pytest.approx(20 * rest) for matrices, rest in rates)
    assert len({rest for _, rest in rates}) > 5


@pytest.mark.parametrize(
    "make",
    [
        lambda model: split(model, OptimConfig(), torch.optim.SGD),
        lambda model: Composite([torch.optim.AdamW(model.parameters(), fused=True)]),
    ],
    ids=["asks the host", "on the device"],
)
def test_a_step_that_is_not_finite_moves_nothing_and_the_next_one_does(make) -> None:
    model = Toy()
    optimizer = make(model)
    config = PrecisionConfig(autocast=Autocast.fp16, matmul=Matmul.highest)
    precision = Precision(config, torch.device("cpu"))

    def step(factor: float) -> bool:
        precision.backward(model.loss() * factor)
        precision.unscale(optimizer)
        taken = precision.step(optimizer, clip_gradients(model, None))
        optimizer.zero_grad()
        return bool(taken)

    assert step(1.0)
    weights, scale = weights_hash(model), precision.scaler.get_scale()
    assert not step(float("inf"))
    assert weights_hash(model) == weights
    assert precision.scaler.get_scale() == scale / 2
    assert step(1.0)
    assert weights_hash(model) != weights


@pytest.mark.parametrize("precision", ["fp32", "amp_fp16"])
def test_a_killed_cell_of_muon_and_adamw_goes_on_to_the_same_weights(
    tiny, tmp_path, monkeypatch, precision: str
) -> None:
    overrides = [*tiny, *MUON, f"precision={precision}"]
    _, expected = run([*overrides, f"runs_dir={tmp_path / 'undisturbed'}"])
    folder = freeze(load(overrides))
    run_until(5, folder, monkeypatch)
    assert cell.run(folder).fingerprints == expected.fingerprints


def test_a_split_of_a_model_without_matrices_is_refused() -> None:
    with pytest.raises(ConfigError, match="no linear layers"):
        split(nn.Embedding(4, 4), OptimConfig(), torch.optim.SGD)


@pytest.mark.proof
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_model_trains_with_muon_float8_and_averages(make_training) -> None:
    overlays = ["+intervention=[muon,fp8,ema,cautious_wd]", "model.dropout=0"]
    losses: list[list[float]] = []
    for compiled in ("false", "true"):
        training = make_training([*overlays, f"hardware.compile={compiled}"])
        seen: list[float] = []

        class Watch(Nobody):
            def step_done(self, loss: torch.Tensor, *_: object, seen=seen) -> None:
                seen.append(loss.item())

        train(training, Watch())
        losses.append(seen)
    assert losses[1] == pytest.approx(losses[0], abs=5e-3)
