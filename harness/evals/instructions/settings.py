"""How a model is fine-tuned on instructions; the defaults are those of the published study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.config import ConfigError


class Dropout(Enum):
    """Dropout while fine-tuning."""

    model = "model"
    """As the model was trained."""
    on = "on"
    """0.1"""
    off = "off"


class Template(Enum):
    """The words around an instruction."""

    alpaca = "alpaca"
    short = "short"
    """Without the sentence before the instruction: for models with a small context."""


@dataclass(kw_only=True, slots=True)
class TuneConfig:
    """What is asked for, as KEY=VALUE."""

    data: str = "demo"
    """demo (bundled), instruction_data (the published study's), alpaca, or a JSON or YAML file."""
    seeds: list[int] = field(default_factory=lambda: [42])
    """One fine-tuning each."""
    val_frac: float = 0.05
    test_frac: float = 0.1
    """Held out, in file order: training first, then test, then validation."""
    lr: float = 5e-5
    weight_decay: float = 0.1
    batch_size: int = 8
    max_epochs: int = 20
    """It stops sooner, at the first rise of the validation loss."""
    max_length: int = 1024
    """Tokens an example is cut to; never more than the model's context."""
    masked: bool = False
    """Whether the prompt's tokens are left out of the loss."""
    dropout: Dropout = Dropout.model
    lora_rank: int = 0
    """0: all weights; else low-rank adapters on every linear layer but the head, through peft."""
    lora_alpha: int = 16
    template: Template = Template.alpaca
    answer_tokens: int = 256
    """Longest answer; one that is cut there is marked truncated."""
    device: str = "auto"
    threads: int = 1
    """On a CPU; more than its free cores make it many times slower."""
    out: str = "finetuned"


NOT_SCIENCE = ("seeds", "device", "threads", "out")
"""Settings that change no number of a fine-tuning with a given seed."""


def parse(arguments: Sequence[str]) -> TuneConfig:
    """Read KEY=VALUE settings; `ConfigError` for an unknown key or a value that is not one."""
    try:
        given = OmegaConf.from_dotlist(list(arguments))
        if isinstance(switch := given.get("dropout"), bool):  # YAML reads on and off as such
            given["dropout"] = (Dropout.on if switch else Dropout.off).value
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TuneConfig), given))
    except OmegaConfBaseException as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"{first}; see python -m harness.finetune --help") from error
    if not isinstance(config, TuneConfig):
        raise TypeError(config)
    _check(config)
    return config


def _check(config: TuneConfig) -> None:
    if not config.seeds or len(set(config.seeds)) < len(config.seeds):
        raise ConfigError(f"seeds={config.seeds}: name at least one, and each once")
    for name in (
        "lr",
        "batch_size",
        "max_epochs",
        "max_length",
        "answer_tokens",
        "lora_alpha",
        "threads",
    ):
        if not getattr(config, name) > 0:
            raise ConfigError(f"{name}={getattr(config, name)}: allowed is above 0")
    for name in ("weight_decay", "lora_rank"):
        if not getattr(config, name) >= 0:
            raise ConfigError(f"{name}={getattr(config, name)}: allowed is 0 or more")
    if not (
        config.val_frac > 0 and config.test_frac > 0 and config.val_frac + config.test_frac < 1
    ):
        raise ConfigError("val_frac and test_frac must be above 0, and leave something to train on")
