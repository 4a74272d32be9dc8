"""What a step needs at least, on paper, for docs/gpu.md: FLOPs and bytes against what cards do."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.report import table
from harness.config import ModelConfig
from harness.config.compose import load

TOKENS = 12 * 1024
"""Of one micro-batch; a step has eight of them."""
N_MICRO = 8


@dataclass(frozen=True, slots=True)
class Card:
    """Dense bfloat16 FLOP/s and bytes/s of memory, as its maker states them."""

    name: str
    flops: float
    bytes_per_second: float


CARDS = (Card("H100 SXM", 989e12, 3.35e12), Card("H200 SXM", 989e12, 4.8e12))
"""Sources: NVIDIA's data sheets of H100 and H200."""


def text() -> str:
    """Return the floors of the tied model without dropout, in milliseconds of one step."""
    config = load(["scale=gpt2_small"]).model
    rows = []
    for card in CARDS:
        parts = floors(config, card)
        total = sum(parts.values())
        shown = {name: f"{1e3 * seconds:.1f}" for name, seconds in parts.items()}
        rate = f"{TOKENS * N_MICRO / total:,.0f}"
        rows.append({"card": card.name, **shown, "all": f"{1e3 * total:.0f}", "tokens/s": rate})
    return (
        "On paper, milliseconds of one step of 96 sequences (tied, no dropout) at the maker's "
        f"figures, one part after the other:\n\n{table(rows)}"
    )


def floors(config: ModelConfig, card: Card) -> dict[str, float]:
    """Return the least seconds of a step by part: matrix products by FLOPs, the rest by bytes."""
    C, T, L, V = config.n_embd, config.block_size, config.n_layer, config.vocab_size
    tokens = TOKENS * N_MICRO
    blocks = 6 * 12 * C * C * L * tokens
    attention = 6 * T * C * L * tokens  # causal: half of 12
    head = 6 * C * V * tokens
    n_params = 12 * C * C * L + V * C + T * C
    activations = 2 * 34 * C * L * tokens  # written and read once, 2 bytes; 34 C a token and layer
    logits = 14 * V * tokens  # bfloat16: both written, read twice by products, the logits thrice
    weights = 26 * n_params * N_MICRO  # rounded for each micro-batch, their gradients added up
    adam = 28 * n_params  # float32 weight, gradient and two moments read, three of them written
    return {
        "blocks": blocks / card.flops,
        "attention": attention / card.flops,
        "head": head / card.flops,
        "activations": activations / card.bytes_per_second,
        "logits": logits / card.bytes_per_second,
        "weights": weights / card.bytes_per_second,
        "AdamW": adam / card.bytes_per_second,
    }
