"""Several residual streams with learned connections (Zhu et al. 2024, arXiv 2409.19606)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from harness.model import GPT, Block, Context, ModelConfig, call

# Shape suffixes: S streams, s the branch's input and then the streams.

SCALE = 0.01
"""Of the part of the connections that depends on the token, at first."""


class HyperGPT(GPT):
    """A GPT whose blocks hand on several streams, all equal at first and summed in the end."""

    def run_blocks(self, x_BTC: Tensor, ctx: Context) -> Tensor:
        """What the first block reads -> what the norm before the head reads."""
        n_streams = self.config.block["n_streams"]
        x_BTSC = x_BTC[:, :, None].expand(-1, -1, n_streams, -1)
        return super().run_blocks(x_BTSC, ctx).sum(dim=2)

    def keep_state(self, x_BTSC: Tensor, ctx: Context) -> None:
        """Keep what the head would read of the streams."""
        super().keep_state(x_BTSC.sum(dim=2), ctx)


class HyperBlock(Block):
    """A block with a `Connection` around each branch."""

    def __init__(self, config: ModelConfig, layer: int, n_streams: int, **options: Any) -> None:
        super().__init__(config, layer, **options)
        n_branches = 1 if self.norm2 is None else 2
        self.connections = nn.ModuleList(
            Connection(config.n_embd, n_streams, (n_branches * layer + i) % n_streams)
            for i in range(n_branches)
        )

    def forward(self, x_BTSC: Tensor, ctx: Context) -> Tensor:
        """x_BTSC -> x_BTSC."""
        for connection, branch in zip(self.connections, self._branches(ctx), strict=True):
            x_BTSC = connection(x_BTSC, branch)
        return x_BTSC

    def _branches(self, ctx: Context) -> Iterator[Callable[[Tensor], Tensor]]:
        if self.norm2 is None:
            yield lambda x: self.branch(self._side_by_side(call(self.norm1, x, ctx), ctx))
            return
        yield lambda x: self.branch(call(self.attn, call(self.norm1, x, ctx), ctx))
        yield lambda x: self.branch(call(self.mlp, call(self.norm2, x, ctx), ctx))  # type: ignore[arg-type]

    def _side_by_side(self, x_BTC: Tensor, ctx: Context) -> Tensor:
        return call(self.attn, x_BTC, ctx) + call(self.mlp, x_BTC, ctx)


class Connection(nn.Module):
    """Dynamic hyper-connections (eq. 10 to 13); at first those of a pre-norm residual."""

    def __init__(self, n_embd: int, n_streams: int, read: int) -> None:
        super().__init__()
        self.read = read
        self.norm = nn.LayerNorm(n_embd, bias=False)
        self.mix_Ss = nn.Parameter(torch.empty(n_streams, n_streams + 1))
        self.write_S = nn.Parameter(torch.empty(n_streams))
        self.mix_Cs = nn.Parameter(torch.empty(n_embd, n_streams + 1))
        self.write_C = nn.Parameter(torch.empty(n_embd))
        self.mix_scale, self.write_scale = (nn.Parameter(torch.empty(())) for _ in range(2))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Read one stream, keep each as it is, write to all."""
        self.mix_Ss.zero_()
        self.mix_Ss[self.read, 0] = 1.0
        self.mix_Ss[:, 1:].fill_diagonal_(1.0)
        nn.init.ones_(self.write_S)
        nn.init.zeros_(self.mix_Cs)
        nn.init.zeros_(self.write_C)
        nn.init.constant_(self.mix_scale, SCALE)
        nn.init.constant_(self.write_scale, SCALE)

    def forward(self, x_BTSC: Tensor, branch: Callable[[Tensor], Tensor]) -> Tensor:
        """x_BTSC -> x_BTSC."""
        normed_BTSC = self.norm(x_BTSC)
        mix_BTSs = self.mix_Ss + self.mix_scale * (normed_BTSC @ self.mix_Cs).tanh()
        write_BTS = self.write_S + self.write_scale * (normed_BTSC @ self.write_C).tanh()
        mixed_BTsC = mix_BTSs.mT @ x_BTSC
        out_BTC = branch(mixed_BTsC[:, :, 0])
        new_BTSC: Tensor = mixed_BTsC[:, :, 1:] + write_BTS[..., None] * out_BTC[:, :, None]
        return new_BTSC
