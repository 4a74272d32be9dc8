"""The training loop: one screen, its events visible (see `harness.events`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from harness.config import Config
from harness.engine.batches import Batches, to_device
from harness.engine.distributed import World
from harness.engine.precision import Precision
from harness.engine.randomness import seed_global
from harness.evaluation import sequence_losses
from harness.events import Events
from harness.model import GPT, cross_entropy, set_progress
from harness.optim import Schedules, clip_gradients, load_state, set_rates


class Diverged(Exception):  # noqa: N818 - a result, not an error
    """Too many non-finite steps in a row."""


@dataclass(kw_only=True, slots=True)
class Training:
    """All that changes while a cell trains, and what changes it."""

    config: Config
    model: GPT
    optimizer: Optimizer
    schedule: Callable[[int, int], float]
    """Factor on ``optim.lr`` as a function of (step, n_steps)."""
    schedules: Schedules
    precision: Precision
    events: Events
    batches: Batches
    device: torch.device
    world: World
    micro_batch: int
    forward: nn.Module
    """The model, compiled where ``hardware.compile`` asks for it."""
    step: int = 0
    """Optimiser steps done."""
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    extra_loss: Tensor | None = None
    """What interventions added to the last step's loss, a mean over this process's share."""
    unread: list[Tensor] = field(default_factory=list)
    """Whether each of the last steps was taken, still on the device."""

    def __post_init__(self) -> None:
        """Give the events access to this training."""
        self.events.training = self

    @property
    def progress(self) -> float:
        """Fraction of all steps that were taken."""
        return self.step / self.config.n_steps

    @property
    def stepped(self) -> Tensor:
        """Whether the last step was taken, still on the device."""
        return self.unread[-1]

    def count_skipped(self) -> None:
        """Count the steps not taken; this waits for the device, hence not after every step."""
        for stepped in torch.stack(self.unread).tolist() if self.unread else []:
            self.skipped_steps += not stepped
            if self.skipped_in_a_row < self.config.train.max_skipped_steps:
                self.skipped_in_a_row = 0 if stepped else self.skipped_in_a_row + 1
        self.unread.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs; all randomness follows from the step."""
        self.count_skipped()
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "events": self.events.state_dict(),
            "counts": [self.step, self.skipped_steps, self.skipped_in_a_row],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.model.load_state_dict(state["model"])
        load_state(self.optimizer, state["optimizer"])
        if state["scaler"]:
            self.precision.scaler.load_state_dict(state["scaler"])
        self.events.load_state_dict(state["events"], self.device)
        self.step, self.skipped_steps, self.skipped_in_a_row = state["counts"]


@dataclass(frozen=True, slots=True)
class MicroLoss:
    """The loss of a micro-batch."""

    language: Tensor
    """Cross-entropy, nats per token."""
    objective: Tensor
    """What is differentiated: the same, unless interventions change it or add to it."""


class Observer(Protocol):
    """Logs, validates, samples and saves along the way; changes nothing."""

    def step_done(self, loss: Tensor, grad_norm: Tensor, lr: float) -> None:
        """Look at the training after each optimiser step."""


class Nobody:
    """An observer that does not look."""

    def step_done(self, loss: Tensor, grad_norm: Tensor, lr: float) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class StepDone:
    """What an optimiser step is known by; the tensors may still be under way on the device."""

    loss: Tensor
    """Cross-entropy, mean over this process's share of the batch, nats per token."""
    grad_norm: Tensor
    """Of all gradients together, before they are clipped."""
    lr: float
    """``optim.lr`` times the schedule's factor."""


