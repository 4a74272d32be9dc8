"""Completions of prompts, for people to read; they change no result."""

from __future__ import annotations

import tiktoken
import torch

from harness.config import SampleConfig
from harness.model import GPT


@torch.inference_mode()
def complete(
    model: GPT,
    encoding: tiktoken.Encoding,
    prompt: str,
    config: SampleConfig,
    generator: torch.Generator,
) -> str:
    """Return the prompt with ``config.tokens`` sampled tokens behind it.

    Parameters
    ----------
    model
        Its context cuts long texts from the left.
    generator
        CPU generator: the same one gives the same completion.
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
