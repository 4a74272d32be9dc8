"""What the model's parts share: the forward pass's context, linear layers, the MLP.

Shape suffixes: B batch, T time, C channels (n_embd), G heads of keys and values, D head size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.config import ConfigError, ModelConfig
from harness.engine.kernels import gelu_tanh, linear


@dataclass(slots=True)
class Context:
    """What a forward pass knows beside the residual stream; see `harness.model`."""

    ids_BT: Tensor
    """Token ids, int64."""
    progress: Tensor
    """Fraction of all steps that were taken, a scalar on the model's device."""
    documents_BT: Tensor | None = None
    """Number of the document that each token belongs to, where the data tells."""
    x0_BTC: Tensor | None = None
    """What the first block reads."""
    first_values_BGTD: Tensor | None = None
    """Values of the first attention layer."""

    @property
    def positions(self) -> Tensor:
        """Position of each token in its sequence, int64 [T]."""
        return torch.arange(self.ids_BT.shape[1], device=self.ids_BT.device)


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
