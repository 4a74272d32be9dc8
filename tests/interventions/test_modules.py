"""Each module of the catalogue against its formula or another implementation, and what it leaves alone."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.config import ModelConfig, OptimConfig
from harness.engine.randomness import initialise, seed_global
from harness.model import GPT, Context, build
from harness.schedule import warmup_stable_decay
from interventions import wd_groups
from interventions.dyt import DyT
from interventions.gpt2_init import gpt2_init
from interventions.label_smoothing import label_smoothing
from interventions.ln_scale import ScaledLayerNorm
from interventions.softcap import SoftcapHead
from interventions.x0_lambdas import X0Block
from interventions.z_loss import z_loss
from interventions.zero_init_proj import zero_init_proj

SHAPE = {"n_layer": 4, "n_head": 2, "n_embd": 32, "block_size": 16, "vocab_size": 61}
CONFIG = ModelConfig(**SHAPE, dropout=0.0)
IDS = torch.randint(0, 61, (3, 16), generator=torch.Generator().manual_seed(0))
X = torch.randn(3, 16, 32, generator=torch.Generator().manual_seed(1))


def model_with(**slots) -> GPT:
    model = build(ModelConfig(**SHAPE, dropout=0.0, **slots))
    initialise(model, seed=0)
    return model


def of(target: str, **arguments) -> dict:
    return {"_target_": f"interventions.{target}", **arguments}


STARTS_AS_BASELINE = {
    "smear": {"embedding": of("smear.SmearedEmbedding")},
    "bigram_hash": {"embedding": of("bigram_hash.BigramEmbedding", rows_per_token=5)},
    "x0_lambdas": {"block": of("x0_lambdas.X0Block")},
}


@pytest.mark.parametrize("name", STARTS_AS_BASELINE)
def test_what_is_zero_at_first_starts_as_the_baseline_and_learns(name: str) -> None:
    plain, ours = model_with(), model_with(**STARTS_AS_BASELINE[name])
    assert torch.equal(ours(IDS), plain(IDS))
    ours(IDS, IDS).backward()
    new = {n: p for n, p in ours.named_parameters() if n not in dict(plain.named_parameters())}
    assert new
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in new.values())


@pytest.mark.parametrize(
    "slots",
    [
        *STARTS_AS_BASELINE.values(),
        {"norm": of("dyt.DyT")},
        {"norm": of("ln_scale.ScaledLayerNorm")},
        {"head": of("softcap.SoftcapHead", cap=15.0)},
        {"architecture": of("unet_skips.UNetGPT")},
    ],
    ids=str,
)
def test_a_module_leaves_the_other_initial_weights_and_the_past_alone(slots: dict) -> None:
    plain, ours = dict(model_with().named_parameters()), model_with(**slots).eval()
    shared = {n: p for n, p in ours.named_parameters() if n in plain and "norm" not in n}
    assert len(shared) >= len([n for n in plain if "norm" not in n])
    assert all(torch.equal(plain[n], p) for n, p in shared.items())
    with torch.no_grad():
        for n, p in ours.named_parameters():
            if n not in plain:  # let it do something
                p.add_(0.5)
    later = IDS.clone()
    later[:, 9:] = 7
    torch.testing.assert_close(ours(IDS)[:, :9], ours(later)[:, :9])


def test_a_smeared_embedding_adds_a_part_of_the_one_before() -> None:
    smeared = model_with(**STARTS_AS_BASELINE["smear"]).tok_emb
    with torch.no_grad():
        smeared.gate.weight.normal_(generator=torch.Generator().manual_seed(0))
        smeared.gate.strength.fill_(0.7)
    e_BTC, out_BTC = smeared.weight[IDS], smeared(IDS)
    torch.testing.assert_close(out_BTC[:, 0], e_BTC[:, 0])
    for t in range(1, 16):
        gate = 0.7 / (1 + (-(e_BTC[:, t, :12] @ smeared.gate.weight)).exp())
        torch.testing.assert_close(out_BTC[:, t], e_BTC[:, t] + gate[:, None] * e_BTC[:, t - 1])


def test_a_bigram_gets_the_same_row_wherever_it_stands() -> None:
    embedding = model_with(**STARTS_AS_BASELINE["bigram_hash"]).tok_emb
    assert embedding.pairs.weight.shape == (5 * 61, 32)
    nn.init.normal_(embedding.pairs.weight)
    ids = torch.tensor([[3, 4, 5, 9, 3, 4, 4, 3]])
    added = (embedding(ids) - embedding.weight[ids])[0]
    assert (added[0] == 0).all()
    torch.testing.assert_close(added[1], added[5])  # 3 4 both times
    assert not torch.allclose(added[1], added[7])  # 4 3 is another pair
    pairs = torch.cartesian_prod(torch.arange(61), torch.arange(61))
    rows = [tuple(row.tolist()) for row in (embedding(pairs)[:, 1] - embedding.weight[pairs[:, 1]])]
    used = len({tuple(round(value, 3) for value in row[:4]) for row in rows})
    assert used > 0.9 * 5 * 61  # the hash leaves few rows unused


def test_an_x0_block_reads_a_mixture_of_its_input_and_the_embeddings() -> None:
    block = X0Block(CONFIG, layer=1)
    nn.init.constant_(block.mixture.resid, 0.8)
    nn.init.constant_(block.mixture.x0, 0.3)
    x0 = torch.randn(X.shape, generator=torch.Generator().manual_seed(2))
    ctx = Context(ids_BT=IDS, progress=torch.zeros(()), x0_BTC=x0)
    expected = super(X0Block, block).forward(0.8 * X + 0.3 * x0, ctx)
    torch.testing.assert_close(block(X, ctx), expected)


def test_an_x0_block_may_be_parallel_too() -> None:
    model = model_with(block=of("x0_lambdas.X0Block", parallel=True))
    assert all(block.norm2 is None for block in model.blocks)


@pytest.mark.parametrize("n_layer", [1, 4, 5])
def test_u_net_skips_join_mirrored_layers(n_layer: int) -> None:
    slots = {"block": {"_target_": f"{__name__}.Tagged"}}
    model = build(
        ModelConfig(**{**SHAPE, "n_layer": n_layer}, dropout=0.0, **slots,
                    architecture=of("unet_skips.UNetGPT"))
    )  # fmt: skip
    with torch.no_grad():
        model.skip_weight.copy_(2.0 ** torch.arange(len(model.skip_weight)))
    results, x = [], torch.zeros(())
    for i in range(n_layer):  # layer i adds 10^i; the skip k of the second half has weight 2^k
        k = i - (n_layer - n_layer // 2)
        x = x + (2**k * results[n_layer - 1 - i] if k >= 0 else 0) + 10**i
        results.append(x)
    ctx = Context(ids_BT=IDS, progress=torch.zeros(()))
    assert torch.equal(model.run_blocks(torch.zeros(()), ctx), x)


class Tagged(nn.Module):
    """A block that leaves a trace of its number."""

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return x + 10**self.layer


def test_dynamic_tanh_is_its_formula() -> None:
    norm = DyT(CONFIG, alpha=0.5)
    torch.testing.assert_close(norm(X), (0.5 * X).tanh())
    nn.init.constant_(norm.alpha, 2.0)
    nn.init.constant_(norm.weight, 3.0)
    nn.init.constant_(norm.bias, -1.0)
    torch.testing.assert_close(norm(X), 3 * (1 - 2 / ((4 * X).exp() + 1)) - 1)


def test_scaled_norms_shrink_with_the_depth_but_not_before_the_head() -> None:
    sizes = [ScaledLayerNorm(CONFIG, layer)(X).square().mean().sqrt().item() for layer in range(5)]
    assert sizes == pytest.approx([1, 1 / math.sqrt(2), 1 / math.sqrt(3), 0.5, 1], rel=1e-3)


def test_capped_logits_are_those_of_gemma_2_and_stay_within_the_cap() -> None:
    head = SoftcapHead(CONFIG, cap=2.0)
    logits = F.linear(X, head.weight)
    torch.testing.assert_close(head(X), torch.tanh(logits / 2) * 2)
    assert head(1000 * X).abs().max() <= 2
    model = model_with(head=of("softcap.SoftcapHead", cap=2.0))
    expected = F.cross_entropy(model(IDS).flatten(0, 1), IDS.flatten())
    torch.testing.assert_close(model(IDS, IDS), expected)


def logits() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, 5, 61, generator=generator, dtype=torch.float64, requires_grad=True)


def test_z_loss_pulls_the_normaliser_towards_one() -> None:
    logits_BTV = logits()
    loss = torch.tensor(1.0, dtype=torch.float64)
    found = z_loss(loss, logits_BTV, IDS, nn.Identity(), weight=1e-2)
    log_z = logits_BTV.exp().sum(-1).log()
    torch.testing.assert_close(found, 1 + 1e-2 * (log_z**2).mean(), atol=1e-6, rtol=1e-6)
    (grad,) = torch.autograd.grad(found, logits_BTV)
    assert (grad > 0).all()  # log Z is positive here: all logits go down
    normalised = logits_BTV.log_softmax(-1)
    torch.testing.assert_close(z_loss(loss, normalised, IDS, nn.Identity(), 1.0), loss)


def test_label_smoothing_is_the_cross_entropy_with_smoothed_targets() -> None:
    logits_BTV, y_BT = logits(), IDS[:2, :5]
    target = 0.9 * F.one_hot(y_BT, 61) + 0.1 / 61
    expected = -(target * logits_BTV.log_softmax(-1)).sum(-1).mean()
    others = torch.tensor(0.5)  # what another intervention added
    plain = F.cross_entropy(logits_BTV.flatten(0, 1), y_BT.flatten())
    found = label_smoothing(plain + others, logits_BTV, y_BT, nn.Identity(), eps=0.1)
    torch.testing.assert_close(found, expected + others)


def test_gpt2s_initialisation_has_its_standard_deviations() -> None:
    model = build(ModelConfig(**{**SHAPE, "n_embd": 128}, qkv_bias=True))
    initialise(model, 0)
    norms = [m.weight.clone() for m in model.modules() if isinstance(m, nn.LayerNorm)]
    seed_global(0, "model_built", "gpt2_init")
    gpt2_init(model, std=0.02)
    for name, parameter in model.named_parameters():
        residual = name.endswith(("attn.proj.weight", "mlp.down.weight"))
        if "norm" not in name and parameter.dim() == 2:
            wanted = 0.02 / math.sqrt(2 * 4) if residual else 0.02
            assert parameter.std().item() == pytest.approx(wanted, rel=0.08), name
        elif "norm" not in name:
            assert (parameter == 0).all(), name
    after = [m.weight for m in model.modules() if isinstance(m, nn.LayerNorm)]
    assert all(torch.equal(a, b) for a, b in zip(norms, after, strict=True))


def test_gpt2s_initialisation_draws_each_tensor_by_name() -> None:
    def weights(seed: int = 0, **slots) -> dict[str, Tensor]:
        model = model_with(**slots)
        seed_global(seed, "model_built", "gpt2_init")
        gpt2_init(model, std=0.02)
        return dict(model.named_parameters())

    plain, stack = weights(), weights(qkv_bias=True)
    assert all(torch.equal(plain[name], stack[name]) for name in plain)
    other = weights(seed=1)
    assert not torch.equal(plain["tok_emb.weight"], other["tok_emb.weight"])
    assert not torch.equal(plain["blocks.0.mlp.up.weight"], plain["blocks.1.mlp.up.weight"])


def test_zero_projections_make_every_block_the_identity() -> None:
    model = model_with()
    zero_init_proj(model)
    ctx = Context(ids_BT=IDS, progress=torch.zeros(()))
    assert torch.equal(model.run_blocks(X, ctx), X)
    before = dict(model_with().named_parameters())
    zeroed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert {name.partition(".")[2].partition(".")[2] for name in zeroed} == {
        "attn.proj.weight", "attn.proj.bias", "mlp.down.weight", "mlp.down.bias",
    }  # fmt: skip


EXPERTS = of("moe.MixtureOfExperts", n_experts=3)


def test_initialisations_reach_the_projections_of_experts() -> None:
    model = model_with(mlp=EXPERTS)
    gpt2_init(model, std=0.02)
    for expert in model.blocks[1].mlp.experts:
        assert expert.down.weight.std().item() == pytest.approx(0.02 / math.sqrt(8), rel=0.08)
    zero_init_proj(model)
    assert torch.equal(model.run_blocks(X, Context(ids_BT=IDS, progress=torch.zeros(()))), X)


def test_what_begins_at_zero_begins_there_with_gpt2s_initialisation_too() -> None:
    model = model_with(**STARTS_AS_BASELINE["bigram_hash"], attention={**CONFIG.attention, "value_embedding": True})  # fmt: skip
    gpt2_init(model, std=0.02)
    assert not model.tok_emb.pairs.weight.any()
    assert not model.blocks[1].attn.value_embedding.gate.weight.any()
    assert model.blocks[1].attn.value_embedding.table.weight.any()


@pytest.mark.parametrize("tie_weights", [False, True])
def test_only_matrices_of_linear_layers_decay(tie_weights: bool) -> None:
    model = build(ModelConfig(**SHAPE, tie_weights=tie_weights))
    names = {parameter: name for name, parameter in model.named_parameters()}
    optimizer = wd_groups.adamw(model, OptimConfig(weight_decay=0.1))
    decayed, kept = ({names[p] for p in group["params"]} for group in optimizer.param_groups)
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.1, 0.0]
    assert decayed | kept == set(names.values())
    assert not decayed & kept
    matrices = {
        f"blocks.{i}.{n}.weight"
        for i in range(4)
        for n in ("attn.qkv", "attn.proj", "mlp.up", "mlp.down")
    }
    assert decayed == matrices | (set() if tie_weights else {"head.weight"})


def test_decay_groups_are_adamw_but_for_the_decay() -> None:
    from harness.optim import adamw

    def step(make) -> dict[str, Tensor]:
        model = model_with()
        optimizer = make(model, OptimConfig(lr=0.01, weight_decay=0.5))
        model(IDS, IDS).backward()
        optimizer.step()
        return dict(model.named_parameters())

    everywhere, grouped = step(adamw), step(wd_groups.adamw)
    kept = {
        n
        for n in grouped
        if "norm" in n or "bias" in n or n in ("tok_emb.weight", "position.weight")
    }
    assert {n for n in grouped if torch.equal(everywhere[n], grouped[n])} == (
        grouped.keys() - kept | {n for n in kept if "norm" in n and n.endswith("bias")}
    )  # a shift of zero has nothing to decay


def test_the_stable_schedule_rises_stays_and_falls_to_zero() -> None:
    found = [
        warmup_stable_decay(step, 200, warmup_frac=0.05, decay_frac=0.2) for step in range(201)
    ]
    assert found[:10] == pytest.approx([n / 10 for n in range(1, 11)])
    assert set(found[9:161]) == {1.0}
    assert found[180] == pytest.approx(0.5)
    assert found[199] == pytest.approx(1 / 40)
    assert found[200] == 0


def test_without_a_stable_part_the_schedule_is_linear_to_zero() -> None:
    found = [
        warmup_stable_decay(step, 100, warmup_frac=0.05, decay_frac=0.95) for step in range(101)
    ]
    assert found.count(1.0) == 2  # the last of the warmup, the first of the decay
    assert found[5:] == pytest.approx([n / 95 for n in range(95, -1, -1)])
