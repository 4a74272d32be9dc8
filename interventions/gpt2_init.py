"""GPT-2's initialisation (Radford et al. 2019, section 2.3)."""

from __future__ import annotations

import hashlib
import re

import torch
from torch import nn

RESIDUAL = re.compile(r"(.*\.(attn|mlp))\.(proj|(.+\.)?down)\.weight$")
"""Projections into the residual stream, of two branches a layer; an MLP's experts have one each."""


@torch.no_grad()
def gpt2_init(model: nn.Module, std: float) -> None:
    """Draw all matrices from N(0, std), those into the residual stream smaller; zero the biases."""
    layers = {id(m) for m in model.modules() if isinstance(m, nn.Linear | nn.Embedding)}
    into = {name: RESIDUAL.match(name) for name, _ in model.named_parameters()}
    n_residual = len({found[1] for found in into.values() if found})
    for path, module in model.named_modules():
        if id(module) not in layers:
            continue
        for local, parameter in module.named_parameters(path, recurse=False):
            if parameter.dim() < 2:
                parameter.zero_()
            elif parameter.any():  # what begins at zero, stays there
                scale = std / n_residual**0.5 if into.get(local) else std
                parameter.normal_(0, scale, generator=_stream(local))


def _stream(name: str) -> torch.Generator:
    """Return the parameter's own stream, so that a stack draws the same for what it shares."""
    text = f"{torch.initial_seed()} {name}"
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(seed)
