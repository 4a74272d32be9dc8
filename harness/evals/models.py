"""Load a model in whatever form it is named, ready to evaluate, sample from, tune or export."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from harness.cell.provenance import versions
from harness.cell.sources import use_kept_sources
from harness.config import VOCAB_SIZE, Config, ConfigError, Tokenizer
from harness.config.frozen import read_config
from harness.data.tokens import get_tokenizer
from harness.engine.devices import choose_device
from harness.events import Events
from harness.hub.tokenizer import WHOLE, folder_tokenizer
from harness.hub.weights import TOKENIZER_FILES, Weights, find_weights
from harness.model import GPT, build, count_parameters, set_progress
from harness.records import CONFIG_FILE, RunRecord
from harness.records.cell import Cell

if TYPE_CHECKING:
    import tiktoken


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedModel:
    """A trained model in evaluation mode, float32, with all that is needed to use it."""

    name: str
    """``ARM/CELL@STEP`` or ``hf:NAME@COMMIT``."""
    model: GPT
    encoding: tiktoken.Encoding
    weights: Weights
    config: Config | None = None
    """The cell's frozen config; None: not of a cell."""
    record: RunRecord | None = None
    """The cell's record."""

    @property
    def block_size(self) -> int:
        """Context length in tokens."""
        return self.model.config.block_size

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return next(self.model.parameters()).device

    def provenance(self) -> dict[str, Any]:
        """Say as plain data which weights these are."""
        return {
            "model": self.name,
            "weights_sha256": self.weights.sha256,
            "n_params": count_parameters(self.model),
            "block_size": self.block_size,
            "tokenizer": self.encoding.name,
            "cell": self.record.cell if self.record else None,
            "arm": self.record.arm if self.record else None,
            "step": self.weights.step,
        }

    def provenance_of_measurement(self) -> dict[str, Any]:
        """Say as plain data which weights are measured, where, with what and by which command."""
        return {
            **self.provenance(),
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "packages": versions(),
            "command": sys.orig_argv,
        }


def load(text: str, device: str = "auto") -> LoadedModel:
    """Load a model by its name, which `harness.hub.weights` explains.

    `ConfigError` where there is no such model, or its weights do not fit; it says what to do.
    """
    return load_weights(find_weights(text), device)


def load_weights(weights: Weights, device: str = "auto") -> LoadedModel:
    """Build the model that weights were trained in, and put them in."""
    config = record = None
    if weights.cell is not None:
        config = read_config(weights.cell / CONFIG_FILE)
        use_kept_sources(config, weights.cell)
        record = Cell(weights.cell).record()
    model = build(weights.config)
    if config is not None:
        Events(config.interventions).model_built(model, config.seeds.init)
        set_progress(model, (weights.step or 0) / config.n_steps)
    _put_in(model, weights)
    encoding = get_tokenizer(config.data.tokenizer) if config else _hub_encoding(weights)
    model.requires_grad_(True).to(choose_device(device)).eval()
    return LoadedModel(
        name=weights.name, model=model, encoding=encoding, weights=weights, config=config,
        record=record,
    )  # fmt: skip


@torch.no_grad()
def _put_in(model: GPT, weights: Weights) -> None:
    found = weights.tensors()
    for name, parameter in model.named_parameters():
        if name not in found or found[name].shape != parameter.shape:
            have = [*found[name].shape] if name in found else "missing"
            raise ConfigError(
                f"{weights.file} does not fit the model: {name} is {have}, the model has "
                f"{[*parameter.shape]}"
            )
        parameter.data = found[name].clone()


def _hub_encoding(weights: Weights) -> tiktoken.Encoding:
    """Return the tokenizer of a hub model: its own files, or the one of that vocabulary's size."""
    size, names = weights.config.vocab_size, {size: name for name, size in VOCAB_SIZE.items()}
    if found := folder_tokenizer(weights.file.parent):
        if found.n_vocab > size:
            raise ConfigError(
                f"{weights.name} knows {size} tokens, and the tokenizer beside it has ids up to "
                f"{found.max_token_value}: put the model's own there"
            )
        return found
    if size not in names:
        raise ConfigError(
            f"{weights.name} has {size} tokens and no tokenizer beside its weights: put its "
            f"{WHOLE}, or {' and '.join(TOKENIZER_FILES)}, there"
        )
    return get_tokenizer(Tokenizer(names[size]))
