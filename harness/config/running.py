"""How a cell is run and watched: evaluation, samples, logs, checkpoints, hardware, tracking."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Backend(Enum):
    """Mirrors of the local records."""

    none = "none"
    wandb = "wandb"
    trackio = "trackio"
    """Needs the extra: ``pip install llm-interventions[trackio]``."""


class WandbMode(Enum):
    """``online`` needs a logged-in user; otherwise the run stays offline and says so."""

    offline = "offline"
    online = "online"


@dataclass(kw_only=True, slots=True)
class EvalConfig:
    """Validation along training and the final test."""

    test_sequences: int = 19_200
    """Sequences of block_size tokens from the start of the test split."""
    val_sequences: int = 192
    n_val: int = 20
    """Validations along training, evenly spaced."""


@dataclass(kw_only=True, slots=True)
class SampleConfig:
    """Completions along training; they change no result."""

    prompts: list[str] = field(default_factory=lambda: ["Every effort moves you"])
    steps: list[int] | None = None
    """Steps after which to sample; None: `n_times` evenly spaced steps, the last included."""
    n_times: int = 5
    tokens: int = 20
    temperature: float = 1.0
    top_k: int = 25


@dataclass(kw_only=True, slots=True)
class LogConfig:
    """What is written along training."""

    n_points: int = 200
    """Lines of ``metrics.jsonl``, evenly spaced."""


@dataclass(kw_only=True, slots=True)
class CheckpointConfig:
    """Saved states, so that a killed cell goes on where it was."""

    every_steps: int = 617
    """0: none along the way."""
    keep: int = 2
    """The newest states kept while the cell runs; older ones are deleted."""
    n_weights: int = 0
    """Weights alone, kept for good at so many evenly spaced steps, as ``weights/*.safetensors``."""


@dataclass(kw_only=True, slots=True)
class HardwareConfig:
    """Changes the speed, never the mathematics beyond rounding."""

    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:1``."""
    micro_batch: int | None = None
    """Sequences per forward pass; None: the whole batch. Lowered to the next divisor of a device's
    share of ``train.batch_size``."""
    threads: int = 1
    """CPU threads of one cell."""
    n_devices: int = 1
    """Processes that train one cell together through torchrun, each on a device of its own."""
    compile: bool = False
    """Compile the model for the device: minutes at first, then kept on disk for all cells.
    Pays on GPUs only. Dropout masks then differ, as with another micro-batch."""
    deterministic: bool = False
    """Bit-identical weights on a GPU, too, for some of its speed; a CPU gives them anyway."""
    slots: int | None = None
    """Cells of a sweep that run at once; None: one per GPU, or per `threads` CPU cores."""
    usd_per_hour: float | None = None
    peak_flops: float | None = None
    """FLOP/s of the device, for MFU."""


@dataclass(kw_only=True, slots=True)
class TrackingConfig:
    """Mirror of the records; local files are the truth."""

    backend: Backend = Backend.none
    mode: WandbMode = WandbMode.offline
    project: str = "llm-interventions"
    entity: str | None = None
    tags: list[str] = field(default_factory=list)
