"""Begin a training with the weights of another."""

from __future__ import annotations

import torch

from harness.config import Config, ConfigError
from harness.hub.weights import find_weights
from harness.model import GPT


@torch.no_grad()
def load_parent(model: GPT, config: Config) -> None:
    """Put the weights of ``train.init_from`` into the model, by name.

    What they lack keeps its initial values; what has no place in the model is refused, and so is a
    file that changed since the cell was frozen.
    """
    if config.train.init_from is None:
        return
    weights = find_weights(config.train.init_from)
    if config.train.init_sha256 not in (None, weights.sha256):
        raise ConfigError(
            f"train.init_from={config.train.init_from} is another file than when the cell was "
            "frozen: restore it, or run the command again, which makes another cell"
        )
    ours = dict(model.named_parameters(remove_duplicate=False))
    theirs = weights.tensors()
    for name, tensor in theirs.items():
        if name not in ours or ours[name].shape != tensor.shape:
            have = f"has {[*ours[name].shape]}" if name in ours else "has no such weight"
            raise ConfigError(
                f"train.init_from={config.train.init_from} does not fit: {name} is "
                f"{[*tensor.shape]}, and the model {have}"
            )
        ours[name].copy_(tensor)
    if ours["head.weight"] is ours["tok_emb.weight"] and not torch.equal(
        theirs["head.weight"], theirs["tok_emb.weight"]
    ):
        raise ConfigError(
            f"train.init_from={config.train.init_from} has a head of its own, and the model ties "
            "it to the embedding: set model.tie_weights=false"
        )
