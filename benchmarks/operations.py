"""Measure `harness.engine.kernels` and `harness.engine.head_loss` beside PyTorch's own.

    python -m benchmarks.operations [--write]

Forward and backward on one thread in float32; the two take turns, medians of processor time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.contestants import SHAPES
from benchmarks.report import machine, table, write_section
from harness.engine.head_loss import linear_cross_entropy
from harness.engine.kernels import causal_attention, draw_mask, dropout, gelu_tanh, linear
from harness.engine.memory import keep_memory

ROUNDS, SECONDS = 5, 2.0
"""At least so many turns, and more until so much time has gone by."""
DROPOUT = 0.1

Operation = Callable[..., Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    torch.manual_seed(0)
    rows = [duel(*case) for case in (*shared_cases(), *(c for s in SHAPES for c in cases_of(s)))]
    text = f"{table(rows)}\n\n{machine('torch')}. Forward and backward, 1 thread, processor time."
    print(text)
    if options.write:
        write_section("operations", text)


def shared_cases() -> list[tuple]:
    """Return name, PyTorch's operation, ours and the inputs of what has no shape of its own."""
    million = torch.randn(1 << 20)
    return [
        ("tanh GELU, 1M elements", lambda x: F.gelu(x, approximate="tanh"), gelu_tanh, [million]),
        ("dropout, 1M elements", lambda x: F.dropout(x, DROPOUT), lambda x: dropout(x, DROPOUT),
         [million]),
        ("mask of 1M elements", lambda x: torch.empty_like(x).bernoulli_(1 - DROPOUT),
         lambda x: draw_mask(x.shape, DROPOUT)[0], [million]),
    ]  # fmt: skip


def cases_of(shape: str) -> list[tuple]:
    """Return the same for one layer's operations and the head of a shape."""
    B, c = SHAPES[shape]
    N, D, V = B * c.block_size, c.n_embd // c.n_head, c.vocab_size
    qkv = [torch.randn(B, c.n_head, c.block_size, D) for _ in range(3)]
    hidden, up = torch.randn(N, c.n_embd), torch.randn(4 * c.n_embd, c.n_embd) / 50
    head, y_N = torch.randn(V, c.n_embd) / 50, torch.randint(V, (N,))
    return [
        (f"attention with dropout, {shape}",
         lambda q, k, v: F.scaled_dot_product_attention(q, k, v, dropout_p=DROPOUT, is_causal=True),
         lambda q, k, v: causal_attention(q, k, v, DROPOUT), qkv),
        (f"linear, width to 4 x width, {shape}", F.linear, linear, [hidden, up]),
        (f"head and loss, {shape}", lambda x, w: F.cross_entropy(x @ w.t(), y_N),
         lambda x, w: linear_cross_entropy(x, w, y_N), [hidden, head]),
    ]  # fmt: skip


def duel(name: str, theirs: Operation, ours: Operation, inputs: list[Tensor]) -> dict[str, str]:
    """Return the row of one operation."""
    seconds: list[tuple[float, float]] = []
    for operation in (theirs, ours):
        timed(operation, inputs)  # warm
    end = time.perf_counter() + SECONDS
    while len(seconds) < ROUNDS or time.perf_counter() < end:
        seconds.append((timed(theirs, inputs), timed(ours, inputs)))
    before, after = (statistics.median(column) * 1e3 for column in zip(*seconds, strict=True))
    ratio = statistics.median(their / our for their, our in seconds)
    return {
        "what": name,
        "PyTorch, ms": f"{before:.3g}",
        "here, ms": f"{after:.3g}",
        "ratio": f"{ratio:.2f}",
    }


def timed(operation: Operation, inputs: list[Tensor]) -> float:
    """Return the seconds of one forward and, where there is one, backward."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    start = time.process_time()
    out = operation(*leaves)
    if out.requires_grad:
        out.backward(torch.ones_like(out))
    return time.process_time() - start


if __name__ == "__main__":
    main()
