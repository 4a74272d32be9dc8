"""The model's parts whose ideas are independent options: attention and MLP, and what they share.

Overlays that set different options merge and stack; without an option both parts are GPT-2's.

Shape suffixes: B batch, T time, S keys (T, or all so far with a cache; one more with a sink),
C channels (n_embd), H heads, G heads of keys and values, D head size, R half the rotated channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.config import ConfigError, ModelConfig
from harness.engine.kernels import causal_attention, gelu_tanh, linear
from harness.engine.kv_cache import KVCache


@dataclass(slots=True)
class Context:
    """What a forward pass knows beside the residual stream; see `harness.model`."""

    ids_BT: Tensor
    """Token ids, int64."""
    progress: Tensor
    """Fraction of all steps that were taken, a scalar on the model's device."""
    x0_BTC: Tensor | None = None
    """What the first block reads."""
    first_values_BGTD: Tensor | None = None
    """Values of the first attention layer."""
    aux_losses: list[Tensor] = field(default_factory=list)
    """What a part appends here, a scalar, is added to the loss in training, and logged apart."""
    states_BTC: list[Tensor] = field(default_factory=list)
    """Each block's result and what the head reads, where an intervention's loss asks for ctx."""

    cache: KVCache | None = None
    """What attention keeps of earlier passes, where a text grows token by token."""

    @property
    def positions(self) -> Tensor:
        """Position of each token in its sequence, int64 [T]; [B, T] with a cache."""
        n_tokens = self.ids_BT.shape[1]
        if self.cache is not None:
            return self.cache.positions(n_tokens)
        return torch.arange(n_tokens, device=self.ids_BT.device)

    @property
    def distances(self) -> Tensor:
        """How far each key lies before each query, int64 [1, T, S]; [B, 1, T, S] with a cache."""
        n_keys = self.ids_BT.shape[1] + (self.cache.longest if self.cache is not None else 0)
        keys_S = torch.arange(n_keys, device=self.ids_BT.device)
        return (self.positions[..., None] - keys_S).unsqueeze(-3)

    def documents(self, end_of_text: int) -> Tensor:
        """Return the number of the document that each token belongs to, int64 [B, T].

        The token that ends a document belongs to the next one, which is predicted from it.
        """
        return (self.ids_BT == end_of_text).cumsum(dim=1)


class Linear(nn.Linear):
    """A linear layer that uses the whole processor."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x @ weight.T + bias."""
        return linear(x, self.weight, self.bias)


class ZeroLinear(Linear):
    """A linear layer that starts as zero."""

    def reset_parameters(self) -> None:
        """Set everything to zero."""
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def relu2(x: Tensor) -> Tensor:
    """Squared ReLU (So et al. 2021, Primer)."""
    return F.relu(x).square()


def leaky_relu2(x: Tensor) -> Tensor:
    """Square of leaky ReLU with slope 0.5."""
    return F.leaky_relu(x, 0.5).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    function.__name__: function
    for function in (gelu_tanh, F.gelu, F.relu, relu2, leaky_relu2, F.silu)
}


