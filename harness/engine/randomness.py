"""Every draw is keyed by (seed, purpose, names), so that nothing shifts anything else."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor, nn


def key(seed: int, purpose: str, *names: str | int) -> int:
    """Return a 63-bit key for one stream of random numbers."""
    text = "\x1f".join([str(seed), purpose, *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, *names: str | int) -> torch.Generator:
    """Return a CPU generator for one keyed stream."""
    return torch.Generator().manual_seed(key(seed, purpose, *names))


def seed_global(seed: int, purpose: str, *names: str | int) -> None:
    """Key PyTorch's global generators (CPU and GPU), which dropout draws from."""
    stream = key(seed, purpose, *names)
    # torch.manual_seed takes a millisecond for kinds of devices that are not here
    torch.default_generator.manual_seed(stream)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(stream)


@torch.no_grad()
def initialise(model: nn.Module, seed: int) -> None:
    """Draw every parameter from a stream of its own, keyed by its canonical name.

    The distribution is that of the owning module's ``reset_parameters``, which is run once for
    each of its parameters with that parameter's stream. Adding or removing a parameter therefore
    leaves all others bit-identical; a tied weight is drawn under the first name it has.
    """
    values: dict[str, Tensor] = {}
    names = {parameter: name for name, parameter in model.named_parameters()}
    with torch.random.fork_rng(devices=[]):
        for path, module in model.named_modules():
            for local, parameter in module.named_parameters(path, recurse=False):
                name = names[parameter]
                if name != local:  # tied: drawn where it is named first
                    continue
                _reset(module, path, key(seed, "init", name))
                values[name] = parameter.detach().clone()
    for parameter, name in names.items():
        parameter.copy_(values[name])


def _reset(module: nn.Module, path: str, stream: int) -> None:
    reset = getattr(module, "reset_parameters", None)
    if reset is None:
        raise TypeError(
            f"{type(module).__name__} ({path}) owns parameters but has no reset_parameters(): "
            "define it, so that its initial weights can be drawn by name"
        )
    torch.default_generator.manual_seed(stream)  # the GPU's, which nothing draws from, takes 0.2 ms
    reset()


def tensor_hash(tensor: Tensor) -> str:
    """Return 16 hex digits of the sha256 of a tensor's shape, type and bytes."""
    array = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{tuple(array.shape)}{array.dtype}".encode())
    digest.update(array.view(torch.uint8).numpy().data if array.dim() else array.numpy().tobytes())
    return digest.hexdigest()[:16]


def parameter_hashes(model: nn.Module) -> dict[str, str]:
    """Return parameter name -> hash of its present value."""
    return {name: tensor_hash(parameter) for name, parameter in model.named_parameters()}


def weights_hash(model: nn.Module) -> str:
    """Return one hash for all weights of a model."""
    joined = "".join(f"{name}{value}" for name, value in sorted(parameter_hashes(model).items()))
    return hashlib.sha256(joined.encode()).hexdigest()[:16]


def sequence_order(n_sequences: int, epoch: int, seed: int | None) -> np.ndarray:
    """Return the order in which an epoch visits the training sequences, int64 [n_sequences].

    `seed` None keeps the stored order. The batch size plays no part: arms with other batch sizes
    read the same sequences in the same order.
    """
    if seed is None:
        return np.arange(n_sequences)
    stream = np.random.Generator(np.random.Philox(key=key(seed, "data", epoch)))
    return stream.permutation(n_sequences)
