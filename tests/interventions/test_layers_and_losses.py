"""Experts, streams, dense connections, convolutions and losses of several tokens or layers."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.config import ModelConfig
from harness.engine.randomness import initialise
from harness.model import GPT, MLP, Context, build, build_part
from harness.modules import CausalSelfAttention
from interventions import control_heads
from interventions.canon import Canon, CanonAttention, CanonMLP
from interventions.deep_supervision import deep_supervision
from interventions.dynamic_dense import DepthAggregate
from interventions.hyper_connections import Connection
from interventions.moe import MixtureOfExperts, imbalance, shares
from interventions.mtp import annealed, heads_loss
from interventions.sandwich_norm import SandwichBlock

SHAPE = {"n_layer": 4, "n_head": 2, "n_embd": 32, "block_size": 16, "vocab_size": 61}
CONFIG = ModelConfig(**SHAPE, dropout=0.0)
IDS = torch.randint(0, 61, (3, 16), generator=torch.Generator().manual_seed(0))
X = torch.randn(3, 16, 32, generator=torch.Generator().manual_seed(1))
HYPER = {
    "block": {"_target_": "interventions.hyper_connections.HyperBlock", "n_streams": 3},
    "architecture": {"_target_": "interventions.hyper_connections.HyperGPT"},
}
DENSE = {"architecture": {"_target_": "interventions.dynamic_dense.DenseGPT"}}
HEADS = {"architecture": {"_target_": "interventions.mtp.HeadsGPT", "n_further": 2}}
CANON = {
    "attention": {"_target_": "interventions.canon.CanonAttention"},
    "mlp": {"_target_": "interventions.canon.CanonMLP"},
}
EXPERTS = {"mlp": {"_target_": "interventions.moe.MixtureOfExperts", "n_experts": 4}}
SANDWICH = {"block": {"_target_": "interventions.sandwich_norm.SandwichBlock"}}


def model_with(**slots) -> GPT:
    model = build(ModelConfig(**SHAPE, dropout=0.0, **slots))
    initialise(model, seed=0)
    return model


def context(progress: float = 0.0) -> Context:
    return Context(ids_BT=IDS, progress=torch.tensor(progress))


def shaken(module: nn.Module) -> nn.Module:
    """Let every parameter do something; in double precision."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.empty(parameter.shape).normal_(0, 0.3, generator=generator))
    return module.double()


@pytest.mark.parametrize("slots", [HYPER, DENSE, HEADS, CANON, EXPERTS, SANDWICH], ids=str)
def test_what_is_new_leaves_the_other_initial_weights_and_the_past_alone(slots: dict) -> None:
    plain, ours = dict(model_with().named_parameters()), model_with(**slots).eval()
    replaced = "mlp" if slots is EXPERTS else "nothing"
    kept = {name for name in plain if replaced not in name}
    shared = {n: p for n, p in ours.named_parameters() if n in kept}
    assert shared.keys() == kept
    assert all(torch.equal(plain[n], p) for n, p in shared.items())
    shaken(ours).float()
    later = IDS.clone()
    later[:, 9:] = 7
    torch.testing.assert_close(ours(IDS)[:, :9], ours(later)[:, :9])


@pytest.mark.parametrize("slots", [HYPER, DENSE, HEADS], ids=str)
def test_learned_connections_start_as_the_baseline_and_learn(slots: dict) -> None:
    plain, ours = model_with(), model_with(**slots)
    torch.testing.assert_close(ours(IDS), plain(IDS), atol=2e-4, rtol=1e-4)
    if slots is not HEADS:
        ours(IDS, IDS).backward()
        new = {n: p for n, p in ours.named_parameters() if n not in dict(plain.named_parameters())}
        assert sum(p.grad is not None and p.grad.abs().sum() > 0 for p in new.values()) > 3


