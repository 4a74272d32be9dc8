import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.config import ConfigError, ModelConfig
from harness.engine.randomness import initialise
from harness.model import (
    GPT,
    MLP,
    Block,
    Context,
    build,
    count_parameters,
    cross_entropy,
    set_progress,
)
from tests.configs import load

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


def model_with(seed: int = 0, **changes) -> GPT:
    model = build(ModelConfig(**{**TINY, "dropout": 0.0, **changes}))
    initialise(model, seed)
    return model


def here(name: str, **arguments) -> dict:
    return {"_target_": f"{__name__}.{name}", **arguments}


X_BT = torch.randint(0, 61, (3, 16), generator=torch.Generator().manual_seed(0))


def test_a_plain_torch_class_is_a_slot_with_its_own_arguments() -> None:
    norm = {"_target_": "torch.nn.RMSNorm", "normalized_shape": 32, "eps": 1e-3}
    model = model_with(norm=norm, position={"_target_": "torch.nn.Identity"})
    norms = [m for m in model.modules() if isinstance(m, nn.RMSNorm)]
    assert len(norms) == 5
    assert {m.eps for m in norms} == {1e-3}
    assert isinstance(model.position, nn.Identity)
    model(X_BT, X_BT).backward()


def test_a_factory_that_lacks_an_argument_is_told_what_a_slot_gives() -> None:
    with pytest.raises(ConfigError, match=r"RMSNorm: missing .*'normalized_shape'.* config and la"):
        model_with(norm={"_target_": "torch.nn.RMSNorm"})


class Numbered(nn.Identity):
    """Knows its layer and its config."""

    def __init__(self, layer: int, config: ModelConfig) -> None:
        super().__init__()
        self.layer, self.n_layer = layer, config.n_layer


def test_a_part_that_asks_for_its_layer_is_told() -> None:
    model = model_with(norm=here("Numbered"), mlp=here("Numbered"))
    layers = [(b.norm1.layer, b.norm2.layer, b.mlp.layer) for b in model.blocks]
    assert layers == [(0, 0, 0), (1, 1, 1)]
    assert model.norm.layer == model.norm.n_layer == 2


class Looking(nn.Module):
    """Keeps the context that it is called with."""

    def forward(self, x: torch.Tensor, ctx: Context) -> torch.Tensor:
        self.seen = ctx
        return x


def test_a_part_that_asks_for_the_context_gets_that_of_the_pass() -> None:
    model = model_with(mlp=here("Looking"), position=here("Looking"))
    model.progress.fill_(0.25)
    model(X_BT)
    contexts = [model.position.seen, *(block.mlp.seen for block in model.blocks)]
    assert len({id(ctx) for ctx in contexts}) == 1
    ctx = contexts[0]
    assert torch.equal(ctx.ids_BT, X_BT)
    assert torch.equal(ctx.x0_BTC, model.tok_emb(X_BT))
    assert ctx.positions.tolist() == list(range(16))
    assert ctx.progress == 0.25
    assert torch.equal(ctx.documents(7), (X_BT == 7).cumsum(1))
    assert ctx.first_values_BGTD.shape == (3, 4, 16, 8)


def test_the_progress_is_no_part_of_what_is_saved() -> None:
    assert "progress" not in model_with().state_dict()


class Doubled(nn.Embedding):
    """An embedding of one's own."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.vocab_size, config.n_embd)

    def forward(self, ids_BT: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(ids_BT)


@pytest.mark.parametrize("tie_weights", [False, True])
def test_the_embedding_is_a_slot_that_the_head_can_share(tie_weights: bool) -> None:
    plain = model_with(tie_weights=tie_weights)
    ours = model_with(tie_weights=tie_weights, embedding=here("Doubled"))
    assert torch.equal(plain.tok_emb.weight, ours.tok_emb.weight)
    assert (ours.head.weight is ours.tok_emb.weight) == tie_weights
    assert torch.equal(2 * plain.tok_emb(X_BT), ours.tok_emb(X_BT))


class Skipping(nn.Module):
    """A block of one's own, without a context."""

    def forward(self, x_BTC: torch.Tensor) -> torch.Tensor:
        return x_BTC + 1


def test_the_block_is_a_slot() -> None:
    model = model_with(block=here("Skipping"))
    x_BTC = model.position(model.tok_emb(X_BT)) + 1 + 1
    assert torch.equal(model.hidden(X_BT), model.norm(x_BTC))


