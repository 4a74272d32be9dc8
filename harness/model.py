"""The GPT that studies train, with slots for what interventions swap.

Shape suffixes: B batch, T time, C channels (n_embd), H heads, D head size, V vocabulary.
Every slot's factory is called with the `ModelConfig` and must define ``reset_parameters`` on
each module that owns parameters, so that `harness.engine.randomness` can key every draw.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.nn import functional as F

from harness.config import ModelConfig, Slot
from harness.engine.head_loss import linear_cross_entropy
from harness.engine.kernels import causal_attention, dropout, gelu_tanh, linear


def slot_factory(slot: Slot) -> Callable[..., Any]:
    """Return the slot's ``_target_`` with the slot's own keyword arguments bound."""
    factory: Callable[..., Any] = instantiate({**slot, "_partial_": True})
    return factory


def build_slot(slot: Slot, *args: Any) -> Any:
    """Call the slot's factory with `args`."""
    return slot_factory(slot)(*args)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation with scale and shift."""

    def __init__(self, config: ModelConfig, eps: float = 1e-5) -> None:
        super().__init__(config.n_embd, eps=eps)


class Dropout(nn.Dropout):
    """Dropout with masks that are cheap on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x with elements dropped while training."""
        return dropout(x, self.p) if self.training else x


class Linear(nn.Linear):
    """A linear layer that uses the whole processor."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x @ weight.T + bias."""
        return linear(x, self.weight, self.bias)


class LearnedPositions(nn.Embedding):
    """A learned vector for each position, added to the token embedding."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.block_size, config.n_embd)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Return x_BTC with the positions' vectors added."""
        return x_BTC + self.weight[: x_BTC.shape[1]]


class CausalSelfAttention(nn.Module):
    """Multi-head attention; one matrix holds the query, key and value projections."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.dropout
        self.qkv = Linear(config.n_embd, 3 * config.n_embd, bias=config.qkv_bias)
        self.proj = Linear(config.n_embd, config.n_embd)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Attend to the past: x_BTC -> x_BTC."""
        B, T, C = x_BTC.shape
        qkv_BT3HD = self.qkv(x_BTC).view(B, T, 3, self.n_head, C // self.n_head)
        q_BHTD, k_BHTD, v_BHTD = qkv_BT3HD.permute(2, 0, 3, 1, 4)
        dropout_p = self.dropout if self.training else 0.0
        out_BHTD = causal_attention(q_BHTD, k_BHTD, v_BHTD, dropout_p)
        return self.proj(out_BHTD.transpose(1, 2).reshape(B, T, C))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Two linear layers with the tanh-approximated GELU of GPT-2 between them."""

    def __init__(self, config: ModelConfig, expansion: int = 4) -> None:
        super().__init__()
        self.up = Linear(config.n_embd, expansion * config.n_embd)
        self.down = Linear(expansion * config.n_embd, config.n_embd)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """x_BTC -> x_BTC."""
        return self.down(gelu_tanh(self.up(x_BTC)))  # type: ignore[no-any-return]


class Head(nn.Linear):
    """The output projection onto the vocabulary."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.n_embd, config.vocab_size, bias=False)


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm1 = build_slot(config.norm, config)
        self.attn = build_slot(config.attention, config)
        self.norm2 = build_slot(config.norm, config)
        self.mlp = build_slot(config.mlp, config)
        self.dropout = Dropout(config.dropout)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """x_BTC -> x_BTC."""
        x_BTC = x_BTC + self.dropout(self.attn(self.norm1(x_BTC)))
        return x_BTC + self.dropout(self.mlp(self.norm2(x_BTC)))  # type: ignore[no-any-return]


class GPT(nn.Module):
    """Decoder-only transformer; `engine.randomness.initialise` draws its weights."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.tok_emb = nn.Embedding(config.vocab_size, config.n_embd)
        self.position = build_slot(config.position, config)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = build_slot(config.norm, config)
        self.head = build_slot(config.head, config)
        if config.tie_weights:
            self.head.weight = self.tok_emb.weight

    def forward(self, x_BT: Tensor, y_BT: Tensor | None = None) -> Tensor:
        """Token ids x_BT (int64, T at most block_size) -> logits_BTV, or the mean loss at y_BT.

        The loss is that of `cross_entropy` on the logits, computed without holding them all.
        """
        x_BTC = self.hidden(x_BT)
        if y_BT is None:
            return self.head(x_BTC)  # type: ignore[no-any-return]
        if type(self.head) is Head:
            return linear_cross_entropy(x_BTC.flatten(0, 1), self.head.weight, y_BT.flatten())
        return cross_entropy(self.head(x_BTC), y_BT)

    def hidden(self, x_BT: Tensor) -> Tensor:
        """Token ids x_BT -> what the head reads, x_BTC."""
        x_BTC = self.dropout(self.position(self.tok_emb(x_BT)))
        for block in self.blocks:
            x_BTC = block(x_BTC)
        return self.norm(x_BTC)  # type: ignore[no-any-return]


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
        return GPT(config)
