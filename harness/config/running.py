"""How a cell is run and watched: evaluation, samples, logs, checkpoints, hardware, tracking."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from harness.config.metadata import later, number
from harness.config.science import DataConfig


class Backend(Enum):
    """Mirrors of the local records."""

    none = "none"
    wandb = "wandb"
    trackio = "trackio"
    """Needs the extra: ``pip install -e '.[trackio]'`` in the clone."""


class WandbMode(Enum):
    """``online`` needs a logged-in user; otherwise the run stays offline and says so."""

    offline = "offline"
    online = "online"


@dataclass(kw_only=True, slots=True)
class EvalConfig:
    """Validation along training and the final test."""

    test_sequences: int = number(19_200, unit="sequences", above=0)
    """Sequences of block_size tokens of each test set."""
    spread: bool = later(bool)
    """Take the sequences of validation and test from all over their splits, at even distances,
    instead of from the start: they then come from as many documents as there are."""
    block_size: int | None = number(None, unit="tokens", above=0)
    """Length of a sequence in validation and test; None: ``model.block_size``."""
    data: dict[str, DataConfig] = field(default_factory=dict)
    """Corpora to test on, by name: their test splits, tokenised as ``data`` is. A prepared one is
    added by ``'+data@eval.data.NAME=fineweb'``."""
    test_set: str | None = None
    """The main test set, a name in `data`: validation and test losses, which studies compare, are
    measured on that corpus; None: on the training corpus'."""
    val_sequences: int = number(192, unit="sequences", above=0)
    """Sequences of each validation."""
    n_val: int = number(20, at_least=0, at_most=10**6)
    """Validations along training, evenly spaced."""


@dataclass(kw_only=True, slots=True)
class SampleConfig:
    """Completions along training; they change no result."""

    prompts: list[str] = field(default_factory=lambda: ["Every effort moves you"])
    """What is completed."""
    steps: list[int] | None = None
    """Steps after which to sample; None: `n_times` evenly spaced steps, the last included."""
    n_times: int = number(5, at_least=0, at_most=10**6)
    """Samples along training, evenly spaced."""
    tokens: int = number(20, unit="tokens", above=0, at_most=10**6)
    """Length of a completion."""
    temperature: float = number(1.0, above=0)
    """What logits are divided by."""
    top_k: int = number(25, unit="tokens", above=0)
    """The likeliest, among which each token is drawn."""


@dataclass(kw_only=True, slots=True)
class LogConfig:
    """What is written along training."""

    n_points: int = number(200, above=0, at_most=10**6)
    """Lines of ``metrics.jsonl``, evenly spaced."""


@dataclass(kw_only=True, slots=True)
class CheckpointConfig:
    """Saved states, so that a killed cell goes on where it was."""

    every_steps: int = number(617, unit="steps", at_least=0)
    """Between two saved states; 0: none along the way."""
    keep: int = number(2, above=0)
    """The newest states kept while the cell runs; older ones are deleted."""
    n_weights: int = number(1, at_least=0, at_most=10**6)
    """Weights alone, kept for good at so many evenly spaced steps, as ``weights/*.safetensors``;
    1: the last ones, which can be sampled from, exported and tuned."""


class CompileMode(Enum):
    """What the compiler may spend to be faster; PyTorch's modes of ``torch.compile``."""

    default = "default"
    reduce_overhead = "reduce-overhead"
    """CUDA graphs."""
    max_autotune = "max-autotune"
    """CUDA graphs, and matrix products chosen by trial: minutes more at first."""


class AttentionKernel(Enum):
    """Which kernel ``scaled_dot_product_attention`` takes on a GPU."""

    auto = "auto"
    flash = "flash"
    cudnn = "cudnn"
    efficient = "mem_efficient"


@dataclass(kw_only=True, slots=True)
class HardwareConfig:
    """Changes the speed, never the mathematics beyond rounding."""

    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:1``."""
    micro_batch: int | None = number(None, unit="sequences", above=0)
    """Sequences per forward pass; None: the whole batch. Lowered to the next divisor of a device's
    share of ``train.batch_size``."""
    threads: int = number(1, above=0, at_most=10_000)
    """CPU threads of one cell."""
    n_devices: int = number(1, above=0, at_most=10_000)
    """Processes that train one cell together through torchrun, each on a device of its own."""
    compile: bool = False
    """Compile the model for the device: half a minute or more at first, then read from the study's
    folder by all cells. Pays on GPUs only. Dropout masks then differ, as with another
    micro-batch."""
    compile_mode: CompileMode = CompileMode.default
    """PyTorch's modes of ``torch.compile``."""
    attention: AttentionKernel = AttentionKernel.auto
    """The kernel of ``scaled_dot_product_attention`` on a GPU."""
    head_rows: int | None = number(None, unit="tokens", above=0)
    """Tokens of a micro-batch whose logits exist at once; None: as many as make 2**27 logits on a
    GPU, 2**24 on a CPU. More take memory and save passes over the head's gradient."""
    deterministic: bool = False
    """Bit-identical weights on a GPU, too, for some of its speed; a CPU gives them anyway."""
    slots: int | None = number(None, above=0, at_most=10_000)
    """Cells of a sweep that run at once; None: as many as there is room for, `cells_per_gpu` on
    each GPU, or one on `threads` of the CPU cores that this process or its container may use, as
    far as their memory holds them."""
    cells_per_gpu: int | str = number(1, above=0, at_most=1000)
    """Cells that share each GPU, for models that leave most of it idle; ``auto``: as many as
    train the most tokens together, measured before the first cell."""
    usd_per_hour: float | None = number(None, unit="dollars", at_least=0)
    """Price of one device for an hour."""
    peak_flops: float | None = number(None, unit="FLOP/s", above=0, at_most=1e18)
    """Of the device, for MFU."""


@dataclass(kw_only=True, slots=True)
class TrackingConfig:
    """Mirror of the records; local files are the truth."""

    backend: Backend = Backend.none
    """The tracker; trackio needs its extra."""
    mode: WandbMode = WandbMode.offline
    """Online needs a logged-in user; otherwise the run stays offline and says so."""
    project: str | None = None
    """The tracker's project; None: ``llm-interventions``, on trackio the study's name."""
    entity: str | None = None
    """W&B's team or user; None: the account's default."""
    tags: list[str] = field(default_factory=list)
    """Further tags of each run."""