class Bigrams(nn.Module):
    """The smallest model that keeps the contract."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.hidden = nn.Embedding(config.vocab_size, 8)
        self.head = nn.Linear(8, config.vocab_size)

    def forward(self, x_BT: torch.Tensor, y_BT: torch.Tensor | None = None) -> torch.Tensor:
        logits_BTV = self.head(self.hidden(x_BT))
        return logits_BTV if y_BT is None else cross_entropy(logits_BTV, y_BT)


def test_a_whole_model_of_ones_own_trains_and_is_evaluated(make_training) -> None:
    from harness.loop import Nobody, evaluate, train

    training = make_training([f"model.architecture._target_={__name__}.Bigrams"])
    assert isinstance(training.model, Bigrams)
    sequences = training.batches.tokens[training.batches.pipeline.positions(np.arange(8))]
    before = evaluate(training, sequences).mean()
    training.config.optim.lr = 0.1
    train(training, Nobody())
    assert evaluate(training, sequences).mean() < before


def test_a_whole_model_without_a_head_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"torch\.nn\.Identity has no hidden: a model needs hidden"
    ):
        build(ModelConfig(**TINY, architecture={"_target_": "torch.nn.Identity"}))


def test_a_parallel_block_adds_both_branches_of_one_norm() -> None:
    config = ModelConfig(**TINY, dropout=0.0)
    block = Block(config, layer=0, parallel=True)
    x_BTC = torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(0))
    ctx = Context(ids_BT=X_BT[:2], progress=torch.zeros(()))
    normed_BTC = F.layer_norm(x_BTC, (32,))
    expected = x_BTC + block.attn(normed_BTC, ctx) + block.mlp(normed_BTC)
    torch.testing.assert_close(block(x_BTC, ctx), expected)
    assert not any(name.startswith("norm2") for name, _ in block.named_parameters())


def test_stochastic_depth_drops_whole_branches_more_often_in_deep_layers() -> None:
    model = model_with(n_layer=4, block={"_target_": "harness.model.Block", "drop_path": 0.8})
    assert [b.drop_path.p for b in model.blocks] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    dropper = model.blocks[1].drop_path.train()
    torch.manual_seed(0)
    out_BTC = dropper(torch.ones(4000, 2, 3))
    assert all(len(row.unique()) == 1 for row in out_BTC)
    assert (out_BTC[:, 0, 0] == 0).float().mean() == pytest.approx(0.4, abs=0.04)
    assert out_BTC.mean() == pytest.approx(1, abs=0.05)
    plain = model_with(n_layer=4)
    assert torch.equal(model.eval()(X_BT), plain.eval()(X_BT))


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("gelu_tanh", lambda x: F.gelu(x, approximate="tanh")),
        ("gelu", lambda x: x * torch.special.ndtr(x)),
        ("relu", lambda x: x.clamp(min=0)),
        ("relu2", lambda x: torch.where(x > 0, x * x, 0)),
        ("leaky_relu2", lambda x: torch.where(x > 0, x * x, x * x / 4)),
        ("silu", lambda x: x / (1 + (-x).exp())),
    ],
)
def test_the_mlps_activation_is_the_one_that_is_named(name: str, formula) -> None:
    mlp = MLP(ModelConfig(**TINY), activation=name).double()
    x_BTC = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(mlp(x_BTC), mlp.down(formula(mlp.up(x_BTC))))


def test_an_unknown_activation_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"activation=swish: allowed are gelu_tanh, gelu, relu, r"
    ):
        MLP(ModelConfig(**TINY), activation="swish")


@pytest.mark.parametrize(("name", "theirs"), [("silu", "silu"), ("gelu_tanh", "gelu_pytorch_tanh")])
def test_the_gated_mlp_is_llamas(name: str, theirs: str) -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    ours = MLP(ModelConfig(**TINY), expansion=8 / 3, activation=name, gated=True, bias=False)
    width = ours.up.out_features
    assert width == 85  # two thirds of 4 x 32
    llama = LlamaMLP(LlamaConfig(hidden_size=32, intermediate_size=width, hidden_act=theirs))
    llama.load_state_dict({f"{key[:-7]}_proj.weight": w for key, w in ours.state_dict().items()})
    x_BTC = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x_BTC), llama(x_BTC))


class Fading(nn.Module):
    """Reads how far the training is."""

    def forward(self, x_BTC: torch.Tensor, ctx: Context) -> torch.Tensor:
        return x_BTC * (1 - ctx.progress)


MODERN = {
    "n_layer": 4,
    "norm": {"_target_": "torch.nn.RMSNorm", "normalized_shape": 32, "eps": 1e-5},
    "attention": {
        "_target_": "harness.model.CausalSelfAttention", "bias": False, "n_kv_head": 2,
        "rope": 10_000.0, "rope_frac": 0.5, "alibi": True, "qk_norm": True, "window_frac": 0.5,
        "window_pattern": "SL", "sink": True, "softcap": 20.0, "gate": "headwise",
        "exclusive": True, "value_residual": True, "value_embedding": True,
    },
    "mlp": {"_target_": "harness.model.MLP", "activation": "relu2", "gated": True, "bias": False},
    "position": here("Fading"),
    "embedding": {"_target_": "interventions.smear.SmearedEmbedding"},
    "block": {"_target_": "interventions.x0_lambdas.X0Block", "parallel": True},
    "head": {"_target_": "interventions.softcap.SoftcapHead", "cap": 15.0},
    "architecture": {"_target_": "interventions.unet_skips.UNetGPT"},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # its own
@pytest.mark.parametrize("changes", [{}, MODERN], ids=["baseline", "all options"])
def test_the_compiled_model_is_one_graph_for_all_of_training(changes: dict) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    model = model_with(**changes).train()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    for step in range(3):
        set_progress(model, step / 3)
        torch.testing.assert_close(compiled(X_BT, X_BT), model(X_BT, X_BT), atol=1e-5, rtol=1e-5)
    assert counter.frame_count == 1
