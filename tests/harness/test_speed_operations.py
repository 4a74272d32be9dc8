"""The fast operations against the plain ones, in float64."""

import math

import pytest
import torch
from torch.nn import functional as F

from harness.cell.build import synthetic_training
from harness.config import ModelConfig
from harness.engine import head_loss as fused_loss
from harness.engine import kernels as fast
from harness.engine.head_loss import linear_cross_entropy
from harness.engine.randomness import initialise
from harness.model import GPT, build, cross_entropy
from tests.configs import load
from tests.conftest import TINY


def randn(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()


def both_directions(function, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """Return the result and the gradients of a weighted sum of it."""
    out = function(*inputs)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return [out, *torch.autograd.grad((out * weights).sum(), inputs)]


@pytest.mark.parametrize("n", [1, 1000, fast.GELU_PIECE + 17])
def test_gelu_is_pytorchs_tanh_gelu(n: int) -> None:
    x = (randn(n) * 4).detach().requires_grad_()
    ours = both_directions(fast.gelu_tanh, x)
    plain = both_directions(lambda x: F.gelu(x, approximate="tanh"), x)
    torch.testing.assert_close(ours, plain, atol=1e-14, rtol=1e-14)


def test_gelu_of_large_numbers_is_finite() -> None:
    x = torch.tensor([-1e4, -40.0, 40.0, 1e4], requires_grad=True)
    out, grad = both_directions(fast.gelu_tanh, x)
    assert out.tolist() == [0, 0, 40, 1e4]
    assert torch.isfinite(grad).all()


def plain_attention(q, k, v, masks: list[torch.Tensor], p: float) -> torch.Tensor:
    """Textbook attention with the masks that the fast one drew, piece after piece."""
    T = q.shape[2]
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    weights = scores.masked_fill(future, -math.inf).softmax(-1)
    mask = torch.zeros(T, T).expand(weights.shape).clone()
    for start, piece in zip(range(0, T, fast.QUERY_PIECE), masks, strict=True):
        _, rows, columns = piece.shape
        mask[:, :, start : start + rows, :columns] = piece.view(*q.shape[:2], rows, columns)
    return (weights * mask / (1 - p)) @ v


@pytest.mark.parametrize("n_time", [1, 16, fast.QUERY_PIECE, 3 * fast.QUERY_PIECE - 5])
def test_attention_with_dropout_is_the_textbooks(n_time: int, monkeypatch) -> None:
    q, k, v = (randn(2, 3, n_time, 8 + i)[..., :8] for i in range(3))
    drawn, draw = [], fast.draw_mask

    def spy(shape, p):
        mask, scale = draw(shape, p)
        drawn.append(mask)
        return mask, scale

    monkeypatch.setattr(fast, "draw_mask", spy)
    ours = both_directions(lambda q, k, v: fast.causal_attention(q, k, v, 0.25), q, k, v)
    plain = both_directions(lambda q, k, v: plain_attention(q, k, v, drawn, 0.25), q, k, v)
    torch.testing.assert_close(ours, plain, atol=1e-13, rtol=1e-12)
    kept = torch.cat([m.flatten() for m in drawn]).float().mean()
    if n_time > 1:  # a handful of elements may all be kept
        assert 0 < kept < 1


@pytest.mark.parametrize("shape", [(7, 24), (2, 5, 24), (1, 1, 24)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_linear_in_float32_is_the_exact_one_rounded(shape: tuple, has_bias: bool) -> None:
    inputs = [randn(*shape), randn(33, 24), randn(33)][: 2 + has_bias]
    exact = both_directions(F.linear, *inputs)
    ours = both_directions(fast.linear, *(x.detach().float().requires_grad_() for x in inputs))
    torch.testing.assert_close([x.double() for x in ours], exact, atol=1e-5, rtol=1e-5)


def test_linear_reads_inputs_in_any_layout() -> None:
    x, weight = randn(24, 7, dtype=torch.float32), randn(24, 33, dtype=torch.float32)
    ours = both_directions(lambda x, w: fast.linear(x.t(), w.t()), x, weight)
    plain = both_directions(lambda x, w: F.linear(x.t(), w.t()), x, weight)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)


def test_the_fused_loss_in_float32_is_the_exact_one_rounded() -> None:
    x, weight, y = randn(200, 24), randn(61, 24), torch.arange(200) % 61
    exact = both_directions(lambda x, w: F.cross_entropy(x @ w.T, y), x, weight)
    singles = (z.detach().float().requires_grad_() for z in (x, weight))
    ours = both_directions(lambda x, w: linear_cross_entropy(x, w, y), *singles)
    torch.testing.assert_close([x.double() for x in ours], exact, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.999])
def test_dropout_keeps_the_right_fraction_and_the_mean(p: float) -> None:
    n = 1 << 20
    torch.manual_seed(0)
    out = fast.dropout(torch.ones(n, dtype=torch.float64), p)
    kept = out != 0
    sd = math.sqrt(p * (1 - p) / n)
    assert kept.double().mean().item() == pytest.approx(1 - p, abs=4 * sd + 2**-17)
    assert out[kept].unique().item() == pytest.approx(1 / (1 - p), rel=2**-17 / (1 - p))
    assert out.mean().item() == pytest.approx(1, abs=4 * sd / (1 - p))


def test_dropped_elements_are_independent_of_their_neighbours() -> None:
    torch.manual_seed(0)
    mask = fast.draw_mask(torch.Size([1 << 20]), 0.3)[0].double() - 0.7
    for lag in range(1, 9):
        correlation = (mask[lag:] * mask[:-lag]).mean() / 0.21
        assert abs(correlation) < 4 / 1024


def test_dropout_passes_gradients_where_it_keeps() -> None:
    out, grad = both_directions(lambda x: fast.dropout(x, 0.4), randn(5, 7))
    weights = torch.linspace(-1, 1, 35, dtype=torch.float64).view(5, 7)
    torch.testing.assert_close(grad, (out != 0) * weights / 0.6, rtol=1e-4, atol=0)


def test_the_global_generator_decides_the_mask() -> None:
    def masks(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        return [fast.dropout(torch.ones(64), 0.5) for _ in range(2)]

    first, second = masks(1)
    assert not torch.equal(first, second)
    assert all(map(torch.equal, masks(1), [first, second]))
    assert not torch.equal(masks(2)[0], first)


def test_a_mask_of_odd_size_is_whole() -> None:
    assert fast.draw_mask(torch.Size([3, 1, 1]), 0.5)[0].shape == (3, 1, 1)
    assert fast.dropout(torch.empty(0), 0.5).shape == (0,)


@pytest.fixture(params=["as it runs", "as it is compiled"])
def way(request, monkeypatch) -> None:
    """Take the form of the loss that a compiler fuses, without compiling it."""
    if request.param == "as it is compiled":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("vocab_size", [61, 64, 130])
@pytest.mark.parametrize("n_tokens", [1, 64, 200])
def test_the_fused_loss_is_the_plain_one(n_tokens: int, vocab_size: int, monkeypatch) -> None:
    monkeypatch.setitem(fused_loss.PIECE_ELEMENTS, "cpu", 1)  # 128 rows at a time
    x, weight = randn(n_tokens, 24), randn(vocab_size, 24)
    y = torch.arange(n_tokens) * 7 % vocab_size
    ours = both_directions(lambda x, w: linear_cross_entropy(x, w, y), x, weight)
    plain = both_directions(lambda x, w: F.cross_entropy(x @ w.T, y), x, weight)
    torch.testing.assert_close(ours, plain, atol=1e-13, rtol=1e-12)


@pytest.mark.parametrize("rows", [1, 64, 1000])
def test_so_many_tokens_are_worked_on_at_once_as_the_hardware_says(rows: int, monkeypatch) -> None:
    sizes, product = [], fused_loss.product

    def spy(x, weight):
        sizes.append(len(x))
        return product(x, weight)

    monkeypatch.setattr(fused_loss, "product", spy)
    training = synthetic_training(
        load([*TINY, "model.dropout=0", f"hardware.head_rows={rows}"]), torch.device("cpu"), 8
    )
    x_BT, y_BT = (torch.randint(0, 61, (8, 16)) for _ in range(2))
    loss = training.model(x_BT, y_BT)
    assert set(sizes) == {min(rows, 8 * 16)}
    torch.testing.assert_close(loss, cross_entropy(training.model(x_BT), y_BT))


@pytest.mark.usefixtures("way")
def test_the_fused_loss_survives_enormous_logits() -> None:
    x, weight = randn(4, 8), randn(50, 8)
    y = torch.tensor([0, 1, 2, 3])
    ours = both_directions(lambda x, w: linear_cross_entropy(x * 1e4, w, y), x, weight)
    plain = both_directions(lambda x, w: F.cross_entropy(x * 1e4 @ w.T, y), x, weight)
    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_fused_loss_under_autocast_rounds_like_the_plain_one(dtype: torch.dtype) -> None:
    x, weight = randn(128, 32, dtype=torch.float32), randn(100, 32, dtype=torch.float32)
    y = torch.arange(128) % 100
    exact = both_directions(lambda x, w: F.cross_entropy(x @ w.T, y), x, weight)
    with torch.autocast("cpu", dtype=dtype):
        ours = both_directions(lambda x, w: linear_cross_entropy(x, w, y), x, weight)
        plain = both_directions(lambda x, w: F.cross_entropy(x @ w.T, y), x, weight)
    for mine, theirs, true in zip(ours, plain, exact, strict=True):
        assert (mine - true).abs().max() < 2 * (theirs - true).abs().max() + 1e-6
        assert mine.dtype == true.dtype


def tiny_model(**changes) -> GPT:
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 80, "vocab_size": 61}
    model = build(ModelConfig(**{**shape, "dropout": 0.0, **changes})).double()
    initialise(model, seed=1)
    return model


@pytest.mark.parametrize("changes", [{}, {"tie_weights": True}, {"qkv_bias": True}])
def test_the_models_loss_and_gradients_are_those_of_its_logits(changes: dict) -> None:
    model = tiny_model(**changes)
    x_BT, y_BT = torch.randint(0, 61, (2, 3, 80), generator=torch.Generator().manual_seed(0))
    parameters = list(model.parameters())
    fused = torch.autograd.grad(model(x_BT, y_BT), parameters)
    plain = torch.autograd.grad(cross_entropy(model(x_BT), y_BT), parameters)
    torch.testing.assert_close(fused, plain, atol=1e-13, rtol=1e-11)


def test_a_head_of_ones_own_gets_the_plain_loss() -> None:
    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model = tiny_model()
    head = Doubled(16, 61, bias=False).double()
    head.weight = model.head.weight
    x_BT, y_BT = torch.randint(0, 61, (2, 3, 80), generator=torch.Generator().manual_seed(0))
    expected = cross_entropy(2 * model(x_BT), y_BT)
    model.head = head
    torch.testing.assert_close(model(x_BT, y_BT), expected)


def test_dropout_on_and_off_have_the_same_mean_attention() -> None:
    torch.manual_seed(0)
    q, k, v = (randn(2, 2, 70, 4 + i).detach()[..., :4] for i in range(3))
    mean = torch.stack([fast.causal_attention(q, k, v, 0.2) for _ in range(200)]).mean(0)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert (mean - expected).abs().mean() < 0.04
