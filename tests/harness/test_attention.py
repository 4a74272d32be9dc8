"""Each option of the attention against an independent implementation, and what it leaves alone."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.config import ConfigError, ModelConfig
from harness.engine.randomness import initialise
from harness.modules import CausalSelfAttention, Context, alibi_slopes

B, T, H, D = 2, 12, 4, 8
C = H * D
SHAPE = {"n_layer": 4, "n_head": H, "n_embd": C, "block_size": 16, "vocab_size": 61}
IDS = torch.randint(0, 61, (B, T), generator=torch.Generator().manual_seed(1))
X = torch.randn(B, T, C, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
CLOSE = {"atol": 1e-6, "rtol": 1e-6}  # the rotation's cosines are float32


def context() -> Context:
    return Context(ids_BT=IDS, progress=torch.zeros(()))


def attention(layer: int = 1, **options) -> CausalSelfAttention:
    module = CausalSelfAttention(ModelConfig(**SHAPE, dropout=0.0), layer, **options)
    initialise(module, seed=1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.abs().sum() == 0:  # gates and sinks: let them do something
                parameter.normal_(generator=torch.Generator().manual_seed(len(name)))
    return module.double()


def heads(module: CausalSelfAttention) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values by the textbook: one matrix product each."""
    sizes = [C, module.n_kv_head * D, module.n_kv_head * D]
    weights = module.qkv.weight.split(sizes)
    return tuple((X @ w.T).unflatten(-1, (-1, D)).transpose(1, 2) for w in weights)


def mask(window: int | None = None) -> Tensor:
    distance = torch.arange(T)[:, None] - torch.arange(T)
    unseen = (distance < 0) | (distance >= (window or T))
    return torch.zeros(T, T, dtype=torch.float64).masked_fill(unseen, -torch.inf)


