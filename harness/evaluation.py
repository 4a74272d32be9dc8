"""Loss per sequence on a fixed stretch of tokens, always in float32 and without dropout.

The number format of an arm's training is no part of its evaluation, so that arms stay comparable.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tiktoken
import torch
from torch import nn

from harness.config import SampleConfig
from harness.engine.head_loss import token_losses
from harness.model import GPT
from harness.records.files import write_atomic


@torch.inference_mode()
def sequence_losses(model: GPT, sequences: np.ndarray, batch_size: int) -> np.ndarray:
    """Return the mean cross-entropy of each sequence, float32 [N], nats per token.

    `sequences` are uint16 [N, T + 1]: T inputs, and the last target. `batch_size` of them share a
    forward pass: speed and memory only.
    """
    device = next(model.parameters()).device
    losses = np.empty(len(sequences), dtype=np.float32)
    with evaluating(model):
        for start in range(0, len(sequences), batch_size):
            some = slice(start, start + batch_size)
            both = torch.from_numpy(sequences[some].astype(np.int64)).to(device)
            x_BT, y_BT = both[:, :-1], both[:, 1:]
            loss_N = token_losses(model.head, model.hidden(x_BT).flatten(0, 1), y_BT.flatten())
            losses[some] = loss_N.view(y_BT.shape).mean(dim=1).cpu().numpy()
    return losses


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Hold the model in evaluation mode, and matrix products in full float32."""
    was_training, precision = model.training, torch.get_float32_matmul_precision()
    model.eval()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        model.train(was_training)


@torch.inference_mode()
def complete(
    model: GPT,
    encoding: tiktoken.Encoding,
    prompt: str,
    config: SampleConfig,
    generator: torch.Generator,
) -> str:
    """Return the prompt with ``config.tokens`` sampled tokens behind it.

    The model's context cuts long texts from the left; the same CPU generator gives the same text.
    """
    device = next(model.parameters()).device
    ids = encoding.encode_ordinary(prompt) or [encoding.eot_token]
    was_training = model.training
    model.eval()
    for _ in range(config.tokens):
        x_1T = torch.tensor([ids[-model.config.block_size :]], device=device)
        logits_V = model(x_1T)[0, -1, : encoding.n_vocab].float().cpu() / config.temperature
        if not logits_V.isfinite().all():  # a model that diverges has nothing to say
            break
        top_logits, top_ids = logits_V.topk(min(config.top_k, encoding.n_vocab))
        choice = torch.multinomial(top_logits.softmax(-1), 1, generator=generator)
        ids.append(int(top_ids[choice]))
    model.train(was_training)
    return encoding.decode(ids, errors="replace")


def save_array(file: Path, values: np.ndarray) -> None:
    """Write an array whole or not at all, as ``.npy``."""
    content = io.BytesIO()
    np.save(content, values)
    write_atomic(file, content.getvalue())