class MLP(nn.Module):
    """Two linear layers with an activation between them: GPT-2's tanh-approximated GELU.

    Parameters
    ----------
    expansion
        Width of the hidden layer over n_embd.
    activation
        A name in `ACTIVATIONS`.
    gated
        Multiply the activation of one projection with another one (Shazeer 2020).
    bias
        On all layers.
    """

    def __init__(
        self,
        config: ModelConfig,
        expansion: float = 4,
        activation: str = "gelu_tanh",
        gated: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            allowed = ", ".join(ACTIVATIONS)
            raise ConfigError(f"model.mlp.activation={activation}: allowed are {allowed}")
        self.activation = ACTIVATIONS[activation]
        width = round(expansion * config.n_embd)
        self.up = Linear(config.n_embd, width, bias=bias)
        self.gate = Linear(config.n_embd, width, bias=bias) if gated else None
        self.down = Linear(width, config.n_embd, bias=bias)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """x_BTC -> x_BTC."""
        if self.gate is None:
            return self.down(self.activation(self.up(x_BTC)))  # type: ignore[no-any-return]
        return self.down(self.activation(self.gate(x_BTC)) * self.up(x_BTC))  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionOptions:
    """The options of `CausalSelfAttention`, each off by default."""

    bias: bool = True
    """On the output projection; ``model.qkv_bias`` is that of the other three."""
    n_kv_head: int | None = None
    """Heads of keys and values, each read by n_head / n_kv_head heads (Ainslie et al. 2023)."""
    rope: float | None = None
    """Base of rotary positions, 10,000 in the paper (Su et al. 2021)."""
    rope_frac: float = 1.0
    """Fraction of each head that is rotated."""
    alibi: bool = False
    """Lower each score in proportion to the distance (Press et al. 2022)."""
    qk_norm: bool = False
    """Divide queries and keys by their root mean square."""
    window_frac: float | None = None
    """Tokens that a short layer looks back on, itself included, over the context length."""
    window_pattern: str = "S"
    """Short (S) and long (L) layers, repeated over the depth; the last layer is always long."""
    window_grows: bool = False
    """Short layers look back on more and more tokens, in the end on the whole context."""
    end_of_text: int | None = None
    """A token id that nothing after it looks back beyond: no attention across documents."""
    sink: bool = False
    """A learned score per head for attending to nothing, 0 at first (GPT-OSS)."""
    softcap: float | None = None
    """Bend scores to stay within +- this by tanh (Gemma 2). Holds all scores in memory."""
    gate: str | None = None
    """``elementwise`` or ``headwise``: times a sigmoid of the input (Qiu et al. 2025, G1)."""
    exclusive: bool = False
    """Remove from each token's result its part along the token's own value (Zhai 2026)."""
    value_residual: bool = False
    """Mix in the first layer's values, half at first (Zhou et al. 2024)."""
    value_embedding: bool = False
    """Add gated values looked up by token id, in every second layer up to the last."""

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.rope_frac != 1 and self.rope is None:
            raise ConfigError("model.attention.rope_frac needs rope: the base of the rotation")
        if self.window_grows and self.window_frac is None:
            raise ConfigError("model.attention.window_grows needs window_frac: where it begins")
        if self.gate not in (None, "elementwise", "headwise"):
            raise ConfigError(f"model.attention.gate={self.gate}: elementwise or headwise")
        if not self.window_pattern or set(self.window_pattern) - {"S", "L"}:
            raise ConfigError(
                f"model.attention.window_pattern={self.window_pattern}: letters S and L"
            )

    def window(self, config: ModelConfig, layer: int) -> int | None:
        """Return how many tokens a layer looks back on; None: on all."""
        kind = self.window_pattern[layer % len(self.window_pattern)]
        if self.window_frac is None or kind == "L" or layer == config.n_layer - 1:
            return None
        return max(1, round(self.window_frac * config.block_size))


class CausalSelfAttention(nn.Module):
    """Multi-head attention; one matrix holds the query, key and value projections.

    Parameters
    ----------
    options
        Fields of `AttentionOptions`.
    """

    def __init__(self, config: ModelConfig, layer: int, **options: Any) -> None:
        super().__init__()
        allowed = [option.name for option in fields(AttentionOptions)]
        if unknown := sorted(options.keys() - set(allowed)):
            raise ConfigError(f"model.attention has no {unknown[0]}; it has: {', '.join(allowed)}")
        o = self.options = AttentionOptions(**options)
        self.n_head, self.n_kv_head = config.n_head, o.n_kv_head or config.n_head
        if self.n_head % self.n_kv_head:
            raise ConfigError(
                f"model.attention.n_kv_head={o.n_kv_head}: a divisor of n_head={self.n_head}"
            )
        self.layer, self.dropout = layer, config.dropout
        self.is_first = layer == 0  # a flag: compiled code for one number holds for no other layer
        self.head_size = config.n_embd // config.n_head
        n_projected = (self.n_head + 2 * self.n_kv_head) * self.head_size
        self.qkv = Linear(config.n_embd, n_projected, bias=config.qkv_bias)
        self.proj = Linear(config.n_embd, config.n_embd, bias=o.bias)

        self.rotary = Rotary(config, o.rope, o.rope_frac) if o.rope is not None else None
        window = o.window(config, layer)
        whole = window is None and o.end_of_text is None
        plain = whole and not (o.alibi or o.sink or o.softcap)
        self.score_bias = None if plain else ScoreBias(config, window, o)
        self.value_residual = ValueResidual() if o.value_residual and layer > 0 else None
        looks_up = o.value_embedding and layer % 2 == (config.n_layer - 1) % 2
        self.value_embedding = ValueEmbedding(config, self.n_kv_head) if looks_up else None
        n_gates = {"elementwise": config.n_embd, "headwise": config.n_head}
        self.gate = Linear(config.n_embd, n_gates[o.gate], bias=False) if o.gate else None

    def forward(self, x_BTC: Tensor, ctx: Context) -> Tensor:
        """Attend to the past: x_BTC -> x_BTC."""
        B, T, C = x_BTC.shape
        heads_BHTD = self.qkv(x_BTC).view(B, T, -1, self.head_size).transpose(1, 2)
        n_heads = [self.n_head, self.n_kv_head, self.n_kv_head]
        q_BHTD, k_BGTD, v_BGTD = heads_BHTD.split(n_heads, dim=1)
        v_BGTD = self._mixed_values(v_BGTD, x_BTC, ctx)
        if self.options.qk_norm:
            q_BHTD, k_BGTD = (F.rms_norm(z, z.shape[-1:]) for z in (q_BHTD, k_BGTD))
        if self.rotary is not None:
            q_BHTD, k_BGTD = self.rotary(q_BHTD, ctx), self.rotary(k_BGTD, ctx)
        out_BHTD = self._attend(q_BHTD, k_BGTD, v_BGTD, ctx)
        if self.options.exclusive:
            out_BHTD = without_own_value(out_BHTD, self._for_every_head(v_BGTD))
        if self.gate is not None:
            gate_BTHg = self.gate(x_BTC).sigmoid().view(B, T, self.n_head, -1)
            out_BHTD = out_BHTD * gate_BTHg.transpose(1, 2)
        return self.proj(out_BHTD.transpose(1, 2).reshape(B, T, C))  # type: ignore[no-any-return]

    def _mixed_values(self, v_BGTD: Tensor, x_BTC: Tensor, ctx: Context) -> Tensor:
        if self.is_first:
            ctx.first_values_BGTD = v_BGTD
        if self.value_residual is not None:
            v_BGTD = self.value_residual(v_BGTD, ctx.first_values_BGTD)
        if self.value_embedding is not None:
            v_BGTD = v_BGTD + self.value_embedding(x_BTC, ctx.ids_BT)
        return v_BGTD

    def _attend(self, q_BHTD: Tensor, k_BGTD: Tensor, v_BGTD: Tensor, ctx: Context) -> Tensor:
        dropout_p, cap = self.dropout if self.training else 0.0, self.options.softcap
        if ctx.cache is not None:
            k_BGTD, v_BGTD = ctx.cache.extend(self.layer, k_BGTD, v_BGTD)
        elif self.score_bias is None:
            if self.n_kv_head == self.n_head:
                return causal_attention(q_BHTD, k_BGTD, v_BGTD, dropout_p)
            return F.scaled_dot_product_attention(
                q_BHTD, k_BGTD, v_BGTD, dropout_p=dropout_p, is_causal=True, enable_gqa=True
            )
        k_BHSD, v_BHSD = self._for_every_head(k_BGTD), self._for_every_head(v_BGTD)
        if self.options.sink:  # a key and value of zeros: its score is the bias alone
            k_BHSD, v_BHSD = F.pad(k_BHSD, (0, 0, 0, 1)), F.pad(v_BHSD, (0, 0, 0, 1))
        bias = ctx.distances >= 0 if self.score_bias is None else self.score_bias(q_BHTD, ctx)
        if cap is not None:
            weights_BHTS = capped_weights(q_BHTD, k_BHSD, bias, cap)
            return F.dropout(weights_BHTS, dropout_p) @ v_BHSD
        return F.scaled_dot_product_attention(
            q_BHTD, k_BHSD, v_BHSD, attn_mask=bias, dropout_p=dropout_p
        )

    def _for_every_head(self, z_BGTD: Tensor) -> Tensor:
        return z_BGTD.repeat_interleave(self.n_head // self.n_kv_head, dim=1)


class Rotary(nn.Module):
    """Rotate pairs of channels by their position (Su et al. 2021, eq. 34), i with i + half."""

    cos_TR: Tensor
    sin_TR: Tensor

    def __init__(self, config: ModelConfig, base: float, fraction: float) -> None:
        super().__init__()
        self.n_pairs = round(fraction * config.n_embd // config.n_head / 2)
        frequency_R = base ** (-torch.arange(self.n_pairs, dtype=torch.float64) / self.n_pairs)
        angle_TR = torch.outer(torch.arange(config.block_size).double(), frequency_R)
        self.register_buffer("cos_TR", angle_TR.cos().float(), persistent=False)
        self.register_buffer("sin_TR", angle_TR.sin().float(), persistent=False)

    def forward(self, x_BHTD: Tensor, ctx: Context) -> Tensor:
        """Return queries or keys, rotated."""
        T, D = x_BHTD.shape[2:]
        cos_TR, sin_TR = self.cos_TR[:T], self.sin_TR[:T]
        if ctx.cache is not None:  # [B, 1, T, R]
            positions_B1T = ctx.positions[:, None]
            cos_TR, sin_TR = self.cos_TR[positions_B1T], self.sin_TR[positions_B1T]
        R = self.n_pairs
        a_BHTR, b_BHTR, rest = x_BHTD.split([R, R, D - 2 * R], dim=-1)  # type: ignore[no-untyped-call]
        rotated = (a_BHTR * cos_TR - b_BHTR * sin_TR, b_BHTR * cos_TR + a_BHTR * sin_TR)
        return torch.cat((*rotated, rest), dim=-1).to(x_BHTD.dtype)


class ScoreBias(nn.Module):
    """What is added to the attention scores: -inf where a query does not look, ALiBi, the sink."""

    slopes_H: Tensor | None

    def __init__(self, config: ModelConfig, window: int | None, options: AttentionOptions) -> None:
        super().__init__()
        self.window, self.end_of_text = window, options.end_of_text
        self.growth = config.block_size - (window or 0) if options.window_grows else 0
        slopes_H = alibi_slopes(config.n_head) if options.alibi else None
        self.register_buffer("slopes_H", slopes_H, persistent=False)
        self.sink_H = nn.Parameter(torch.zeros(config.n_head)) if options.sink else None

    def reset_parameters(self) -> None:
        """Let the sink begin with the score 0."""
        if self.sink_H is not None:
            nn.init.zeros_(self.sink_H)

    def forward(self, q_BHTD: Tensor, ctx: Context) -> Tensor:
        """Return the queries' bias, [H or 1, T, S], or of each sequence, [B, H or 1, T, S]."""
        distance_1TS = ctx.distances
        unseen_1TS = distance_1TS < 0
        if self.window is not None:
            unseen_1TS = unseen_1TS | (distance_1TS >= self.window + self.growth * ctx.progress)
        bias_HTS = torch.zeros_like(distance_1TS, dtype=torch.float32)
        bias_HTS = bias_HTS.masked_fill(unseen_1TS, -math.inf)
        if self.slopes_H is not None:
            bias_HTS = bias_HTS - self.slopes_H[:, None, None] * distance_1TS
        if self.sink_H is not None:
            *B, _, T, S = distance_1TS.shape
            H = len(self.sink_H)
            sink_HT1 = self.sink_H[:, None, None].expand(*B, H, T, 1)
            bias_HTS = torch.cat((bias_HTS.expand(*B, H, T, S), sink_HT1), dim=-1)
        if self.end_of_text is None:
            return bias_HTS.to(q_BHTD.dtype)
        documents_BT = ctx.documents(self.end_of_text)
        other_BTT = documents_BT[:, :, None] != documents_BT[:, None]
        other_BTS = F.pad(other_BTT, (0, bias_HTS.shape[-1] - other_BTT.shape[-1]))
        return bias_HTS.masked_fill(other_BTS[:, None], -math.inf).to(q_BHTD.dtype)


def alibi_slopes(n_head: int) -> Tensor:
    """Return each head's slope: 2^(-8 i / n), and between those where n is no power of two."""
    n = 1 << (n_head.bit_length() - 1)
    exponents = [8 * i / n for i in range(1, n + 1)]
    exponents += [4 * i / n for i in range(1, 2 * (n_head - n), 2)]
    return torch.tensor([2**-exponent for exponent in exponents])


def capped_weights(q_BHTD: Tensor, k_BHSD: Tensor, bias_HTS: Tensor, cap: float) -> Tensor:
    """Return attention weights whose scores are bent to stay within +- `cap`."""
    scores_BHTS = q_BHTD @ k_BHSD.transpose(2, 3) * q_BHTD.shape[-1] ** -0.5
    weights_BHTS: Tensor = (cap * (scores_BHTS / cap).tanh() + bias_HTS).softmax(dim=-1)
    return weights_BHTS


def without_own_value(out_BHTD: Tensor, v_BHTD: Tensor) -> Tensor:
    """Return the part of each result that is orthogonal to the token's own value."""
    own_BHTD = F.normalize(v_BHTD, dim=-1)
    return out_BHTD - (out_BHTD * own_BHTD).sum(dim=-1, keepdim=True) * own_BHTD


class ValueResidual(nn.Module):
    """Mix a layer's values with those of the first layer (Zhou et al. 2024, learned)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin with half of each."""
        nn.init.constant_(self.first, 0.5)

    def forward(self, v_BGTD: Tensor, first_BGTD: Tensor) -> Tensor:
        """Return the mixture."""
        return (1 - self.first) * v_BGTD + self.first * first_BGTD


class ValueEmbedding(nn.Module):
    """A value for each token id and head, times a gate that is 1 at first (nanochat)."""

    N_GATE_CHANNELS = 32

    def __init__(self, config: ModelConfig, n_kv_head: int) -> None:
        super().__init__()
        self.n_kv_head = n_kv_head
        width = config.n_embd // config.n_head * n_kv_head
        self.table = ValueTable(config.vocab_size, width)
        self.gate = ZeroLinear(min(self.N_GATE_CHANNELS, config.n_embd), n_kv_head, bias=False)

    def forward(self, x_BTC: Tensor, ids_BT: Tensor) -> Tensor:
        """Return what is added to the values, [B, G, T, D]."""
        v_BTGD = self.table(ids_BT).unflatten(-1, (self.n_kv_head, -1))
        gate_BTG = 2 * self.gate(x_BTC[..., : self.gate.in_features]).sigmoid()
        return (gate_BTG[..., None] * v_BTGD).transpose(1, 2)  # type: ignore[no-any-return]


class ValueTable(nn.Embedding):
    """An embedding that starts out like the weights of a value projection."""

    def reset_parameters(self) -> None:
        """Draw from +- 1 / sqrt(width)."""
        bound = self.embedding_dim**-0.5
        nn.init.uniform_(self.weight, -bound, bound)
