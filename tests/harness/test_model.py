import pytest
import torch
from torch import nn

from harness.config import ModelConfig
from harness.config.compose import load
from harness.engine.randomness import initialise
from harness.model import GPT, build, count_parameters, cross_entropy

TINY = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 16, "vocab_size": 61}


@pytest.mark.parametrize(
    ("overlay", "expected"), [("baseline", 163_009_536), ("weight_tying", 124_412_160)]
)
def test_gpt2_small_has_the_published_number_of_parameters(overlay: str, expected: int) -> None:
    config = load(["scale=gpt2_small", f"+intervention={overlay}"])
    with torch.device("meta"):
        assert count_parameters(GPT(config.model)) == expected


@pytest.mark.parametrize("tie_weights", [False, True])
@pytest.mark.parametrize("qkv_bias", [False, True])
def test_logits_and_gradients_are_those_of_transformers(qkv_bias: bool, tie_weights: bool) -> None:
    ours = build(ModelConfig(**TINY, dropout=0.1, qkv_bias=qkv_bias, tie_weights=tie_weights))
    initialise(ours, seed=3)
    ours.eval()
    theirs = _transformers_twin(ours, tie_weights)
    x_BT, y_BT = torch.randint(0, 61, (2, 5, 16), generator=torch.Generator().manual_seed(0))

    logits = ours(x_BT)
    expected = theirs(x_BT).logits
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)

    cross_entropy(logits, y_BT).backward()
    cross_entropy(expected, y_BT).backward()
    for name, (mine, reference, transposed) in _pairs(ours, theirs).items():
        grad = reference.grad.T if transposed else reference.grad
        torch.testing.assert_close(
            mine.grad, grad, atol=1e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def _transformers_twin(ours: GPT, tie_weights: bool) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=61,
        n_positions=16,
        n_embd=32,
        n_layer=2,
        n_head=4,
        activation_function="gelu_new",
        tie_word_embeddings=tie_weights,
        attn_implementation="eager",
    )
    theirs = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for block in theirs.transformer.h:
            block.attn.c_attn.bias.zero_()
        for mine, reference, transposed in _pairs(ours, theirs).values():
            reference.copy_(mine.T if transposed else mine)
    return theirs


def _pairs(ours: GPT, theirs: nn.Module) -> dict[str, tuple[nn.Parameter, nn.Parameter, bool]]:
    """Our parameter beside theirs; their Conv1D stores a linear layer's matrix transposed."""
    gpt2 = theirs.transformer
    named = {
        "tok_emb": (ours.tok_emb.weight, gpt2.wte.weight),
        "position": (ours.position.weight, gpt2.wpe.weight),
        "norm.weight": (ours.norm.weight, gpt2.ln_f.weight),
        "norm.bias": (ours.norm.bias, gpt2.ln_f.bias),
        "head": (ours.head.weight, theirs.lm_head.weight),
    }
    for i, (mine, block) in enumerate(zip(ours.blocks, gpt2.h, strict=True)):
        modules = {
            "norm1": (mine.norm1, block.ln_1),
            "norm2": (mine.norm2, block.ln_2),
            "qkv": (mine.attn.qkv, block.attn.c_attn),
            "proj": (mine.attn.proj, block.attn.c_proj),
            "up": (mine.mlp.up, block.mlp.c_fc),
            "down": (mine.mlp.down, block.mlp.c_proj),
        }
        for name, (a, b) in modules.items():
            for local, parameter in a.named_parameters():
                named[f"{i}.{name}.{local}"] = (parameter, getattr(b, local))
    linear = ("qkv.weight", "proj.weight", "up.weight", "down.weight")
    return {name: (*pair, name.endswith(linear)) for name, pair in named.items()}


def test_every_parameter_of_ours_is_compared_with_transformers() -> None:
    ours = build(ModelConfig(**TINY, qkv_bias=True))
    compared = {id(mine) for mine, _, _ in _pairs(ours, _transformers_twin(ours, False)).values()}
    assert compared == {id(parameter) for parameter in ours.parameters()}


@pytest.mark.parametrize("place", ["embedding", "attention", "residual"])
def test_dropout_acts_in_three_places_and_never_in_evaluation(place: str) -> None:
    model = build(ModelConfig(**TINY, dropout=0.0))
    initialise(model, seed=0)
    if place == "embedding":
        model.dropout.p = 0.5
    for block in model.blocks:
        if place == "attention":
            block.attn.dropout = 0.5
        elif place == "residual":
            block.dropout.p = 0.5
    x_BT = torch.arange(16)[None]
    model.train()
    assert not torch.equal(model(x_BT), model(x_BT))
    model.eval()
    assert torch.equal(model(x_BT), model(x_BT))


def test_the_config_sets_dropout_in_all_three_places() -> None:
    model = build(ModelConfig(**TINY, dropout=0.3))
    assert model.dropout.p == 0.3
    assert all(block.dropout.p == block.attn.dropout == 0.3 for block in model.blocks)


def test_the_future_does_not_change_the_past() -> None:
    model = build(ModelConfig(**TINY)).eval()
    x_BT = torch.arange(16)[None]
    later = x_BT.clone()
    later[0, 10:] = 7
    torch.testing.assert_close(model(x_BT)[0, :10], model(later)[0, :10])