def train(training: Training, observer: Observer) -> None:
    """Train from ``training.step`` to the end of the token budget.

    `Diverged` after ``train.max_skipped_steps`` steps in a row without a finite gradient, or if the
    last tenth of the training had none.
    """
    t, n_steps = training, training.config.n_steps
    t.model.train()
    for step in range(t.step, n_steps):
        done = train_step(t, step)
        observer.step_done(done.loss, done.grad_norm, done.lr)
        if t.skipped_in_a_row >= t.config.train.max_skipped_steps:
            raise Diverged(_not_finite(t))
    t.count_skipped()
    if t.skipped_in_a_row > max(1, n_steps // 10):
        raise Diverged(_not_finite(t))


def train_step(t: Training, step: int) -> StepDone:
    """Take one optimiser step on the global batch number `step`."""
    config = t.config
    lr = config.optim.lr * t.schedule(step, config.n_steps)
    set_rates(t.optimizer, lr)
    t.schedules.set(t.optimizer, step, config.n_steps)

    loss = accumulate_gradients(t, step)
    t.precision.unscale(t.optimizer)
    t.events.gradients_ready(t.model, step)
    grad_norm = clip_gradients(t.model, config.optim.grad_clip)

    t.unread.append(t.precision.step(t.optimizer, grad_norm))
    t.optimizer.zero_grad(set_to_none=True)
    t.events.step_done(t.model, step)

    t.step = step + 1
    if t.device.type == "cpu" or len(t.unread) == config.train.max_skipped_steps:
        t.count_skipped()
    return StepDone(loss, grad_norm, lr)


def _not_finite(t: Training) -> str:
    return (
        f"gradients were not finite in {t.skipped_in_a_row} steps in a row, "
        f"up to step {t.step} of {t.config.n_steps}"
    )


def accumulate_gradients(t: Training, step: int) -> Tensor:
    """Back-propagate this process's share of a global batch; return its mean cross-entropy."""
    set_progress(t.model, step / t.config.n_steps)
    micro_batches = share_of_batch(t, step)
    total, t.extra_loss = torch.zeros((), device=t.device), None
    for micro, (x_bT, y_bT) in enumerate(micro_batches):
        seed_global(t.config.seeds.loop, "dropout", step, micro, t.world.rank)
        with t.precision.autocast():
            loss = micro_loss(t, x_bT, y_bT)
        t.precision.backward(loss.objective / len(micro_batches))
        total += loss.language.detach() / len(micro_batches)
        if loss.objective is not loss.language:
            extra = (loss.objective - loss.language).detach() / len(micro_batches)
            t.extra_loss = extra if t.extra_loss is None else t.extra_loss + extra
    t.world.average_gradients(t.model)
    return total


def share_of_batch(t: Training, step: int) -> list[tuple[Tensor, Tensor]]:
    """Return x_bT and y_bT of this process's micro-batches of a global batch.

    Interventions see the whole batch, so that what they do to it depends on no hardware.
    """
    x_BT, y_BT = t.events.batch(*t.batches(step), t.config.seeds.data, step)
    share = t.world.share(len(x_BT))
    x_BT, y_BT = (to_device(whole[share], t.device) for whole in (x_BT, y_BT))
    pieces = t.batches.steps.stage(step).pieces
    size = largest_micro_batch(len(x_BT), t.micro_batch * pieces)
    return list(zip(x_BT.split(size), y_BT.split(size), strict=True))  # type: ignore[no-untyped-call]


@contextmanager
def evaluated_weights(t: Training) -> Iterator[GPT]:
    """Yield the model with the weights that are tested, sampled from, saved and hashed."""
    set_progress(t.model, t.progress)
    with t.events.evaluated_weights(t.model):
        yield t.model


def evaluate(t: Training, sequences: np.ndarray) -> np.ndarray:
    """Return the loss of each sequence, uint16 [N, T + 1], shared out over the processes."""
    share = t.world.share(len(sequences))
    losses = np.zeros(len(sequences), dtype=np.float32)
    with evaluated_weights(t) as model:
        losses[share] = sequence_losses(model, sequences[share], t.micro_batch)
    return t.world.join(losses)


def micro_loss(t: Training, x_bT: Tensor, y_bT: Tensor) -> MicroLoss:
    """Return the loss; the logits are held whole only if an event reads them."""
    if t.events.reads_logits:
        logits_bTV = t.forward(x_bT)
        language = cross_entropy(logits_bTV, y_bT)
        objective = t.events.loss(language, logits_bTV, y_bT, t.model)
    else:
        language = objective = t.forward(x_bT, y_bT)
    for loss in (aux_losses := getattr(t.model, "aux_losses", [])):
        objective = objective + loss
    aux_losses.clear()  # else they hold the graph until the next pass
    return MicroLoss(language, objective)


def largest_micro_batch(batch_size: int, at_most: int | None) -> int:
    """Return the largest divisor of the batch size that is at most `at_most` (None: no limit)."""
    limit = min(batch_size, at_most or batch_size)
    return next(size for size in range(limit, 0, -1) if batch_size % size == 0)
