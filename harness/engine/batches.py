"""Training batches, a pure function of the step: resuming is starting at another step."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from harness.engine.randomness import sequence_order


class Batches:
    """Cut the token stream into sequences and visit them in a keyed order, epoch after epoch.

    `tokens` are uint16 [n_tokens], memory-mapped; targets are the same tokens one place on. A
    `seed` of None reads the sequences as stored.
    """

    def __init__(
        self, tokens: np.ndarray, block_size: int, batch_size: int, seed: int | None
    ) -> None:
        self.tokens = tokens
        self.block_size = block_size
        self.batch_size = batch_size
        self.seed = seed
        self.n_sequences = (len(tokens) - 1) // block_size
        self._order = lru_cache(maxsize=2)(lambda e: sequence_order(self.n_sequences, e, seed))

    def indices(self, step: int) -> np.ndarray:
        """Return the sequences of one step, int64 [batch_size]."""
        visits = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, places = np.divmod(visits, self.n_sequences)
        chosen = [self._order(int(e))[places[epochs == e]] for e in np.unique(epochs)]
        return np.concatenate(chosen)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return x_BT and y_BT of one step, int64 on the CPU."""
        return gather(self.tokens, self.indices(step), self.block_size)

    def fingerprint(self, n_steps: int) -> str:
        """Return a hash of the order in which `n_steps` steps visit the sequences."""
        digest = hashlib.sha256(f"{self.n_sequences} {n_steps} {self.batch_size}".encode())
        n_epochs = -(-n_steps * self.batch_size // self.n_sequences)
        for epoch in range(n_epochs if self.seed is not None else 1):
            digest.update(self._order(epoch).astype("<i8").tobytes())
        return digest.hexdigest()[:16]


def to_device(tokens: Tensor, device: torch.device) -> Tensor:
    """Return the tokens on the device; a GPU fetches them while it is still busy."""
    if device.type != "cuda":
        return tokens.to(device)
    return tokens.contiguous().pin_memory().to(device, non_blocking=True)


def gather(tokens: np.ndarray, sequences: np.ndarray, block_size: int) -> tuple[Tensor, Tensor]:
    """Return inputs and targets of the given sequences, both int64 [n, block_size]."""
    window = sequences[:, None] * block_size + np.arange(block_size + 1)
    both = torch.from_numpy(tokens[window].astype(np.int64))
    return both[:, :-1], both[:, 1:]
