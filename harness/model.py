"""The GPT that studies train, with slots for what interventions swap.

Shape suffixes: B batch, T time, C channels (n_embd), V vocabulary.

A slot's factory gets the slot's own arguments and what its signature asks for by name: ``config``,
the `ModelConfig`, and ``layer``, the block's index from 0 (n_layer for the norm before the head).
A part whose ``forward`` asks for ``ctx`` gets the `Context` of the pass. Each module that owns
parameters defines ``reset_parameters``, so that `harness.engine.randomness` can key every draw.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from inspect import signature
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.nn import functional as F

from harness.config import ConfigError, ModelConfig, Slot
from harness.engine.head_loss import linear_cross_entropy
from harness.engine.kernels import dropout
from harness.engine.kv_cache import KVCache
from harness.modules import MLP, CausalSelfAttention, Context, Linear

__all__ = [
    "GPT", "MLP", "Block", "CausalSelfAttention", "Context", "Dropout", "Head", "LayerNorm",
    "LearnedPositions", "Linear", "ModelConfig", "TokenEmbedding", "build", "build_part",
    "call", "count_parameters", "cross_entropy", "flops_per_token",
    "set_progress", "slot_factory",
]  # fmt: skip


def slot_factory(slot: Slot) -> Callable[..., Any]:
    """Return the slot's ``_target_`` with the slot's own keyword arguments bound."""
    if slot["_target_"].startswith("harness.") and not any(
        isinstance(value, dict | list) for value in slot.values()
    ):
        return _plain_factory(tuple(slot.items()))
    return _factory(slot)


@lru_cache(maxsize=256)
def _plain_factory(items: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    """Return a factory of ours without parts of its own: asked for in every layer, 3 ms each."""
    return _factory(dict(items))


def _factory(slot: Slot) -> Callable[..., Any]:
    factory: Callable[..., Any] = instantiate(  # lists as such: what holds one can be saved
        {**slot, "_partial_": True, "_convert_": "all"}
    )
    return factory


def build_part(slot: Slot, config: ModelConfig, layer: int | None = None) -> Any:
    """Return the module of a slot of the model; see the top of this file."""
    factory: partial[Any] = slot_factory(slot)  # type: ignore[assignment]
    wanted = signature(factory.func)
    known = {"config": config} | ({} if layer is None else {"layer": layer})
    given = {name: known[name] for name in known if name in wanted.parameters}
    given |= factory.keywords
    try:
        wanted.bind(**given)
    except TypeError as error:
        raise ConfigError(
            f"{slot['_target_']}: {error}; a slot's factory gets the slot's arguments, and the "
            f"model's {' and '.join(known)} if it names them"
        ) from error
    part = factory.func(**given)
    part.asks_ctx = "ctx" in signature(part.forward).parameters
    return part


def call(part: nn.Module, x: Tensor, ctx: Context) -> Tensor:
    """Return part(x), or part(x, ctx) if it asks for it."""
    return part(x, ctx) if getattr(part, "asks_ctx", False) else part(x)  # type: ignore[no-any-return]


def set_progress(model: nn.Module, fraction: float) -> None:
    """Tell a model that keeps it which fraction of all steps was taken."""
    if isinstance(progress := getattr(model, "progress", None), Tensor):
        progress.fill_(fraction)


class TokenEmbedding(nn.Embedding):
    """A learned vector for each token id."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.vocab_size, config.n_embd)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation with scale and, unless `bias` is false, shift."""

    def __init__(self, config: ModelConfig, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__(config.n_embd, eps=eps, bias=bias)


class Dropout(nn.Dropout):
    """Dropout with masks that are cheap on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x with elements dropped while training."""
        return dropout(x, self.p) if self.training else x


class LearnedPositions(nn.Embedding):
    """A learned vector for each position, added to the token embedding."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.block_size, config.n_embd)

    def forward(self, x_BTC: Tensor, ctx: Context | None = None) -> Tensor:
        """Return x_BTC with the positions' vectors added."""
        if ctx is not None and ctx.cache is not None:
            return x_BTC + self.weight[ctx.positions]
        return x_BTC + self.weight[: x_BTC.shape[1]]


class Head(nn.Linear):
    """The output projection onto the vocabulary."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.n_embd, config.vocab_size, bias=False)


class Block(nn.Module):
    """Pre-norm transformer block.

    Parameters
    ----------
    parallel
        Attention and MLP read one norm and are added together (Chowdhery et al. 2022, PaLM).
    drop_path
        Probability that a sequence skips a branch of the last block in training; linear in the
        depth before (Huang et al. 2016, eq. 4).
    """

    def __init__(
        self, config: ModelConfig, layer: int, parallel: bool = False, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = build_part(config.norm, config, layer)
        self.attn = build_part(config.attention, config, layer)
        self.norm2 = None if parallel else build_part(config.norm, config, layer)
        self.mlp = build_part(config.mlp, config, layer)
        self.dropout = Dropout(config.dropout)
        self.drop_path = DropPath(drop_path * (layer + 1) / config.n_layer) if drop_path else None

    def forward(self, x_BTC: Tensor, ctx: Context) -> Tensor:
        """x_BTC -> x_BTC."""
        normed_BTC = call(self.norm1, x_BTC, ctx)
        attended_BTC = call(self.attn, normed_BTC, ctx)
        if self.norm2 is None:
            return x_BTC + self.branch(attended_BTC + call(self.mlp, normed_BTC, ctx))
        x_BTC = x_BTC + self.branch(attended_BTC)
        return x_BTC + self.branch(call(self.mlp, call(self.norm2, x_BTC, ctx), ctx))

    def branch(self, out_BTC: Tensor) -> Tensor:
        """Return what is added to the residual stream."""
        out_BTC = self.dropout(out_BTC)
        return out_BTC if self.drop_path is None else self.drop_path(out_BTC)


class DropPath(nn.Module):
    """While training, zero whole sequences with probability `p` and scale the others."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Return x_BTC with sequences dropped while training."""
        if not self.training:
            return x_BTC
        kept_B11 = torch.rand((len(x_BTC), 1, 1), device=x_BTC.device) >= self.p
        return x_BTC * kept_B11 / (1 - self.p)


class GPT(nn.Module):
    """Decoder-only transformer; `engine.randomness.initialise` draws its weights.

    What stands in its place (``model.architecture``) has `hidden`, `head` and `forward`, too, and
    may have ``aux_losses``.
    """

    progress: Tensor
    """Fraction of all steps that were taken."""
    head_rows: int | None = None
    """``hardware.head_rows``."""
    keeps_ctx = False
    """Whether a training pass leaves its `Context`, with its states, in ``ctx``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.tok_emb = build_part(config.embedding, config)
        self.position = build_part(config.position, config)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            build_part(config.block, config, layer) for layer in range(config.n_layer)
        )
        self.norm = build_part(config.norm, config, config.n_layer)
        self.head = build_part(config.head, config)
        if config.tie_weights:
            self.head.weight = self.tok_emb.weight
        self.register_buffer("progress", torch.zeros(()), persistent=False)
        self.aux_losses: list[Tensor] = []
        """Of the last training pass; the loop adds them to the loss."""
        self.ctx: Context | None = None

    def forward(self, x_BT: Tensor, y_BT: Tensor | None = None) -> Tensor:
        """Token ids x_BT (int64, T at most block_size) -> logits_BTV, or the mean loss at y_BT.

        The loss is that of `cross_entropy` on the logits, computed without holding them all.
        """
        x_BTC = self.hidden(x_BT)
        if y_BT is None:
            return self.head(x_BTC)  # type: ignore[no-any-return]
        if type(self.head) is Head:
            x_NC, y_N = x_BTC.flatten(0, 1), y_BT.flatten()
            return linear_cross_entropy(x_NC, self.head.weight, y_N, self.head_rows)
        return cross_entropy(self.head(x_BTC), y_BT)

    def hidden(self, x_BT: Tensor, cache: KVCache | None = None) -> Tensor:
        """Token ids x_BT -> what the head reads, x_BTC; with a cache they follow what it holds."""
        ctx = Context(ids_BT=x_BT, progress=self.progress, cache=cache)
        x_BTC = call(self.position, call(self.tok_emb, x_BT, ctx), ctx)
        ctx.x0_BTC = self.dropout(x_BTC)
        hidden_BTC = call(self.norm, self.run_blocks(ctx.x0_BTC, ctx), ctx)
        if self.training:
            self.aux_losses = ctx.aux_losses
            if self.keeps_ctx:
                ctx.states_BTC.append(hidden_BTC)
                self.ctx = ctx
        return hidden_BTC

    def run_blocks(self, x_BTC: Tensor, ctx: Context) -> Tensor:
        """What the first block reads -> what the last one returns."""
        for block in self.blocks:
            x_BTC = self.run_block(block, x_BTC, ctx)
        return x_BTC

    def run_block(self, block: nn.Module, x_BTC: Tensor, ctx: Context) -> Tensor:
        """Return the block's result, kept where somebody asks for the states."""
        x_BTC = call(block, x_BTC, ctx)
        if self.keeps_ctx:
            self.keep_state(x_BTC, ctx)
        return x_BTC

    def keep_state(self, x_BTC: Tensor, ctx: Context) -> None:
        """Keep a block's result as `Context.states_BTC`."""
        ctx.states_BTC.append(x_BTC)


def cross_entropy(logits_BTV: Tensor, y_BT: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats per token, a scalar."""
    return F.cross_entropy(logits_BTV.flatten(0, 1), y_BT.flatten())


def count_parameters(model: nn.Module) -> int:
    """Count parameters, a shared one once."""
    return sum(parameter.numel() for parameter in model.parameters())


def flops_per_token(model: nn.Module, config: ModelConfig) -> float:
    """Estimate training FLOPs per token: 6 N + 12 L C T.

    N counts the weights of matrix products, that is all but embeddings looked up (Chowdhery et
    al. 2022, PaLM, appendix B).
    """
    matmul = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear))
    return 6 * matmul + 12 * config.n_layer * config.n_embd * config.block_size


def build(config: ModelConfig) -> GPT:
    """Build the model on the CPU with whatever weights PyTorch draws; then `initialise` it."""
    with torch.random.fork_rng(devices=[]):
        model: GPT = build_part(config.architecture, config)
    if missing := [name for name in ("hidden", "head") if not hasattr(model, name)]:
        raise ConfigError(
            f"model.architecture: {config.architecture['_target_']} has no {missing[0]}: a model "
            "needs hidden(x_BT), head and forward(x_BT, y_BT=None), as harness.model.GPT"
        )
    return model
