"""How a model is fine-tuned on instructions; the defaults are those of the published study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from harness.config import ConfigError
from harness.config.metadata import number
from harness.config.validate import check_bounds, check_finite


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
    val_frac: float = number(0.05, above=0, below=1)
    test_frac: float = number(0.1, above=0, below=1)
    """Held out, in file order: training first, then test, then validation."""
    lr: float = number(5e-5, above=0)
    weight_decay: float = number(0.1, at_least=0)
    batch_size: int = number(8, above=0)
    max_epochs: int = number(20, above=0)
    """It stops sooner, at the first rise of the validation loss."""
    max_length: int = number(1024, above=0)
    """Tokens an example is cut to; never more than the model's context."""
    masked: bool = False
    """Whether the prompt's tokens are left out of the loss."""
    dropout: Dropout = Dropout.model
    lora_rank: int = number(0, at_least=0)
    """0: all weights; else low-rank adapters on every linear layer but the head, through peft."""
    lora_alpha: int = number(16, above=0)
    template: Template = Template.alpaca
    answer_tokens: int = number(256, above=0)
    """Longest answer; one that is cut there is marked truncated."""
    device: str = "auto"
    threads: int = number(1, above=0, at_most=10_000)
    """On a CPU; more than its free cores make it many times slower."""
    out: str = "finetuned"


NOT_SCIENCE = ("seeds", "device", "threads", "out")
"""Settings that change no number of a fine-tuning with a given seed."""


def parse(arguments: Sequence[str]) -> TuneConfig:
    """Read KEY=VALUE settings; `ConfigError` for an unknown key or a value that is not one."""
    tree, config = OmegaConf.structured(TuneConfig), TuneConfig()
    for text in arguments:
        try:
            given = OmegaConf.from_dotlist([text])
            if isinstance(switch := given.get("dropout"), bool):  # YAML reads on and off as such
                given["dropout"] = (Dropout.on if switch else Dropout.off).value
            tree = OmegaConf.merge(tree, given)
            config = cast(TuneConfig, OmegaConf.to_object(tree))
        except (OmegaConfBaseException, YAMLError, ValueError) as error:
            reason = " ".join(str(error).splitlines()[:1])
            hint = "see: python -m harness.finetune --help"
            raise ConfigError(f"cannot take {text!r}: {reason}; {hint}") from error
    _check(config)
    return config


def _check(config: TuneConfig) -> None:
    if not config.seeds or len(set(config.seeds)) < len(config.seeds):
        raise ConfigError(f"seeds={config.seeds}: name at least one, and each once")
    check_finite(config)
    check_bounds(config)
    if not config.val_frac + config.test_frac < 1:
        raise ConfigError(
            f"val_frac={config.val_frac} and test_frac={config.test_frac} must leave something to "
            "train on"
        )
