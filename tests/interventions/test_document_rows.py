"""Rows that begin at documents: what is read, and what is not."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from harness.model import ModelConfig, build
from interventions.document_rows import BestFit, BosAligned

END = 256
LENGTHS = np.random.default_rng(0).integers(1, 60, size=400)
DOCUMENTS = [np.full(length, i % 250) for i, length in enumerate(LENGTHS)]
TOKENS = np.concatenate([np.append(text, END) for text in DOCUMENTS]).astype(np.uint16)
STARTS = np.append(0, np.cumsum(LENGTHS + 1)[:-1])
BLOCK = 32


@pytest.mark.parametrize("pipeline", [BosAligned, BestFit])
def test_every_row_but_the_first_begins_with_the_end_of_text(pipeline) -> None:
    rows = pipeline(TOKENS, STARTS, BLOCK)
    read = TOKENS[rows.positions(np.arange(rows.n_sequences))]
    assert read.shape == (rows.n_sequences, BLOCK + 1)
    assert (read[:, 0] == END).sum() >= rows.n_sequences - 1
    places = np.array([3, 1, 3])
    assert np.array_equal(TOKENS[rows.positions(places)], read[places])


def test_aligned_rows_are_consecutive_tokens_that_no_other_row_reads() -> None:
    positions = BosAligned(TOKENS, STARTS, BLOCK).positions(np.arange(50))
    assert (np.diff(positions, axis=1) == 1).all()
    assert (positions[1:, 0] >= positions[:-1, -1]).all()
    skipped = positions[1:, 0] - positions[:-1, -1]
    assert skipped.max() < LENGTHS.max()


def test_packed_rows_hold_whole_documents_and_crop_the_last_alone() -> None:
    rows = BestFit(TOKENS, STARTS, BLOCK, n_at_hand=50)
    positions = rows.positions(np.arange(rows.n_sequences))
    assert len(np.unique(positions)) == positions.size
    for row in positions:
        read = TOKENS[row]
        begins = np.flatnonzero((read == END) | (row == 0))
        for begin, end in pairwise(begins):  # all but the last, whole
            document = int(np.searchsorted(STARTS, row[begin] + 1, side="right")) - 1
            assert end - begin == LENGTHS[document] + (row[begin] > 0)


def test_packing_loses_fewer_tokens_than_cropping_each_document_in_turn() -> None:
    def n_cropped(n_at_hand: int) -> int:
        rows = BestFit(TOKENS, STARTS, BLOCK, n_at_hand=n_at_hand)
        return len(TOKENS) - rows.n_sequences * (BLOCK + 1)

    assert n_cropped(100) < n_cropped(1)


def test_a_masked_document_reads_the_same_whatever_stands_before_it() -> None:
    config = ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=12, vocab_size=257, dropout=0)
    config.attention = {**config.attention, "end_of_text": END}
    torch.manual_seed(0)
    model = build(config).eval()
    one = torch.tensor([[END, 1, 2, 3, END, 4, 5, 6, 7]])
    other = torch.tensor([[END, 9, 8, 7, END, 4, 5, 6, 7]])
    ours, theirs = model(one), model(other)
    torch.testing.assert_close(ours[:, 4:], theirs[:, 4:])
    assert not torch.allclose(ours[:, 1:4], theirs[:, 1:4])
    config.attention = {**config.attention, "end_of_text": None}
    torch.manual_seed(0)
    plain = build(config).eval()
    assert not torch.allclose(plain(one)[:, 4:], plain(other)[:, 4:])
