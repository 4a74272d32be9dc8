"""GPT-2's initialisation (Radford et al. 2019, section 2.3)."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

RESIDUAL = ("attn.proj.weight", "mlp.down.weight")
"""Projections into the residual stream, two a layer."""


@torch.no_grad()
def gpt2_init(model: nn.Module, std: float) -> None:
    """Draw all matrices from N(0, std), those into the residual stream smaller; zero the biases."""
    layers = {id(m) for m in model.modules() if isinstance(m, nn.Linear | nn.Embedding)}
    n_residual = sum(name.endswith(RESIDUAL) for name, _ in model.named_parameters())
    for path, module in model.named_modules():
        if id(module) not in layers:
            continue
        for local, parameter in module.named_parameters(path, recurse=False):
            if parameter.dim() < 2:
                parameter.zero_()
                continue
            scale = std / n_residual**0.5 if local.endswith(RESIDUAL) else std
            parameter.normal_(0, scale, generator=_stream(local))


def _stream(name: str) -> torch.Generator:
    """Return the parameter's own stream, so that a stack draws the same for what it shares."""
    text = f"{torch.initial_seed()} {name}"
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(seed)
