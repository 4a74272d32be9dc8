"""What the loop does for speed changes nothing but the speed."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from harness.config import ModelConfig, OptimConfig, PrecisionConfig
from harness.engine.memory import keep_memory
from harness.engine.precision import Precision
from harness.engine.randomness import initialise, weights_hash
from harness.evaluation import sequence_losses
from harness.model import build
from harness.optim import adamw, clip_gradients
from harness.study.plan import PlannedCell
from harness.study.runner import preload
from tests.configs import load

pytestmark = pytest.mark.thorough

SHAPE = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16, "vocab_size": 61}


def test_adamw_is_pytorchs_bit_by_bit_also_after_loading_its_state() -> None:
    def trained(make) -> str:
        model = build(ModelConfig(**SHAPE))
        initialise(model, 0)
        optimizer, seed = make(model), torch.Generator().manual_seed(1)
        for _ in range(3):
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=seed)
            optimizer.step()
            optimizer.zero_grad()
            state = optimizer.state_dict()
            optimizer = make(model)
            optimizer.load_state_dict(state)
        return weights_hash(model)

    ours = OptimConfig(lr=0.01)
    theirs = {"lr": ours.lr, "weight_decay": ours.weight_decay, "betas": tuple(ours.betas)}
    assert trained(lambda model: adamw(model, ours)) == trained(
        lambda model: torch.optim.AdamW(model.parameters(), fused=True, **theirs)
    )


@pytest.mark.slow
def test_training_does_not_import_the_compiler(tiny, tmp_path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "harness", *tiny, "precision=amp_fp16"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "harness.optim" in done.stderr
    assert "torch._dynamo" not in done.stderr


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("hardware=cpu", []),
        ("hardware.compile=true", ["torch._dynamo"]),
        ("optim.optimizer._target_=torch.optim.SGD", ["torch._dynamo"]),
    ],
)
def test_the_compiler_is_imported_once_for_all_cells_where_they_need_it(
    override: str, first: list[str], tmp_path
) -> None:
    cell = PlannedCell(load([override]), tmp_path)
    assert preload([cell]) == [*first, "harness.study.nursery"]


def test_a_step_left_out_on_the_device_leaves_weights_and_moments_alone() -> None:
    model = build(ModelConfig(**SHAPE))
    optimizer = adamw(model, OptimConfig())
    precision = Precision(PrecisionConfig(), torch.device("cpu"))

    def step(grad: float) -> bool:
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, grad)
        return bool(precision.step(optimizer, clip_gradients(model, None)))

    assert step(1.0)
    weights, state = weights_hash(model), optimizer.state_dict()["state"][0]["step"].item()
    assert not step(float("nan"))
    assert not step(float("inf"))
    assert (weights_hash(model), optimizer.state_dict()["state"][0]["step"].item()) == (
        weights,
        state,
    )
    assert step(1.0)
    assert weights_hash(model) != weights


@pytest.mark.parametrize("max_norm", [None, 0.5, 1e9])
def test_the_gradient_norm_is_that_of_all_gradients_and_the_clip_obeys_it(max_norm) -> None:
    model = build(ModelConfig(**SHAPE))
    for i, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, 0.01 * (i + 1))
    expected = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    assert clip_gradients(model, max_norm).item() == pytest.approx(expected.item(), rel=1e-5)
    after = torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
    assert after == pytest.approx(min(expected.item(), max_norm or 1e9), rel=1e-4)


def test_evaluation_in_pieces_is_the_plain_cross_entropy() -> None:
    model = build(ModelConfig(**{**SHAPE, "block_size": 300})).eval()
    initialise(model, 0)
    sequences = np.random.Philox(key=2).random_raw(5 * 301).reshape(5, 301).astype(np.uint16) % 61
    losses = sequence_losses(model, sequences, batch_size=4)
    x_BT, y_BT = (
        torch.from_numpy(s.astype(np.int64)) for s in (sequences[:, :-1], sequences[:, 1:])
    )
    with torch.no_grad():
        plain_BT = F.cross_entropy(model(x_BT).transpose(1, 2), y_BT, reduction="none")
    np.testing.assert_allclose(losses, plain_BT.mean(1).numpy(), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # its own
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_the_compiled_model_is_one_graph_with_the_same_loss_and_gradients(dtype) -> None:
    torch._dynamo.reset()
    model = build(ModelConfig(**SHAPE, dropout=0.0)).train()
    initialise(model, 0)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    x_BT, y_BT = torch.randint(0, 61, (2, 4, 16), generator=torch.Generator().manual_seed(0))
    parameters = list(model.parameters())
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        eager, ours = model(x_BT, y_BT), compiled(x_BT, y_BT)
    eager, ours = ([loss, *torch.autograd.grad(loss, parameters)] for loss in (eager, ours))
    torch.testing.assert_close(ours, eager, atol=1e-6, rtol=1e-5)


def test_memory_is_kept_where_the_allocator_can_be_told() -> None:
    import platform

    assert keep_memory() == (platform.libc_ver()[0] == "glibc")