def textbook(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    k, v = (z.repeat_interleave(H // z.shape[1], dim=1) for z in (k, v))
    scores = q @ k.transpose(2, 3) / D**0.5 + bias
    return scores.softmax(-1) @ v


def projected(module: CausalSelfAttention, out_BHTD: Tensor) -> Tensor:
    return module.proj(out_BHTD.transpose(1, 2).flatten(2))


def llamas_angles(base: float, n_rotated: int) -> tuple[Tensor, Tensor]:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = LlamaConfig(
        hidden_size=n_rotated,
        num_attention_heads=1,
        rope_parameters={"rope_type": "default", "rope_theta": base},
    )
    return LlamaRotaryEmbedding(config)(X, torch.arange(T)[None])


@pytest.mark.thorough
@pytest.mark.parametrize(("base", "fraction"), [(10_000.0, 1.0), (100.0, 1.0), (10_000.0, 0.5)])
def test_rotary_positions_are_those_of_gpt_neox(base: float, fraction: float) -> None:
    from transformers.models.gpt_neox.modeling_gpt_neox import apply_rotary_pos_emb

    module = attention(rope=base, rope_frac=fraction)
    q, k, v = heads(module)
    q, k = apply_rotary_pos_emb(q, k, *llamas_angles(base, round(fraction * D)))
    expected = projected(module, textbook(q, k, v, mask()))
    torch.testing.assert_close(module(X, context()), expected, **CLOSE)


def test_rotated_scores_depend_on_the_distance_alone() -> None:
    module = attention(rope=10_000.0)
    q_D, k_D = torch.randn(2, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    q_TD, k_TD = (module.rotary(z.expand(1, 1, T, D), context())[0, 0] for z in (q_D, k_D))
    scores_TT = q_TD @ k_TD.T
    for distance in range(T):
        diagonal = scores_TT.diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), **CLOSE)
    torch.testing.assert_close(q_TD.norm(dim=-1), q_D.norm().expand(T), **CLOSE)


@pytest.mark.parametrize("n_kv_head", [1, 2])
def test_grouped_queries_with_rotation_are_llamas_attention(n_kv_head: int) -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaAttention

    module = attention(n_kv_head=n_kv_head, rope=10_000.0, bias=False)
    config = LlamaConfig(hidden_size=C, num_attention_heads=H, num_key_value_heads=n_kv_head)
    config._attn_implementation = "eager"
    theirs = LlamaAttention(config, 0).double()
    sizes = [C, n_kv_head * D, n_kv_head * D]
    with torch.no_grad():
        for name, weight in zip("qkv", module.qkv.weight.split(sizes), strict=True):
            getattr(theirs, f"{name}_proj").weight.copy_(weight)
        theirs.o_proj.weight.copy_(module.proj.weight)
    expected, _ = theirs(X, llamas_angles(10_000.0, D), mask()[None, None])
    torch.testing.assert_close(module(X, context()), expected, **CLOSE)


@pytest.mark.parametrize("n_head", [1, 2, 4, 6, 8, 12, 20])
def test_alibis_slopes_are_blooms(n_head: int) -> None:
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    theirs = build_alibi_tensor(torch.ones(1, 2), n_head, torch.float32)[:, 0, 1]
    torch.testing.assert_close(alibi_slopes(n_head), theirs)


def test_alibi_lowers_scores_with_the_distance() -> None:
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    module = attention(alibi=True)
    theirs = build_alibi_tensor(torch.ones(1, T), H, torch.float64)  # up to a constant per query
    expected = projected(module, textbook(*heads(module), theirs + mask()))
    torch.testing.assert_close(module(X, context()), expected, **CLOSE)


def test_query_key_norm_makes_scores_independent_of_the_inputs_size() -> None:
    module = attention(qk_norm=True)
    q, k, v = heads(module)
    q, k = (nn.RMSNorm(D, elementwise_affine=False)(z) for z in (q, k))
    torch.testing.assert_close(module(X, context()), projected(module, textbook(q, k, v, mask())))
    assert (q.norm(dim=-1) * k.norm(dim=-1) / D**0.5).max() <= D**0.5 + 1e-9


@pytest.mark.parametrize(("layer", "window"), [(0, 4), (1, 4), (2, None), (3, None)])
def test_a_window_hides_what_lies_before_it_in_short_layers(layer: int, window: int | None) -> None:
    module = attention(layer, window_frac=0.25, window_pattern="SSL")
    expected = projected(module, textbook(*heads(module), mask(window)))
    torch.testing.assert_close(module(X, context()), expected)


def test_the_last_layer_is_long_whatever_the_pattern() -> None:
    windows = [attention(i, window_frac=0.5).score_bias is not None for i in range(4)]
    assert windows == [True, True, True, False]


@pytest.mark.parametrize("n_kv_head", [2, 4])
def test_the_sink_is_that_of_gpt_oss(n_kv_head: int) -> None:
    from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward

    module = attention(sink=True, n_kv_head=n_kv_head)
    theirs = SimpleNamespace(
        sinks=module.score_bias.sink_H, num_key_value_groups=H // n_kv_head, training=False
    )
    out, _ = eager_attention_forward(theirs, *heads(module), mask(), D**-0.5)
    torch.testing.assert_close(module(X, context()), module.proj(out.flatten(2)), **CLOSE)


def test_a_new_sink_is_a_score_of_zero_and_learns() -> None:
    module = CausalSelfAttention(ModelConfig(**SHAPE, dropout=0.0), 0, sink=True)
    initialise(module, 0)
    assert (module.score_bias.sink_H == 0).all()
    module(X.float(), context()).square().sum().backward()
    assert (module.score_bias.sink_H.grad != 0).all()


def test_capped_scores_are_those_of_gemma_2() -> None:
    from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

    module = attention(softcap=0.5)
    theirs = SimpleNamespace(num_key_value_groups=1, training=False, head_dim=D)
    out, _ = eager_attention_forward(theirs, *heads(module), mask(), softcap=0.5)
    torch.testing.assert_close(module(X, context()), module.proj(out.flatten(2)), **CLOSE)


@pytest.mark.parametrize("kind", ["elementwise", "headwise"])
def test_the_gate_multiplies_each_heads_result(kind: str) -> None:
    module = attention(gate=kind)
    out_BHTD = textbook(*heads(module), mask())
    gate_BTC = torch.sigmoid(X @ module.gate.weight.T)
    if kind == "headwise":
        gate_BTC = gate_BTC.repeat_interleave(D, dim=-1)
    expected = module.proj(out_BHTD.transpose(1, 2).flatten(2) * gate_BTC)
    torch.testing.assert_close(module(X, context()), expected)


@pytest.mark.parametrize("n_kv_head", [2, 4])
def test_exclusive_attention_keeps_what_is_orthogonal_to_the_own_value(n_kv_head: int) -> None:
    module = attention(exclusive=True, n_kv_head=n_kv_head, bias=False)
    with torch.no_grad():
        module.proj.weight.copy_(torch.eye(C))
    out_BHTD = module(X, context()).unflatten(-1, (H, D)).transpose(1, 2)
    q, k, v = heads(module)
    v_BHTD = v.repeat_interleave(H // n_kv_head, dim=1)
    torch.testing.assert_close((out_BHTD * v_BHTD).sum(-1), torch.zeros(B, H, T).double())
    removed = textbook(q, k, v, mask()) - out_BHTD  # along the value alone
    cosine = F.cosine_similarity(removed, v_BHTD, dim=-1).abs()
    torch.testing.assert_close(cosine, torch.ones_like(cosine))
    assert out_BHTD[:, :, 0].abs().max() < 1e-12  # the first token sees nothing but itself


def test_the_value_residual_begins_as_the_mean_with_the_first_layers_values() -> None:
    first, second = attention(0, value_residual=True), attention(1, value_residual=True)
    assert first.value_residual is None
    ctx = context()
    first(X, ctx)
    (*_, v1), (q, k, v) = heads(first), heads(second)
    torch.testing.assert_close(ctx.first_values_BGTD, v1, **CLOSE)
    expected = projected(second, textbook(q, k, (v + v1) / 2, mask()))
    torch.testing.assert_close(second(X, ctx), expected)


def test_value_embeddings_add_a_gated_value_for_each_token_id() -> None:
    module = attention(1, value_embedding=True)
    looked_up = module.value_embedding
    assert [attention(i, value_embedding=True).value_embedding is not None for i in range(4)] == [
        False, True, False, True,
    ]  # fmt: skip
    table_BTHD = looked_up.table.weight[IDS].unflatten(-1, (H, D))
    gate_BTH = 2 * torch.sigmoid(X @ looked_up.gate.weight.T)
    q, k, v = heads(module)
    v = v + (gate_BTH[..., None] * table_BTHD).transpose(1, 2)
    torch.testing.assert_close(module(X, context()), projected(module, textbook(q, k, v, mask())))


def test_a_fresh_gate_of_value_embeddings_is_one() -> None:
    module = CausalSelfAttention(ModelConfig(**SHAPE), 1, value_embedding=True)
    initialise(module, 0)
    table = module.value_embedding.table.weight
    expected = table[IDS].unflatten(-1, (H, D)).transpose(1, 2)
    assert torch.equal(module.value_embedding(X.float(), IDS), expected)
    assert table.abs().max() <= C**-0.5


def test_without_options_it_is_pytorchs_multihead_attention() -> None:
    module = attention()
    theirs = nn.MultiheadAttention(C, H, bias=True, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(module.qkv.weight)
        theirs.in_proj_bias.zero_()
        theirs.out_proj.weight.copy_(module.proj.weight)
        theirs.out_proj.bias.copy_(module.proj.bias)
    expected, _ = theirs(X, X, X, attn_mask=mask().isinf(), need_weights=False)
    torch.testing.assert_close(module(X, context()), expected)


EVERYTHING = {
    "bias": False,
    "n_kv_head": 2,
    "rope": 10_000.0,
    "rope_frac": 0.5,
    "alibi": True,
    "qk_norm": True,
    "window_frac": 0.5,
    "sink": True,
    "softcap": 20.0,
    "gate": "headwise",
    "exclusive": True,
    "value_residual": True,
    "value_embedding": True,
}


@pytest.mark.parametrize(
    "options", [{name: value} for name, value in EVERYTHING.items()] + [EVERYTHING]
)
def test_no_option_lets_the_future_change_the_past(options: dict) -> None:
    if "rope_frac" in options:
        options = {"rope": 10_000.0, **options}
    module = attention(1, **options)

    def result(x_BTC: Tensor, ids_BT: Tensor) -> Tensor:
        ctx = Context(ids_BT=ids_BT, progress=torch.zeros(()))
        ctx.first_values_BGTD = x_BTC.unflatten(-1, (H, D)).transpose(1, 2)[:, : module.n_kv_head]
        return module(x_BTC, ctx)

    later_x, later_ids = X.clone(), IDS.clone()
    later_x[:, 7:] += 1
    later_ids[:, 7:] = 0
    torch.testing.assert_close(result(X, IDS)[:, :7], result(later_x, later_ids)[:, :7])


@pytest.mark.parametrize("name", EVERYTHING)
def test_an_option_leaves_the_other_initial_weights_bit_identical(name: str) -> None:
    def weights(**options) -> dict[str, Tensor]:
        module = CausalSelfAttention(ModelConfig(**SHAPE), 1, **options)
        initialise(module, 0)
        return dict(module.named_parameters())

    plain = weights()
    given = weights(**({"rope": 1e4} if name == "rope_frac" else {}), **{name: EVERYTHING[name]})
    resized = {"n_kv_head": {"qkv.weight"}, "bias": {"proj.bias"}}.get(name, set())
    kept = plain.keys() - resized
    assert kept <= given.keys()
    assert all(torch.equal(plain[key], given[key]) for key in kept)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rop": 1.0}, r"model\.attention has no rop; it has: bias, n_kv_head, rope"),
        ({"n_kv_head": 3}, r"n_kv_head=3: a divisor of n_head=4"),
        ({"gate": "full"}, r"gate=full: elementwise or headwise"),
        ({"window_pattern": "SX"}, r"window_pattern=SX: letters S and L"),
        ({"rope_frac": 0.5}, r"rope_frac needs rope"),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_allowed(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        attention(**options)
