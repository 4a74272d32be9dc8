"""Supervised fine-tuning on instructions: the published recipe, every draw keyed.

Shape suffixes: B batch, T time, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.config import ConfigError
from harness.engine import checkpoint
from harness.engine.randomness import key, seed_global
from harness.evals.instructions.data import ANSWER_HEADER, Example, Instructions
from harness.evals.instructions.settings import TuneConfig

if TYPE_CHECKING:
    import tiktoken

log = logging.getLogger(__name__)
IGNORED = -100
"""Target that enters no loss."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """An example as token ids, its end-of-text token last."""

    ids: list[int]
    n_prompt: int
    """The first so many are the prompt and the answer's header."""


def encode(
    examples: Sequence[Example], encoding: tiktoken.Encoding, config: TuneConfig, longest: int
) -> list[Tokens]:
    """Return the examples' tokens, one more than `longest` at most: inputs and targets overlap."""
    found = []
    for example in examples:
        prompt = encoding.encode_ordinary(example.prompt(config.template) + ANSWER_HEADER)
        whole = encoding.encode_ordinary(
            example.prompt(config.template) + ANSWER_HEADER + example.output
        )
        found.append(Tokens([*whole, encoding.eot_token][: longest + 1], len(prompt)))
    return found


def collate(batch: Sequence[Tokens], end: int, *, masked: bool) -> tuple[Tensor, Tensor]:
    """Return x_BT and y_BT, padded to the longest with end-of-text.

    Of the end-of-text tokens the first is a target, the padding behind it is not; with `masked`,
    neither is the prompt.
    """
    longest = max(len(tokens.ids) for tokens in batch) - 1
    x_BT = torch.full((len(batch), longest), end)
    y_BT = torch.full((len(batch), longest), IGNORED)
    for row, tokens in enumerate(batch):
        n = len(tokens.ids) - 1
        first = tokens.n_prompt - 1 if masked else 0
        x_BT[row, :n] = torch.tensor(tokens.ids[:-1])
        y_BT[row, first:n] = torch.tensor(tokens.ids[1 + first :])
    return x_BT, y_BT


def batch_loss(model: nn.Module, x_BT: Tensor, y_BT: Tensor) -> Tensor:
    """Return the mean cross-entropy over the batch's targets, nats per token."""
    logits_BTV = model(x_BT)
    return F.cross_entropy(logits_BTV.flatten(0, 1).float(), y_BT.flatten(), ignore_index=IGNORED)


