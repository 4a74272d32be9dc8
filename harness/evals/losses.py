"""Any model's loss on a study's test set, sequence by sequence.

A model with the study's tokenizer reads the study's own sequences, each in pieces of its context
if that is shorter. One with another tokenizer reads the same text: each sequence's targets, as
bytes, in its own tokens behind an end-of-text token; its loss is then given per token of the
study, and in bits per byte.

Shapes: T tokens of one sequence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import tiktoken
import torch

from harness.config import Config, ConfigError
from harness.config.frozen import read_config
from harness.data.corpus import open_corpora
from harness.data.evaluated import Sequences, test_sequences
from harness.data.tokens import get_tokenizer
from harness.engine.head_loss import token_losses
from harness.evals.models import LoadedModel
from harness.evaluation import evaluating
from harness.records import CONFIG_FILE
from harness.records.study import Study

T = TypeVar("T")
BATCH_TOKENS = 8192
"""Of one forward pass."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TestSet:
    """What a study is tested on."""

    __test__ = False  # not pytest's

    config: Config
    sequences: Sequences
    encoding: tiktoken.Encoding

    @property
    def block_size(self) -> int:
        """T."""
        return self.config.eval_block_size

    @property
    def n_sequences(self) -> int:
        """How many there are."""
        return len(self.sequences.tokens)

    def sequence(self, i: int) -> np.ndarray:
        """Return a sequence with the token behind it, int64 [T + 1]."""
        tokens: np.ndarray = self.sequences.tokens[i].astype(np.int64)
        return tokens

    def target_bytes(self, i: int) -> list[bytes]:
        """Return a sequence's targets as bytes, cut where a document ends (an empty piece)."""
        pieces: list[list[bytes]] = [[]]
        for token in self.sequence(i)[1:].tolist():
            if token == self.encoding.eot_token:
                pieces.append([])
            else:
                pieces[-1].append(self.encoding.decode_single_token_bytes(token))
        return [b"".join(piece) for piece in pieces]


@dataclass(frozen=True, kw_only=True, slots=True)
class TestLosses:
    """A model's losses on a test set."""

    __test__ = False

    nats: list[np.ndarray]
    """One array a sequence: each of the model's own tokens, float32."""
    targets: list[np.ndarray]
    """The tokens, in the model's ids."""
    n_bytes: int
    n_study_tokens: int
    """Per sequence."""
    context: str

    @property
    def per_sequence(self) -> np.ndarray:
        """Nats per token of the study, float32 [n_sequences]."""
        sums = [nats.sum(dtype=np.float64) for nats in self.nats]
        return np.array(sums, dtype=np.float32) / np.float32(self.n_study_tokens)

    @property
    def bits_per_byte(self) -> float:
        """Of the targets' text; end-of-text tokens count in the bits and have no bytes."""
        total = sum(float(nats.sum(dtype=np.float64)) for nats in self.nats)
        return total / math.log(2) / self.n_bytes


def study_test_set(study: Path) -> TestSet:
    """Return the test set of a study, as its first cell's frozen config has it."""
    configs = [cell / CONFIG_FILE for cell in Study(study).cells()]
    file = next((config for config in configs if config.exists()), None)
    if file is None:
        raise ConfigError(f"{study} has no cells: name a study's folder, e.g. runs/demo")
    config = read_config(file)
    sequences = test_sequences(config, open_corpora(config).main)
    return TestSet(
        config=config, sequences=sequences, encoding=get_tokenizer(config.data.tokenizer)
    )


def measure(loaded: LoadedModel, test: TestSet, precision: str = "fp32") -> TestLosses:
    """Return the model's loss at every token of the test set."""
    same = loaded.encoding._mergeable_ranks == test.encoding._mergeable_ranks
    read = test.sequence if same else lambda i: _own_tokens(loaded, test, i)
    sequences = [read(i) for i in range(test.n_sequences)]
    pieces = [_pieces(len(ids) - 1, loaded.block_size) for ids in sequences]
    with formats(loaded, precision):
        nats = _losses(loaded, sequences, pieces)
    return TestLosses(
        nats=nats,
        targets=[ids[1:] for ids in sequences],
        n_bytes=sum(len(part) for i in range(test.n_sequences) for part in test.target_bytes(i)),
        n_study_tokens=test.block_size,
        context=_context(loaded, test, same=same),
    )


def _own_tokens(loaded: LoadedModel, test: TestSet, i: int) -> np.ndarray:
    end = loaded.encoding.eot_token
    ids = [end]
    for n, part in enumerate(test.target_bytes(i)):
        ids += ([end] if n else []) + (loaded.encoding._encode_bytes(part) if part else [])
    return np.array(ids, dtype=np.int64)


def _pieces(length: int, block_size: int) -> list[slice]:
    """Cut a sequence's targets into as few equal pieces as fit the context."""
    n = max(1, -(-length // block_size))
    ends = [round(length * k / n) for k in range(n + 1)]
    return [slice(a, b) for a, b in pairwise(ends)]


def _length(piece: tuple[int, slice]) -> int:
    length: int = piece[1].stop - piece[1].start
    return length


@torch.inference_mode()
def _losses(
    loaded: LoadedModel, sequences: list[np.ndarray], pieces: list[list[slice]]
) -> list[np.ndarray]:
    """Return each sequence's losses; pieces of one length share a forward pass."""
    nats = [np.empty(len(ids) - 1, dtype=np.float32) for ids in sequences]
    todo = [(i, part) for i, parts in enumerate(pieces) for part in parts]
    of_one_length = groupby(sorted(todo, key=_length), key=_length)
    for batch in (batch for _, some in of_one_length for batch in by_tokens(some, _length)):
        xs = np.stack([sequences[i][part.start : part.stop] for i, part in batch])
        ys = np.stack([sequences[i][part.start + 1 : part.stop + 1] for i, part in batch])
        x_BT, y_BT = (torch.from_numpy(z).to(loaded.device) for z in (xs, ys))
        hidden = loaded.model.hidden(x_BT).flatten(0, 1)
        found = token_losses(loaded.model.head, hidden, y_BT.flatten()).view(y_BT.shape)
        for (i, part), row in zip(batch, found.float().cpu().numpy(), strict=True):
            nats[i][part] = row
    return nats


def by_tokens(todo: Iterable[T], n_tokens: Callable[[T], int]) -> Iterator[list[T]]:
    """Group what is sorted by its length into forward passes of `BATCH_TOKENS` at most.

    Each is as long as its longest, the last one; what is longer by itself has a pass of its own.
    """
    batch: list[T] = []
    for item in todo:
        if batch and (len(batch) + 1) * n_tokens(item) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


@contextmanager
def formats(loaded: LoadedModel, precision: str) -> Iterator[None]:
    """Hold a model in evaluation mode, its passes in float32 or, as published, in float16."""
    half = torch.autocast(loaded.device.type, dtype=torch.float16)
    with evaluating(loaded.model), half if precision == "fp16" else nullcontext():
        yield


def _context(loaded: LoadedModel, test: TestSet, *, same: bool) -> str:
    """Say how much text stood before each token."""
    ours, theirs = test.block_size, loaded.block_size
    if not same:
        return (
            f"the text of each {ours}-token sequence in the model's own tokens behind an "
            f"end-of-text token, in pieces of at most {theirs}; its loss is per token of "
            "the study's, which compares"
        )
    if theirs < ours:
        return f"each {ours}-token sequence in pieces of at most {theirs} tokens, its context"
    return f"the study's sequences of {ours} tokens" + (
        f" (the model could see {theirs})" if theirs > ours else ""
    )
