"""A GPT as books print it: the yardstick of the engine's benchmark.

Shape suffixes: B batch, T time, C channels, H heads, D head size, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.config import ModelConfig


class LayerNorm(nn.Module):
    def __init__(self, n_embd: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(n_embd))
        self.shift = nn.Parameter(torch.zeros(n_embd))

    def forward(self, x_BTC: Tensor) -> Tensor:
        mean = x_BTC.mean(dim=-1, keepdim=True)
        variance = x_BTC.var(dim=-1, keepdim=True, unbiased=False)
        return self.scale * (x_BTC - mean) / torch.sqrt(variance + 1e-5) + self.shift


class Attention(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.n_embd
        self.n_head, self.head_size = config.n_head, size // config.n_head
        self.query = nn.Linear(size, size, bias=config.qkv_bias)
        self.key = nn.Linear(size, size, bias=config.qkv_bias)
        self.value = nn.Linear(size, size, bias=config.qkv_bias)
        self.proj = nn.Linear(size, size)
        self.dropout = nn.Dropout(config.dropout)
        block = config.block_size
        self.register_buffer("future", torch.ones(block, block, dtype=torch.bool).triu(1))

    def forward(self, x_BTC: Tensor) -> Tensor:
        B, T, C = x_BTC.shape

        def heads(x: Tensor) -> Tensor:
            return x.view(B, T, self.n_head, self.head_size).transpose(1, 2)

        q_BHTD, k_BHTD, v_BHTD = (heads(f(x_BTC)) for f in (self.query, self.key, self.value))
        scores_BHTT = q_BHTD @ k_BHTD.transpose(2, 3)
        scores_BHTT = scores_BHTT.masked_fill(self.future[:T, :T], -torch.inf)
        weights_BHTT = self.dropout(torch.softmax(scores_BHTT / self.head_size**0.5, dim=-1))
        return self.proj((weights_BHTT @ v_BHTD).transpose(1, 2).reshape(B, T, C))


class Block(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.n_embd
        self.norm1, self.norm2 = LayerNorm(size), LayerNorm(size)
        self.attn = Attention(config)
        self.mlp = nn.Sequential(
            nn.Linear(size, 4 * size), nn.GELU(approximate="tanh"), nn.Linear(4 * size, size)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTC: Tensor) -> Tensor:
        x_BTC = x_BTC + self.dropout(self.attn(self.norm1(x_BTC)))
        return x_BTC + self.dropout(self.mlp(self.norm2(x_BTC)))


class TextbookGPT(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.n_embd)
        self.positions = nn.Embedding(config.block_size, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.n_layer)))
        self.norm = LayerNorm(config.n_embd)
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def forward(self, x_BT: Tensor) -> Tensor:
        places_T = torch.arange(x_BT.shape[1], device=x_BT.device)
        x_BTC = self.dropout(self.tokens(x_BT) + self.positions(places_T))
        return self.head(self.norm(self.blocks(x_BTC)))