@dataclass(slots=True)
class Tuning:
    """A fine-tuning under way; `step` and `epoch` decide every draw."""

    model: nn.Module
    config: TuneConfig
    seed: int
    train: list[Tokens]
    val: list[Tokens]
    end: int
    """The end-of-text token."""
    epoch: int = 0
    """Epochs done."""
    val_losses: list[float] = field(default_factory=list)
    """Before the first epoch, and after each."""
    train_losses: list[float] = field(default_factory=list)
    """Mean over each epoch's steps."""
    stopped: bool = False
    """The validation loss rose."""
    optimizer: torch.optim.Optimizer = field(init=False)
    kept: dict[str, Tensor] = field(default_factory=dict)
    """The weights with the lowest validation loss so far: those before the rise."""

    def __post_init__(self) -> None:
        """Make the optimiser over what is trained."""
        self.optimizer = torch.optim.AdamW(
            self.trained().values(), lr=self.config.lr, weight_decay=self.config.weight_decay
        )

    def trained(self) -> dict[str, nn.Parameter]:
        """Return the parameters that are trained: all, or the adapters'."""
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    def keep(self) -> None:
        """Remember the present weights."""
        self.kept = {name: p.detach().clone() for name, p in self.trained().items()}

    @torch.no_grad()
    def restore(self) -> None:
        """Put the remembered weights back."""
        for name, parameter in self.trained().items():
            parameter.copy_(self.kept[name])

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {
            "weights": {name: p.detach() for name, p in self.trained().items()},
            "kept": self.kept,
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "losses": [self.train_losses, self.val_losses],
            "stopped": self.stopped,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        for name, parameter in self.trained().items():
            parameter.copy_(state["weights"][name])
        device = next(self.model.parameters()).device
        self.kept = {name: value.to(device) for name, value in state["kept"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.stopped = state["epoch"], state["stopped"]
        self.train_losses, self.val_losses = state["losses"]


def tune(tuning: Tuning, folder: Path) -> None:
    """Train until the validation loss rises, and leave the model with the weights before that."""
    state, complaints = checkpoint.load_newest(folder)
    for complaint in complaints:
        log.warning(complaint)
    if state is not None:
        tuning.load_state_dict(state)
    else:
        tuning.keep()
        tuning.val_losses = [mean_loss(tuning)]
    while tuning.epoch < tuning.config.max_epochs and not tuning.stopped:
        tuning.train_losses.append(_train_epoch(tuning))
        tuning.val_losses.append(mean_loss(tuning))
        tuning.epoch += 1
        before, after = tuning.val_losses[-2:]
        if not np.isfinite(after):
            raise ConfigError(
                f"the validation loss is {after} after epoch {tuning.epoch}: lower lr"
            )
        tuning.stopped = after > before
        if not tuning.stopped:
            tuning.keep()
        checkpoint.save(folder, tuning.epoch, tuning.state_dict(), keep=1)
    tuning.restore()


def _train_epoch(tuning: Tuning) -> float:
    tuning.model.train()
    losses = []
    for step, batch in enumerate(batches(tuning)):
        seed_global(tuning.seed, "finetune dropout", tuning.epoch, step)
        loss = batch_loss(tuning.model, *_on_device(tuning, batch))
        loss.backward()  # type: ignore[no-untyped-call]
        tuning.optimizer.step()
        tuning.optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    tuning.model.eval()
    return float(np.mean(losses))


def batches(tuning: Tuning) -> Iterator[list[Tokens]]:
    """Yield an epoch's batches, in a keyed order; the last partial one is dropped."""
    stream = np.random.Generator(
        np.random.Philox(key=key(tuning.seed, "finetune order", tuning.epoch))
    )
    order, size = stream.permutation(len(tuning.train)), tuning.config.batch_size
    for first in range(0, len(order) - size + 1, size):
        yield [tuning.train[i] for i in order[first : first + size]]


@torch.inference_mode()
def mean_loss(tuning: Tuning) -> float:
    """Return the mean over validation batches, as the published study stops by."""
    tuning.model.eval()
    size = tuning.config.batch_size
    parts = [tuning.val[i : i + size] for i in range(0, len(tuning.val), size)]
    whole = [part for part in parts if len(part) == size] or parts
    losses = [float(batch_loss(tuning.model, *_on_device(tuning, part))) for part in whole]
    return float(np.mean(losses))


def _on_device(tuning: Tuning, batch: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
    device = next(tuning.model.parameters()).device
    x_BT, y_BT = collate(batch, tuning.end, masked=tuning.config.masked)
    return x_BT.to(device), y_BT.to(device)


def add_lora(model: nn.Module, config: TuneConfig, seed: int) -> None:
    """Freeze the model, and add adapters to every linear layer but the head."""
    from peft import LoraConfig, inject_adapter_in_model

    head = getattr(model, "head", None)
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head]
    model.requires_grad_(False)
    seed_global(seed, "finetune lora")
    inject_adapter_in_model(
        LoraConfig(r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=layers), model
    )


def data_of(
    instructions: Instructions, encoding: tiktoken.Encoding, config: TuneConfig, context: int
) -> tuple[list[Tokens], list[Tokens]]:
    """Return the training and the validation part as tokens.

    A prompt that fills the context leaves no room for its answer. That is logged, and refused if
    prompts are masked: nothing would be left to learn from.
    """
    longest = min(config.max_length, context)
    train, val = (
        encode(part, encoding, config, longest) for part in (instructions.train, instructions.val)
    )
    if blind := sum(tokens.n_prompt > longest for tokens in (*train, *val)):
        said = (
            f"{blind} of {len(train) + len(val)} prompts fill the {longest} tokens of the context, "
            "so that their answers are cut off: template=short makes prompts shorter"
        )
        if config.masked:
            raise ConfigError(f"{said}, or leave out masked=true")
        log.warning(said)
    return train, val
