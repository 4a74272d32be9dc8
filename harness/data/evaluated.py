"""Which sequences of a split are evaluated: its first ones, or some all over it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.config import Config
from harness.data.corpus import Corpus

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Sequences:
    """What is evaluated of a split: N sequences of T tokens and the target behind the last."""

    tokens: np.ndarray
    """uint16 [N, T + 1]; inputs are all but the last, targets all but the first."""
    firsts: np.ndarray
    """Where each begins in the split, int64 [N]."""
    documents: np.ndarray
    """The document of the split that each begins in, int64 [N]."""

    def sha256(self) -> str:
        """Return the hash of the tokens that are read, each place of the split once."""
        import numpy as np

        once = np.ones(self.tokens.shape, dtype=bool)
        once[:-1, -1] = np.diff(self.firsts) >= self.tokens.shape[1]  # else the next begins with it
        return hashlib.sha256(self.tokens[once].tobytes()).hexdigest()


def test_sequences(config: Config, corpus: Corpus) -> Sequences:
    """Return the sequences of a corpus that the final test reads."""
    return _sequences(config, corpus, "test", config.eval.test_sequences)


def val_sequences(config: Config, corpus: Corpus) -> Sequences:
    """Return the sequences of a corpus that each validation reads."""
    return _sequences(config, corpus, "val", config.eval.val_sequences)


def _sequences(config: Config, corpus: Corpus, split: str, n: int) -> Sequences:
    import numpy as np

    block_size, tokens = config.eval_block_size, corpus.tokens(split)
    n_all = (len(tokens) - 1) // block_size
    firsts = block_size * (np.arange(n) * n_all // n if config.eval.spread else np.arange(n))
    return Sequences(
        tokens=np.lib.stride_tricks.sliding_window_view(tokens, block_size + 1)[firsts],
        firsts=firsts,
        documents=np.searchsorted(corpus.document_starts(split), firsts, side="right") - 1,
    )
