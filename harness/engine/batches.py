"""Training batches, a pure function of the step: resuming is starting at another step."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from harness.config.steps import Steps, constant
from harness.engine.randomness import sequence_order


class Pipeline(Protocol):
    """Where the tokens of each training sequence lie: what ``data.pipeline`` makes.

    A pipeline may also have ``order(epoch)``, the places in the order of their visits, int64
    [n_sequences]; without it they are visited as stored, or shuffled if ``data.shuffle`` says so.
    """

    n_sequences: int

    def positions(self, places: np.ndarray) -> np.ndarray:
        """Return where the tokens of sequences lie, int64 [n, block_size + 1]."""


class Consecutive:
    """The token stream cut at every `block_size` tokens; the baseline's pipeline."""

    def __init__(self, n_tokens: int, block_size: int) -> None:
        self.block_size = block_size
        self.n_sequences = (n_tokens - 1) // block_size

    def positions(self, places: np.ndarray) -> np.ndarray:
        """Return where the tokens of sequences lie, int64 [n, block_size + 1]."""
        return places[:, None] * self.block_size + np.arange(self.block_size + 1)


class Batches:
    """Visit the sequences that a pipeline makes of the token stream, epoch after epoch.

    `tokens` are uint16 [n_tokens], memory-mapped; targets are the same tokens one place on. A
    `seed` of None reads the sequences as stored. `batch_size` may differ from step to step.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        block_size: int,
        batch_size: int | Steps,
        seed: int | None,
        pipeline: Pipeline | None = None,
    ) -> None:
        self.tokens, self.seed = tokens, seed
        self.steps = constant(batch_size) if isinstance(batch_size, int) else batch_size
        self.pipeline = pipeline or Consecutive(len(tokens), block_size)
        self.n_sequences = self.pipeline.n_sequences
        own = getattr(self.pipeline, "order", None)
        self._order = lru_cache(maxsize=2)(
            own or (lambda epoch: sequence_order(self.n_sequences, epoch, seed))
        )

    def indices(self, step: int) -> np.ndarray:
        """Return the sequences of one step, int64 [batch_size]."""
        visits = np.arange(self.steps.n_before(step), self.steps.n_before(step + 1))
        epochs, places = np.divmod(visits, self.n_sequences)
        chosen = [self._order(int(e))[places[epochs == e]] for e in np.unique(epochs)]
        return np.concatenate(chosen)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return x_BT and y_BT of one step, int64 on the CPU."""
        positions = self.pipeline.positions(self.indices(step))
        both = torch.from_numpy(self.tokens[positions].astype(np.int64))
        x_BT, y_BT = both[:, :-1], both[:, 1:]
        pieces = self.steps.stage(step).pieces
        if pieces == 1:
            return x_BT, y_BT
        return x_BT.reshape(len(x_BT) * pieces, -1), y_BT.reshape(len(y_BT) * pieces, -1)

    def fingerprint(self, n_steps: int) -> str:
        """Return a hash of the order in which `n_steps` steps visit the sequences."""
        stages = self.steps.stages
        batch_size = stages[0].batch_size if len(stages) == 1 else stages
        digest = hashlib.sha256(f"{self.n_sequences} {n_steps} {batch_size}".encode())
        n_epochs = -(-self.steps.n_before(n_steps) // self.n_sequences)
        moves = self.seed is not None or hasattr(self.pipeline, "order")
        for epoch in range(n_epochs if moves else 1):
            digest.update(self._order(epoch).astype("<i8").tobytes())
        if not isinstance(self.pipeline, Consecutive):
            some = np.linspace(0, self.n_sequences - 1, 64).astype(np.int64)
            digest.update(self.pipeline.positions(some).astype("<i8").tobytes())
        return digest.hexdigest()[:16]


def to_device(tokens: Tensor, device: torch.device) -> Tensor:
    """Return the tokens on the device; a GPU fetches them while it is still busy."""
    if device.type != "cuda":
        return tokens.to(device)
    return tokens.contiguous().pin_memory().to(device, non_blocking=True)