def test_a_mixture_of_experts_is_mixtrals() -> None:
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    shape = {"num_local_experts": 5, "num_experts_per_tok": 2}
    theirs = MixtralSparseMoeBlock(MixtralConfig(hidden_size=32, intermediate_size=64, **shape))
    options = {"activation": "silu", "gated": True, "bias": False, "expansion": 2}
    ours = MixtureOfExperts(CONFIG, n_experts=5, top_k=2, **options)
    with torch.no_grad():
        theirs.gate.weight.copy_(ours.router.weight)
        for number, expert in enumerate(ours.experts):
            both = torch.cat((expert.gate.weight, expert.up.weight))
            theirs.experts.gate_up_proj[number] = both
            theirs.experts.down_proj[number] = expert.down.weight
    torch.testing.assert_close(ours(X, context()), theirs(X))


def test_balance_is_mixtrals_loss_for_one_expert_of_a_token() -> None:
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    scores_NE = torch.randn(40, 5, generator=torch.Generator().manual_seed(3))
    theirs = load_balancing_loss_func((scores_NE,), num_experts=5, top_k=2)
    torch.testing.assert_close(imbalance(scores_NE, scores_NE.topk(2).indices), theirs / 2)
    even_NE = torch.eye(5).repeat(8, 1) * 1e-3 + torch.eye(5).roll(1, 0).repeat(8, 1) * 1e-3
    assert imbalance(even_NE, even_NE.topk(2).indices) == pytest.approx(1, abs=1e-5)


def test_experts_report_their_shares_and_a_loss_that_training_alone_adds() -> None:
    model = model_with(mlp=EXPERTS["mlp"] | {"balance": 0.5})
    model(IDS, IDS)
    assert len(model.aux_losses) == 4
    assert all(0.45 < loss < 1 for loss in model.aux_losses)
    figures = shares(model)
    for layer in range(4):
        total = sum(figures[f"layer {layer}/expert {expert}"] for expert in range(4))
        assert total == pytest.approx(1)
    assert figures["smallest share"] < 0.25 < figures["largest share"]
    assert not set(dict(model.named_buffers())) & set(model.state_dict())  # nothing to keep


def test_an_expert_without_a_token_is_left_alone() -> None:
    mixture = MixtureOfExperts(CONFIG, n_experts=3)
    with torch.no_grad():
        mixture.router.weight.zero_()
        mixture.router.weight[:2] = 1.0
    mixture(X.abs(), context()).sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in mixture.experts[2].parameters())


def test_a_token_has_two_experts_at_least() -> None:
    with pytest.raises(ValueError, match=r"model\.mlp\.top_k=1: from 2 to n_experts=8"):
        MixtureOfExperts(CONFIG, top_k=1)


def test_a_canon_layer_adds_a_weighted_sum_of_the_last_four_tokens() -> None:
    canon, x = shaken(Canon(32)), X.double()
    expected = x.clone()
    for t in range(16):
        for back in range(min(4, t + 1)):
            expected[:, t] += canon.weight[:, 0, 3 - back] * x[:, t - back]
    torch.testing.assert_close(canon(x), expected)


@pytest.mark.parametrize("options", [{}, {"gated": True, "activation": "silu"}], ids=str)
def test_canon_layers_stand_at_all_four_places(options: dict) -> None:
    ours, theirs = CanonMLP(CONFIG, **options), MLP(CONFIG, **options)
    weights = {name: p for name, p in ours.state_dict().items() if "canon" not in name}
    theirs.load_state_dict(weights)
    x = ours.canon(X)
    up = ours.up.canon(theirs.up(x))
    hidden = theirs.activation(up)
    if theirs.gate is not None:
        hidden = theirs.activation(ours.gate.canon(theirs.gate(x))) * up
    torch.testing.assert_close(ours(X), theirs.down(hidden))

    attention, plain = CanonAttention(CONFIG, 0), CausalSelfAttention(CONFIG, 0)
    plain.load_state_dict({n: p for n, p in attention.state_dict().items() if "canon" not in n})
    project = plain.qkv.forward
    plain.qkv.forward = lambda x: attention.qkv.canon(project(x))
    torch.testing.assert_close(attention(X, context()), plain(attention.canon(X), context()))


