"""SOAP against Adam in bases that are known, and muP by its coordinate check."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.config import ModelConfig, OptimConfig
from harness.engine.randomness import initialise
from harness.model import GPT, build
from harness.optim import build_optimizer
from interventions.soap import SOAP, SOAPMuon

R, C, N_STEPS = 5, 7, 14


def draws(seed: int) -> Callable[..., Tensor]:
    stream = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(shape, generator=stream, dtype=torch.float64)


def rotation(random: Callable[..., Tensor], n: int) -> Tensor:
    return torch.linalg.qr(random(n, n)).Q


def path(optimizer_class, start_RC: Tensor, gradients: list[Tensor], **settings) -> Tensor:
    p = nn.Parameter(start_RC.clone())
    optimizer = optimizer_class([p], lr=0.01, **settings)
    for gradient in gradients:
        p.grad = gradient.clone()
        optimizer.step()
    return p.detach()


def gradients(random: Callable[..., Tensor], n_columns: int = C) -> list[Tensor]:
    """Return gradients whose rows and columns differ in size, as a network's do."""
    rows_R, columns_C = (torch.logspace(-1, 1, n, dtype=torch.float64) for n in (R, n_columns))
    return [rows_R[:, None] * random(R, n_columns) * columns_C for _ in range(N_STEPS)]


@pytest.mark.parametrize("refresh_every", [1, 3])
def test_soap_is_pytorchs_adamw_where_the_basis_is_that_of_the_weights(refresh_every: int) -> None:
    """Diagonal gradients have diagonal products: after the first, which moves nothing, it is Adam."""
    random = draws(0)
    start = random(R, C)
    diagonals = []
    for _ in range(N_STEPS):
        diagonals.append(torch.zeros(R, C, dtype=torch.float64))
        diagonals[-1].diagonal().copy_(random(R))
    settings = {"betas": (0.9, 0.95), "weight_decay": 0.3}
    ours = path(SOAP, start, diagonals, refresh_every=refresh_every, **settings)
    theirs = path(torch.optim.AdamW, start, diagonals[1:], **settings)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("optimizer_class", [SOAP, SOAPMuon])
def test_turned_gradients_turn_the_path(optimizer_class) -> None:
    """What Adam lacks: the answer does not depend on the axes that the weights are written in.

    Square, since of a wide first gradient some eigenvectors are arbitrary.
    """
    random = draws(1)
    given, left, right = gradients(random, n_columns=R), rotation(random, R), rotation(random, R)
    start, settings = random(R, R), {"weight_decay": 0.1, "refresh_every": 2}
    plain = path(optimizer_class, start, given, **settings)
    turned_gradients = [left @ g @ right.T for g in given]
    turned = path(optimizer_class, left @ start @ right.T, turned_gradients, **settings)
    # products are orthogonalised in float32
    torch.testing.assert_close(left @ plain @ right.T, turned, atol=1e-5, rtol=1e-4)
    adam, other = (path(torch.optim.AdamW, start, g) for g in (given, turned_gradients))
    assert (left @ adam @ right.T - other).norm() > 0.1 * (adam - start).norm()


def test_the_basis_comes_to_be_that_of_the_gradients_products() -> None:
    random = draws(2)
    left, right = rotation(random, R), rotation(random, C)
    given = [left @ g @ right.T for g in gradients(random) * 20]
    p = nn.Parameter(random(R, C))
    optimizer = SOAP([p], lr=0.01, betas=(0.95, 0.99), refresh_every=1)
    for gradient in given:
        p.grad = gradient
        optimizer.step()
    for basis, product in (("basis_RR", "left_RR"), ("basis_CC", "right_CC")):
        q = optimizer.state[p][basis]
        turned = q.T @ optimizer.state[p][product] @ q
        beside = turned - turned.diagonal().diag()
        torch.testing.assert_close(q.T @ q, torch.eye(len(q), dtype=q.dtype))
        assert beside.norm() < 0.05 * turned.norm()


def test_a_step_of_soap_muon_has_equal_singular_values_and_the_size_of_adamws() -> None:
    random = draws(3)
    start, given = random(R, C), gradients(random)
    before = path(SOAPMuon, start, given[:-1], weight_decay=0.0)
    moved = (before - path(SOAPMuon, start, given, weight_decay=0.0)) / 0.01
    values = torch.linalg.svdvals(moved)
    assert values.min() > 0.7 * values.max()
    torch.testing.assert_close(moved.square().mean().sqrt().item(), 0.2)


