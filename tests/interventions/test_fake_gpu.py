"""Every overlay on a GPU without numbers: devices, types, and what a step waits for."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from harness.loop import Training, evaluate, micro_loss, train_step
from harness.model import LayerNorm
from harness.modules import Context
from interventions.averages import MovingAverage
from tests.fake_gpu import GPU, backward, fake_gpu, made_up
from tests.interventions.arms import NAMES, NEEDS, composed, keeps_state, started

pytestmark = pytest.mark.thorough

PRECISIONS = [
    "amp_fp16",
    *(pytest.param(name, marks=pytest.mark.proof) for name in ("amp_bf16", "fp32")),
]
"""The first has autocast and a loss scaler."""
STEPS = (27, 39)
"""In the first an outer optimiser acts, too; by the last whatever begins late has begun."""
WAITS = {
    **dict.fromkeys(NAMES, 0),
    **dict.fromkeys(("lion", "muon", "nadam", "radam"), 1),
    **dict.fromkeys(("schedule_free", "soap", "soap_muon"), 1),
    **dict.fromkeys(("moe", "moe_balanced"), 4),
    "adafactor": 99,
}
"""How often a step waits. Once where the optimiser cannot leave out a step by itself, once a layer
for how many tokens each expert gets, twice a tensor in PyTorch's Adafactor."""

IDS = torch.arange(2 * 4 * 16).view(2, 4, 16)


def on_the_gpu(name: str, precision: str = "fp32") -> Training:
    needs = NEEDS.get(name, ())
    own = () if any("precision" in need for need in needs) else (f"precision={precision}",)
    return started(composed((name,), (*needs, *own)), GPU)


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", NAMES)
def test_every_overlay_trains_on_a_gpu_waits_for_it_rarely_and_goes_on_from_a_checkpoint(
    name: str, precision: str
) -> None:
    with fake_gpu() as gpu:
        training = on_the_gpu(name, precision)
        for step in STEPS:
            training.step = step
            gpu.waits.clear()
            train_step(training, step)
        assert gpu.waits.total() == WAITS[name], gpu.waits
        if keeps_state(name):
            saved = tree_map(made_up, training.state_dict())
            training = on_the_gpu(name, precision)
            training.load_state_dict(saved)
            train_step(training, STEPS[-1])
        sequences = np.zeros((2, training.config.model.block_size + 1), np.uint16)
        assert evaluate(training, sequences).shape == (2,)
        training.events.metrics(training.model)
        assert all(p.device == GPU for p in training.model.parameters())


def distances_on_the_cpu(ctx: Context) -> Tensor:
    positions_T = torch.arange(ctx.ids_BT.shape[1])
    return (positions_T[:, None] - positions_T)[None]


def average_on_the_cpu(hook: MovingAverage, model, step: int, training: Training) -> None:
    weights = [p.detach() for p in model.parameters()]
    hook.average = hook.average or [weight.cpu() for weight in weights]
    torch._foreach_lerp_(hook.average, weights, 0.1)


def rows_of_another_type(norm: LayerNorm, x_BTC: Tensor) -> Tensor:
    rows = torch.zeros(1, dtype=torch.int64, device=x_BTC.device)
    return x_BTC.index_add(0, rows, x_BTC[:1].bfloat16())


def total_of_floats(norm: LayerNorm, x_BTC: Tensor) -> Tensor:
    return x_BTC.cumsum(dim=1)


FAULTS = [
    ("alibi", Context, "distances", property(distances_on_the_cpu), "two devices, cuda:0 and cpu"),
    ("ema", MovingAverage, "step_done", average_on_the_cpu, "foreach_lerp.*on the CPU"),
    ("baseline", LayerNorm, "forward", rows_of_another_type, "index_add.*one type"),
    ("baseline", LayerNorm, "forward", total_of_floats, "cumsum.*not have a deterministic"),
]


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize(("name", "owner", "attribute", "fault", "message"), FAULTS)
def test_what_a_gpu_refuses_is_refused(
    name: str, owner: type, attribute: str, fault: Callable, message: str, monkeypatch
) -> None:
    monkeypatch.setattr(owner, attribute, fault)
    with fake_gpu():
        training = on_the_gpu(name)
        with pytest.raises(RuntimeError, match=message):
            train_step(training, 0)


def reads_a_number(norm: LayerNorm, x_BTC: Tensor) -> Tensor:
    return x_BTC / x_BTC.abs().max().item()


def finds_rows(norm: LayerNorm, x_BTC: Tensor) -> Tensor:
    rows = (x_BTC.flatten() > 0).nonzero()
    return x_BTC + rows.numel()


@pytest.mark.parametrize("function", [reads_a_number, finds_rows])
def test_waiting_for_a_gpu_is_counted_with_its_line(function: Callable, monkeypatch) -> None:
    monkeypatch.setattr(LayerNorm, "forward", function)
    with fake_gpu() as gpu:
        training = on_the_gpu("baseline")
        gpu.waits.clear()
        train_step(training, 0)
    ((where, times),) = gpu.waits.items()
    assert "test_fake_gpu.py" in where
    assert times == 9  # two norms a layer, and the one before the head


def test_gradients_are_those_of_pytorchs_engine() -> None:
    def gradients(backward: Callable[[Tensor], None]) -> list[Tensor]:
        training = started(composed(("hyper_connections",), ("model.dropout=0",)))
        backward(micro_loss(training, *IDS).objective)
        return [p.grad for p in training.model.parameters()]

    ours, theirs = gradients(backward), gradients(Tensor.backward)
    torch.testing.assert_close(ours, theirs)