def test_hyper_connections_are_the_papers_matrix_for_each_token() -> None:
    connection = shaken(Connection(32, n_streams=3, read=1))
    streams = torch.randn(2, 5, 3, 32, generator=torch.Generator().manual_seed(4)).double()
    weight = torch.randn(32, 32, generator=torch.Generator().manual_seed(5)).double()
    found = connection(streams, lambda x: (x @ weight).sin())
    for b, t in ((0, 0), (1, 4)):
        H = streams[b, t]  # eq. 1 to 4: n x d
        normed = F.layer_norm(H, (32,), connection.norm.weight)
        A = connection.mix_Ss + connection.mix_scale * (normed @ connection.mix_Cs).tanh()
        B = connection.write_S + connection.write_scale * (normed @ connection.write_C).tanh()
        h0 = A[:, 0] @ H
        out = (h0 @ weight).sin()
        expected = torch.outer(B, out) + A[:, 1:].T @ H
        torch.testing.assert_close(found[b, t], expected)


def test_each_branch_reads_the_next_stream_at_first() -> None:
    reads = [c.read for block in model_with(**HYPER).blocks for c in block.connections]
    assert reads == [0, 1, 2, 0, 1, 2, 0, 1]
    side_by_side = model_with(
        block=HYPER["block"] | {"parallel": True}, architecture=HYPER["architecture"]
    )
    assert [c.read for block in side_by_side.blocks for c in block.connections] == [0, 1, 2, 0]
    plain = model_with(block={"_target_": "harness.model.Block", "parallel": True})
    torch.testing.assert_close(side_by_side(IDS), plain(IDS), atol=2e-4, rtol=1e-4)


def test_a_depth_aggregate_weighs_all_results_token_by_token() -> None:
    aggregate = shaken(DepthAggregate(32, 3))
    results = list(torch.randn(3, 2, 5, 32, generator=torch.Generator().manual_seed(6)).double())
    found = aggregate(results)
    for b, t in ((0, 1), (1, 4)):
        x = results[-1][b, t]
        normed = x / (x.square().mean() + torch.finfo(torch.float64).eps).sqrt()
        inner = normed @ aggregate.inner.weight.T
        gelu = inner * 0.5 * (1 + (inner / 2**0.5).erf())
        weights = gelu @ aggregate.dynamic_LL + aggregate.static_L
        expected = sum(w * result[b, t] for w, result in zip(weights, results, strict=True))
        torch.testing.assert_close(found[b, t], expected)


def test_a_sandwich_norms_what_each_branch_returns() -> None:
    block = shaken(SandwichBlock(CONFIG, 0))
    x = X.double()
    mid = x + block.after1(block.attn(block.norm1(x), context()))
    expected = mid + block.after2(block.mlp(block.norm2(mid)))
    torch.testing.assert_close(block(x, context()), expected)
    side = shaken(SandwichBlock(CONFIG, 0, parallel=True))
    normed = side.norm1(x)
    expected = x + side.after1(side.attn(normed, context()) + side.mlp(normed))
    torch.testing.assert_close(side(x, context()), expected)


def log_loss(logits_BTV: Tensor, ids_BT: Tensor, ahead: int) -> float:
    """Return the mean over all positions whose target, `ahead` tokens on, is known."""
    losses = [
        torch.logsumexp(logits_BTV[b, t], -1) - logits_BTV[b, t, ids_BT[b, t + ahead]]
        for b in range(len(ids_BT))
        for t in range(ids_BT.shape[1] - ahead)
    ]
    return torch.stack(losses).double().mean().item()


