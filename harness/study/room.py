"""How many cells this machine's memory holds at once, where they train on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from harness.cell.console import say
from harness.config import Config
from harness.engine.machine import free_memory_bytes
from harness.study.side_by_side import memory_of_a_cell
from harness.study.slots import Slot, on_cpu

PROCESS_BYTES = 0.25e9
"""What a process takes beside its tensors: the interpreter, torch and the allocator's reserve."""
COPIED_BYTES = 0.06e9
"""Of what all cells share, the imported modules, a cell's own copy of the pages it writes to."""
USABLE = 0.9
"""Of the free memory; the rest is for what differs between arms."""
ROUGHLY = 4
"""A cell may take so many times its estimate: only where that is too much is one measured."""


def in_memory(
    slots: list[Slot],
    configs: Sequence[Config],
    measured: Callable[[Config], int | None] = memory_of_a_cell,
) -> list[Slot]:
    """Return as many of the slots as memory holds of the largest cell; says so if not all.

    A number of slots that somebody has set stays.
    """
    hardware = configs[0].hardware
    n, free = min(len(slots), len(configs)), free_memory_bytes()
    if hardware.slots is not None or n == 1 or not on_cpu(hardware):
        return slots
    largest = max(configs, key=estimate)
    if n * ROUGHLY * estimate(largest) <= USABLE * free:
        return slots
    each = measured(largest)
    if each is None:
        n_fit, takes = 0, f"more than {_gigabytes(free)}"
    else:
        takes_bytes = hardware.n_devices * (each + COPIED_BYTES)
        n_fit = math.floor((USABLE * free - PROCESS_BYTES) / takes_bytes)
        takes = _gigabytes(takes_bytes)
    if n_fit >= n:
        return slots
    say(
        f"{max(n_fit, 1)} cell(s) at a time, not {n}: each takes {takes} of memory, and "
        f"{USABLE:.0%} of the free {_gigabytes(free)} may be used (a smaller "
        "hardware.micro_batch takes less; hardware.slots=N starts N in any case)"
    )
    return slots[: max(n_fit, 1)]


def estimate(config: Config) -> float:
    """Estimate a cell's memory from its config: right for a plain GPT, too low for many an arm.

    Per weight 16 bytes: itself, its gradient, AdamW's two moments. Per layer and token what the
    backward pass needs (Korthikanti et al. 2022, Reducing activation recomputation, equation 2,
    in float32), and the logits with their gradient.
    """
    model, hardware = config.model, config.hardware
    share = config.train.batch_size // hardware.n_devices
    tokens = min(hardware.micro_batch or share, share) * model.block_size
    weights = model.n_embd * (model.vocab_size + 12 * model.n_layer * model.n_embd)
    of_a_layer = 2 * (34 * model.n_embd + 5 * model.n_head * model.block_size)
    activations = tokens * (model.n_layer * of_a_layer + 8 * model.vocab_size)
    return hardware.n_devices * (PROCESS_BYTES + 16 * weights + activations)


def _gigabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.2g} GB"
