"""Optimisers, averages and number formats of the catalogue against independent references."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from interventions.averages import LatestAverage, MovingAverage
from interventions.cautious_decay import CautiousWeightDecay
from interventions.freeze_out import freeze_out
from interventions.lookahead import EMANesterov, OuterNesterov
from interventions.low_precision import Float8Linear, bfloat16_weights, float8_linears
from interventions.normuon import NEWTON_SCHULZ, POLAR_EXPRESS, NorMuon, orthogonalised


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def training(step: int, n_steps: int, **more) -> SimpleNamespace:
    return SimpleNamespace(progress=step / n_steps, config=SimpleNamespace(n_steps=n_steps), **more)


def move(model: nn.Module, step: int) -> None:
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.add_(random(*p.shape, seed=100 * step + i))


@pytest.mark.parametrize("coefficients", [NEWTON_SCHULZ, POLAR_EXPRESS])
@pytest.mark.parametrize("shape", [(24, 24), (40, 12), (12, 40)])
def test_orthogonalised_singular_values_are_near_one_and_vectors_stay(coefficients, shape) -> None:
    matrix = random(*shape)
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    found = u.T @ orthogonalised(matrix, coefficients) @ vt.T
    large = s > 0.02 * s.max()
    assert ((found.diagonal()[large] - 1).abs() < 0.35).all()
    assert (found - found.diagonal().diag()).abs().max() < 1e-3


def test_without_its_rows_normuon_is_pytorchs_muon() -> None:
    ours, theirs = (nn.Parameter(random(16, 24)) for _ in range(2))
    settings = {"lr": 0.02, "weight_decay": 0.3, "momentum": 0.9}
    mine = NorMuon([ours], **settings, beta2=None)
    muon = torch.optim.Muon(
        [theirs], **settings, nesterov=False, adjust_lr_fn="match_rms_adamw", ns_steps=5
    )
    for step in range(4):
        ours.grad, theirs.grad = (random(16, 24, seed=step + 1) for _ in range(2))
        before = theirs.detach().clone()
        mine.step()
        muon.step()
        way, other = ours - before, theirs - before
        assert nn.functional.cosine_similarity(way.flatten(), other.flatten(), dim=0) > 0.999
        assert way.norm().item() == pytest.approx(other.norm().item(), rel=0.15)
        with torch.no_grad():
            ours.copy_(theirs)


def test_rows_of_normuons_first_step_are_alike_and_as_large_as_adamws() -> None:
    p = nn.Parameter(torch.zeros(16, 24))
    p.grad = random(16, 24) * torch.logspace(-2, 0, 16)[:, None]
    NorMuon([p], lr=0.01).step()
    torch.testing.assert_close(p.square().mean(dim=1).sqrt(), torch.full((16,), 0.002))


@pytest.mark.parametrize("taken", [True, False])
def test_cautious_decay_shrinks_what_the_step_shrinks(taken: bool) -> None:
    model, lr, decay = layers(), 0.1, 0.5
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, weight_decay=decay)
    before = [p.detach().double() for p in model.parameters()]
    for i, p in enumerate(model.parameters()):
        p.grad = random(*p.shape, seed=i)
    hook = CautiousWeightDecay()
    hook.gradients_ready(model, 0, optimizer)
    if taken:
        optimizer.step()
    hook.step_done(model, 0, SimpleNamespace(optimizer=optimizer, stepped=torch.tensor(taken)))
    assert optimizer.param_groups[0]["weight_decay"] == decay
    for old, p in zip(before, model.parameters(), strict=True):
        gradient = p.grad.double()
        expected = old - lr * gradient - lr * decay * old * (gradient * old >= 0)
        torch.testing.assert_close(p.double(), expected if taken else old, atol=1e-6, rtol=1e-6)


def test_cautious_decay_leaves_what_no_step_moves() -> None:
    model = layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5)
    before = copy.deepcopy(model.state_dict())
    hook = CautiousWeightDecay()
    hook.gradients_ready(model, 0, optimizer)
    optimizer.step()  # frozen: there are no gradients
    hook.step_done(model, 0, SimpleNamespace(optimizer=optimizer, stepped=torch.tensor(True)))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_an_average_of_short_numbers_moves_by_less_than_they_can() -> None:
    model = layers().bfloat16()
    hook = MovingAverage(horizon_frac=0.5)
    for p in model.parameters():
        p.data.fill_(1.0)
    hook.step_done(model, 0, training(0, 2000))
    for p in model.parameters():
        p.data.fill_(2.0)
    for step in range(1, 1001):
        hook.step_done(model, step, training(step, 2000))
    hook.before_eval(model)
    expected = torch.tensor(2 - (1 - 1 / 1000) ** 1000)
    for p in model.parameters():
        torch.testing.assert_close(p.mean(), expected.bfloat16())


def test_a_moving_average_is_pytorchs() -> None:
    model, n_steps = layers(), 40
    ours = MovingAverage(horizon_frac=0.1)
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(1 - 1 / 4))
    for step in range(8):
        move(model, step)
        ours.step_done(model, step, training(step, n_steps))
        theirs.update_parameters(model)
    ours.before_eval(model)
    for p, expected in zip(model.parameters(), theirs.module.parameters(), strict=True):
        torch.testing.assert_close(p, expected)


def test_a_late_average_begins_late_and_is_blended() -> None:
    model = layers()
    hook = MovingAverage(horizon_frac=0.2, start_frac=0.5, blend=0.25)
    hook.before_eval(model)  # nothing to put in yet
    for step in range(4):
        hook.step_done(model, step, training(step, 10))
    assert hook.average == []
    weights = []
    for step in (5, 6):
        move(model, step)
        weights.append(copy.deepcopy(model).state_dict())
        hook.step_done(model, step, training(step, 10))
    hook.before_eval(model)
    for name, p in model.named_parameters():
        first, last = (w[name] for w in weights)
        torch.testing.assert_close(p, 0.75 * last + 0.25 * (first + last) / 2)


def test_the_latest_snapshots_are_averaged() -> None:
    model, kept = layers(), []
    hook = LatestAverage(n=2, every_frac=0.2)
    for step in range(7):
        move(model, step)
        hook.step_done(model, step, training(step, 10))
        if step % 2:
            kept.append(copy.deepcopy(model).state_dict())
    hook.before_eval(model)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p, (kept[-1][name] + kept[-2][name]) / 2)


def test_an_outer_step_is_one_of_pytorchs_sgd_with_nesterov_momentum() -> None:
    model, outer = layers(), layers()
    hook = OuterNesterov(lr=0.7, momentum=0.4, every=2)
    sgd = torch.optim.SGD(outer.parameters(), lr=0.7, momentum=0.4, nesterov=True)
    for step in range(6):
        hook.gradients_ready(model, step)
        move(model, step)
        if step % 2:
            for slow, fast in zip(outer.parameters(), model.parameters(), strict=True):
                slow.grad = slow.detach() - fast.detach()
            sgd.step()
        hook.step_done(model, step)
    for ours, theirs in zip(model.parameters(), outer.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_gradients_are_taken_ahead_and_tests_are_not() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    hook = EMANesterov(ahead=0.5, horizon_frac=0.4, from_frac=0.3, to_frac=0.9)
    weight, smoothed, ahead = 0.0, 0.0, 0.0
    for step in range(5):
        hook.gradients_ready(model, step)
        with torch.no_grad():
            model.weight.add_(1.0)
        hook.step_done(model, step, training(step, 5, schedule=lambda step, n: 0.8))
        smoothed += (ahead + 1.0 - smoothed) / 2
        weight += ahead + 1.0
        ahead = 0.4 * smoothed if 0.3 <= (step + 1) / 5 < 0.9 else 0.0
        assert model.weight.item() == pytest.approx(weight + ahead)
    with torch.no_grad():
        model.weight.add_(3.0)
    hook.before_eval(model)
    assert model.weight.item() == pytest.approx(weight)


def test_blocks_freeze_from_the_first_to_the_last() -> None:
    model = nn.Module()
    model.blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(4))

    def training_blocks(progress: float) -> list[int]:
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        freeze_out(model, step=0, progress=progress, first_frac=0.5)
        return [i for i, block in enumerate(model.blocks) if block.weight.grad is not None]

    found = [training_blocks(progress) for progress in (0.0, 0.49, 0.5, 0.7, 0.99)]
    assert found == [[0, 1, 2, 3], [0, 1, 2, 3], [1, 2, 3], [2, 3], []]


def test_float8_products_are_near_those_of_float32_and_tests_are_exact() -> None:
    layer, x = nn.Linear(64, 32), random(48, 64).requires_grad_()
    other, y = Float8Linear(layer), x.detach().clone().requires_grad_()
    assert other.weight is layer.weight
    for module, inputs in ((layer, x), (other, y)):
        module.weight.grad = None
        module(inputs).square().sum().backward()
        inputs.weight_grad = layer.weight.grad.clone()
    for ours, theirs in ((y.grad, x.grad), (y.weight_grad, x.weight_grad), (other(y), layer(x))):
        error = (ours - theirs).norm() / theirs.norm()
        assert 1e-4 < error < 0.1
    assert torch.equal(other.eval()(y), nn.functional.linear(y, layer.weight, layer.bias))


@pytest.mark.parametrize("n_rows", [0, 5])
def test_float8_multiplies_any_number_of_rows(n_rows: int) -> None:
    layer, x = nn.Linear(64, 32), random(48, 64)[:n_rows].clone().requires_grad_()
    out = Float8Linear(layer)(x)  # as of an expert that few tokens are sent to
    assert out.shape == (n_rows, 32)
    out.sum().backward()
    assert (x.grad.shape, layer.weight.grad.isfinite().all()) == ((n_rows, 64), True)


def test_float8_is_refused_by_name_where_the_gpu_has_none(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA A100")
    on_gpu = SimpleNamespace(device=torch.device("cuda"))
    with pytest.raises(NotImplementedError, match=r"NVIDIA A100 multiplies no float8: .*8\.9"):
        float8_linears(SimpleNamespace(parameters=lambda: iter([on_gpu])))


def test_weights_become_bfloat16_and_scalars_do_not() -> None:
    model = layers()
    model.scale = nn.Parameter(torch.ones(()))
    bfloat16_weights(model)
    dtypes = {name: p.dtype for name, p in model.named_parameters()}
    assert dtypes.pop("scale") is torch.float32
    assert set(dtypes.values()) == {torch.bfloat16}