@pytest.mark.parametrize(
    ("progress", "weights"),
    [(0.0, (1, 0.5, 0.25)), (1 / 6, (1, 0.5, 0.125)), (0.5, (1, 0.25, 0)), (0.9, (1, 0, 0))],
)
def test_three_tokens_are_predicted_with_weights_that_fade(progress, weights) -> None:
    model = model_with()
    model.progress.fill_(progress)
    logits = torch.randn(3, 16, 61, generator=torch.Generator().manual_seed(7))
    loss = F.cross_entropy(logits.flatten(0, 1), IDS.flatten())
    found = annealed(loss, logits, IDS, model)  # IDS are the next tokens here
    terms = [log_loss(logits, IDS, ahead) for ahead in range(3)]
    expected = sum(w * term for w, term in zip(weights, terms, strict=True)) / sum(weights)
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_each_further_token_has_a_block_on_the_trunk() -> None:
    model = model_with(**HEADS)
    ctx = context()
    trunk = torch.randn(X.shape, generator=torch.Generator().manual_seed(8))
    ctx.states_BTC = [X, trunk, model.norm(trunk)]
    found = heads_loss(torch.tensor(1.0), torch.empty(0), IDS, model, ctx)
    logits = [model.head(model.norm(block(trunk, ctx))) for block in model.further]
    expected = 1 + sum(log_loss(logits[i], IDS, i + 1) for i in range(2))
    assert found.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("progress", "weights"), [(0.0, (1, 1, 1)), (0.125, (0, 0.5, 2 / 3)), (0.5, (0, 0, 0))]
)
def test_early_layers_losses_fade_sooner(progress, weights) -> None:
    model, ctx = model_with(), context()
    model.progress.fill_(progress)
    states = list(torch.randn(5, 3, 16, 32, generator=torch.Generator().manual_seed(9)))
    ctx.states_BTC = states  # four blocks' results, and what the head reads
    found = deep_supervision(torch.tensor(1.0), torch.empty(0), IDS, model, ctx)
    losses = [log_loss(model.head(model.norm(x)), IDS, 0) for x in states[:3]]
    expected = 1 + sum(w * loss for w, loss in zip(weights, losses, strict=True))
    assert found.item() == pytest.approx(expected, abs=1e-4)


def test_states_of_several_streams_are_their_sum() -> None:
    model = model_with(**HYPER)
    model.keeps_ctx = True
    model.train().hidden(IDS)
    *states, hidden = model.ctx.states_BTC
    assert [state.shape for state in states] == [hidden.shape] * 4
    torch.testing.assert_close(model.norm(states[-1]), hidden)


@pytest.mark.parametrize(("progress", "seen"), [(0.0, 2), (0.5, 9), (1.0, 16)])
def test_a_window_grows_to_the_whole_context(progress: float, seen: int) -> None:
    slot = {"_target_": "harness.model.CausalSelfAttention", "window_frac": 0.125}
    growing = build_part(slot | {"window_grows": True}, CONFIG, 0)
    fixed = build_part(slot | {"window_frac": seen / 16}, CONFIG, 0)
    fixed.load_state_dict(growing.state_dict())
    torch.testing.assert_close(growing(X, context(progress)), fixed(X, context()))


@pytest.mark.parametrize("options", [{}, {"n_kv_head": 1}], ids=str)
def test_heads_in_another_order_compute_the_same(options: dict) -> None:
    slot = {"_target_": "harness.model.CausalSelfAttention", **options}
    ours, plain = (model_with(attention=slot, qkv_bias=True) for _ in range(2))
    control_heads.reverse_heads(ours)
    assert not torch.equal(ours.blocks[0].attn.qkv.weight, plain.blocks[0].attn.qkv.weight)
    torch.testing.assert_close(ours(IDS), plain(IDS))
    control_heads.reverse_heads(ours)
    assert torch.equal(ours.blocks[0].attn.proj.weight, plain.blocks[0].attn.proj.weight)