HEADS = {"n_layer": 2, "n_head": 2, "block_size": 16, "vocab_size": 61}
BASE = 32
MUP = {
    "head": {"_target_": "interventions.mup.MupHead", "base_width": BASE},
    "attention": {"_target_": "interventions.mup.MupAttention", "base_width": BASE},
}
RATES = {"_target_": "interventions.mup.adamw", "base_width": BASE}
PLAIN = {"_target_": "harness.optim.adamw"}


def gpt(width: int, **slots) -> GPT:
    model = build(ModelConfig(**HEADS, n_embd=width, dropout=0.0, **slots))
    initialise(model, seed=0)
    return model


def tokens() -> Tensor:
    return torch.randint(61, (8, 17), generator=torch.Generator().manual_seed(0))


def take(model: GPT, slot: dict, lr: float, n_steps: int = 4) -> None:
    optimizer = build_optimizer(slot, model, OptimConfig(lr=lr))
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
    for _ in range(n_steps):
        model(tokens()[:, :-1], tokens()[:, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def coordinates(model: GPT) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for i, block in enumerate(model.blocks):
        for name, part in (("attention", block.attn), ("mlp", block.mlp)):
            part.register_forward_hook(lambda *o, k=f"{name} {i}": found.update({k: o[-1]}))
    found["hidden"] = model.hidden(tokens()[:, :-1])
    return found | {"logits": model.head(found["hidden"])}


def growth(slots: dict, rates: dict) -> dict[str, float]:
    """Return, for each activation, the power of the width that its change in four steps grows with."""
    widths, sizes = [BASE, 2 * BASE, 4 * BASE], []
    for width in widths:
        model = gpt(width, **slots)
        before = coordinates(model)
        take(model, rates, lr=1e-3)
        after = coordinates(model)
        sizes.append({k: (after[k] - v).square().mean().sqrt() for k, v in before.items()})
    return {k: np.polyfit(np.log(widths), np.log([s[k] for s in sizes]), 1)[0] for k in sizes[0]}


def test_activations_move_alike_at_all_widths_and_by_the_standard_rates_they_do_not() -> None:
    """The coordinate check of Yang et al. 2022, appendix D.1."""
    mup, standard = growth(MUP, RATES), growth({}, PLAIN)
    assert all(power > 0.6 for power in standard.values()), standard
    assert abs(mup["hidden"]) < 0.2
    assert all(power < 0.2 for power in mup.values()), mup


def test_at_the_base_width_it_is_the_plain_model() -> None:
    ours, plain = gpt(BASE, **MUP), gpt(BASE)
    theirs = dict(plain.named_parameters())
    assert all(torch.equal(p, theirs[name]) for name, p in ours.named_parameters())
    take(ours, RATES, lr=1e-3)
    take(plain, PLAIN, lr=1e-3)
    for name, p in ours.named_parameters():
        torch.testing.assert_close(p, theirs[name], atol=1e-6, rtol=1e-5)


def test_rates_of_matrices_fall_with_the_width_and_decay_a_step_stays() -> None:
    model, config = gpt(4 * BASE, **MUP), OptimConfig(lr=0.01, weight_decay=0.2)
    optimizer = build_optimizer(RATES, model, config)
    matrices = {p for name, p in model.named_parameters() if name.endswith(INNER)}
    assert len(matrices) == 4 * HEADS["n_layer"]
    for group in optimizer.param_groups:
        scale = 0.25 if set(group["params"]) == matrices else 1.0
        assert group["lr_scale"] == scale
        assert group["lr_scale"] * group["weight_decay"] == config.weight_decay
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(model.parameters()))


INNER = ("qkv.weight", "proj.weight", "up.weight", "down.weight")


def test_scores_are_divided_by_the_head_size_beyond_the_base() -> None:
    """Four times as wide, twice the divisor: as queries of half the size in the plain model."""
    ours, plain = gpt(4 * BASE, attention=MUP["attention"]), gpt(4 * BASE)
    with torch.no_grad():
        for block in plain.blocks:
            block.attn.qkv.weight[: 4 * BASE] /= 2
    ids = tokens()[:, :-1]
    torch.testing.assert_close(ours(ids), plain(ids))
