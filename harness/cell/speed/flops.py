"""Floating-point operations of training: counted by PyTorch, or estimated from the weights."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harness.cell.build import synthetic_training
from harness.config import Autocast, Config, ModelConfig, OptimConfig, scientific
from harness.loop import Training, accumulate_gradients
from harness.model import GPT, build, cross_entropy, flops_per_token
from harness.records.files import canonical_hash

log = logging.getLogger(__name__)

CPU = torch.device("cpu")
_COUNTED: dict[str, StepFlops] = {}
"""By the science of an arm, its seeds and tokens aside: counting takes seconds."""
SHORT_CONTEXTS = 16, 32
"""Tokens of the sequences that a large model is counted on."""


@dataclass(frozen=True, slots=True)
class StepFlops:
    """Floating-point operations of training: matrix products, and attention as if dense."""

    per_sequence: float
    """Forward and backward, of `model.block_size` tokens."""
    per_step: float
    """Of the optimiser, e.g. Muon's Newton-Schulz iterations."""

    def per_token(self, config: Config) -> float:
        """Return the operations for each token of a full batch."""
        step = self.per_sequence * config.train.batch_size + self.per_step
        return step / config.tokens_per_step


def count_flops(config: Config, device: torch.device = CPU) -> StepFlops:
    """Count the operations of a step with PyTorch's counter, on one sequence of random tokens.

    Experts that a token is not sent to cost nothing; windows and sliding masks save nothing.
    """
    hardware = replace(config.hardware, compile=False, micro_batch=1)
    precision = replace(config.precision, autocast=Autocast.none, convert={})
    model = replace(config.model, dropout=0.0)
    plain = replace(config, hardware=hardware, precision=precision, model=model)
    t = synthetic_training(plain, device, 1)
    t.forward = partial(_plainly, t.model)  # type: ignore[assignment]
    with _counting() as both, sdpa_kernel(SDPBackend.MATH):
        accumulate_gradients(t, 0)
    t.events.gradients_ready(t.model, 0)
    t.optimizer.step()  # an optimiser's first may only set things up
    with FlopCounterMode(display=False) as step:
        t.optimizer.step()
    return StepFlops(both.get_total_flops(), step.get_total_flops())


def model_flops_per_token(config: ModelConfig) -> float:
    """Count a training token's operations in the model alone: three times the forward pass's.

    A large model is counted in seconds: on two short sequences, since a token's operations are
    linear in the context, and without losses of interventions and the optimiser.
    """
    if _has_plain_parts(config):
        return flops_by_weights(config)
    model = build(replace(config, dropout=0.0)).eval()
    short, longer = (min(n, config.block_size) for n in SHORT_CONTEXTS)
    first, second = (_forward_flops(model, n) / n for n in (short, longer))
    slope = (second - first) / (longer - short) if longer > short else 0.0
    return 3 * (first + slope * (config.block_size - short))


def flops_by_weights(config: ModelConfig) -> float:
    """Estimate a token's operations of a model that may be too large to be run here."""
    with torch.device("meta"):
        return flops_per_token(build(config), config)


def _forward_flops(model: GPT, n_tokens: int) -> int:
    x_BT = torch.arange(n_tokens)[None] % model.config.vocab_size
    with torch.no_grad(), _counting() as counter, sdpa_kernel(SDPBackend.MATH):
        model(x_BT)
    found: int = counter.get_total_flops()
    return found


def _counting() -> FlopCounterMode:
    known = {torch.ops.mkldnn._linear_pointwise: _linear_flops}
    return FlopCounterMode(display=False, custom_mapping=known)


def is_plain(config: Config) -> bool:
    """Tell whether the estimate is exact; counting imports torch's compiler (1.5 s)."""
    return (
        not any(card.fn for card in config.interventions.values())
        and _has_plain_parts(config.model)
        and config.optim.optimizer == OptimConfig().optimizer
    )


def _has_plain_parts(config: ModelConfig) -> bool:
    slots = [f.name for f in fields(ModelConfig) if isinstance(getattr(config, f.name), dict)]
    return all(getattr(config, name) == getattr(ModelConfig(), name) for name in slots)


def step_flops(config: Config, device: torch.device = CPU) -> StepFlops:
    """Return the operations of a step, counted once for all cells of an arm."""
    if is_plain(config):
        per_token = flops_per_token(build(config.model), config.model)
        return StepFlops(per_token * config.model.block_size, 0.0)
    science = scientific(config, "")
    del science["train"]["tokens"]
    key = canonical_hash({**science, "seeds": None})
    if key not in _COUNTED:
        _COUNTED[key] = count_flops(config, device)
    return _COUNTED[key]


def counted_or_estimated(t: Training) -> StepFlops:
    """Return the operations of a training's steps; where they cannot be counted, an estimate."""
    try:
        found = step_flops(t.config, t.device)
    except Exception as error:  # a kernel that takes no float32, one that counts as none, ...
        log.warning("FLOPs are estimated, since they could not be counted: %s", error)
        per_token = flops_per_token(t.model, t.config.model)
        found = StepFlops(per_token * t.config.model.block_size, 0.0)
    if t.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(t.device)
    return found


def _plainly(model: nn.Module, x_BT: Tensor, y_BT: Tensor | None = None) -> Tensor:
    """Return the model's logits, or their loss in one piece, whatever the device."""
    logits_BTV: Tensor = model(x_BT)
    return logits_BTV if y_BT is None else cross_entropy(logits_BTV, y_BT)


def _linear_flops(x: torch.Size, weight: torch.Size, *_: object, **__: object) -> int:
    return 2 * x.numel() * weight[0]
