"""The configuration: one dataclass a group, every default here, overridden by ``conf/`` and you.

The defaults are the published 163M baseline; ``conf/scale/*.yaml`` shrinks it. Hydra checks
every key and type against these classes; behind `harness.compose` nothing else is passed around.
No heavy import here: refusing a config must be quick.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from omegaconf import II

Slot = dict[str, Any]
"""A part named by config: ``{"_target_": "module.Class", **keyword_arguments}``."""


def _slot(target: str) -> Any:
    return field(default_factory=lambda: {"_target_": target})


class ConfigError(ValueError):
    """A config that cannot be trained; the message is one line for the person who typed it."""


class Tokenizer(Enum):
    """Tokenizers whose ids fit in 16 bits."""

    bytes = "bytes"
    gpt2 = "gpt2"


VOCAB_SIZE = {"bytes": 257, "gpt2": 50257}
"""Both include one end-of-text token."""


class Source(Enum):
    """Where a corpus comes from."""

    stdlib_docs = "stdlib_docs"
    text = "text"
    hub = "hub"
    hub_tokens = "hub_tokens"


class Autocast(Enum):
    """Number format of the forward and backward pass; the weights stay float32."""

    none = "none"
    fp16 = "fp16"
    bf16 = "bf16"


class Matmul(Enum):
    """PyTorch's float32 matrix-product precision: ``high`` allows TF32."""

    highest = "highest"
    high = "high"


class Event(Enum):
    """Where an intervention's function is called; see `harness.events`."""

    model_built = "model_built"
    loss = "loss"
    gradients_ready = "gradients_ready"
    step_done = "step_done"
    before_eval = "before_eval"
    after_eval = "after_eval"


class Backend(Enum):
    """Mirrors of the local records."""

    none = "none"
    wandb = "wandb"


class WandbMode(Enum):
    """``online`` needs a logged-in user; otherwise the run stays offline and says so."""

    offline = "offline"
    online = "online"


@dataclass(kw_only=True, slots=True)
class SeedsConfig:
    """The three seeds; ``seed=N`` sets all of them."""

    init: int = II("seed")
    """Initial weights."""
    data: int = II("seed")
    """Order of the training sequences (no effect with ``data.shuffle=false``)."""
    loop: int = II("seed")
    """Dropout."""


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """A decoder-only transformer; defaults are the published GPT-2-small shape."""

    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    block_size: int = 1024
    """Context length in tokens."""
    vocab_size: int = II("vocab_size:${data.tokenizer}")
    """At least the tokenizer's size."""
    dropout: float = 0.1
    """Probability, on embeddings, attention weights and both residual branches."""
    qkv_bias: bool = False
    tie_weights: bool = False
    """The output head shares the token embedding."""
    norm: Slot = _slot("harness.model.LayerNorm")
    mlp: Slot = _slot("harness.model.MLP")
    attention: Slot = _slot("harness.model.CausalSelfAttention")
    position: Slot = _slot("harness.model.LearnedPositions")
    head: Slot = _slot("harness.model.Head")


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """A corpus, prepared once into token files by ``python -m harness.prepare``."""

    name: str = "stdlib_docs"
    """Names the prepared folder below ``data_dir``."""
    source: Source = Source.stdlib_docs
    tokenizer: Tokenizer = Tokenizer.bytes
    path: str | None = None
    """source=text: a file, a folder or a glob of UTF-8 text; one file is one document.
    source=hub_tokens: a folder with the safetensors files, instead of the hub."""
    document_separator: str | None = None
    r"""source=text: cuts a file into documents, e.g. ``<|endoftext|>`` or ``\n\n\n``."""
    repo: str | None = None
    """source=hub, hub_tokens: the dataset's id on the Hugging Face hub."""
    revision: str | None = None
    """source=hub, hub_tokens: a commit, tag or branch; None: the newest when it is prepared."""
    config: str | None = None
    """source=hub: the dataset's config name, e.g. ``sample-10BT``."""
    split: str = "train"
    """source=hub: the dataset's split to read."""
    text_column: str = "text"
    max_tokens: int | None = None
    """At most this many tokens over all splits, in whole documents (source=hub_tokens: training
    tokens); None: the whole source."""
    val_frac: float = 0.05
    """Fraction of documents for validation, drawn by a hash of each document's text."""
    test_frac: float = 0.05
    """Fraction of documents for the test set, likewise."""
    shuffle: bool = True
    """Visit the training sequences in an order drawn from the data seed; false: as stored."""
    test_start_token: int | None = None
    """source=hub_tokens: the test set begins here in the published validation tokens."""


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    """How much training; fixed by the study, whatever the hardware."""

    batch_size: int = 96
    """Sequences per optimiser step, over all devices and accumulation steps."""
    tokens: int = 3_260_190_720
    """Token budget; the number of steps is this over the tokens per step, rounded down."""
    max_skipped_steps: int = 50
    """This many non-finite steps in a row: the run is recorded as diverged."""


@dataclass(kw_only=True, slots=True)
class OptimConfig:
    """The optimiser."""

    optimizer: Slot = _slot("harness.optim.adamw")
    lr: float = 4e-4
    weight_decay: float = 0.1
    """On every parameter, as published."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8
    grad_clip: float | None = None
    """Maximum norm of all gradients together; None: no clipping."""


@dataclass(kw_only=True, slots=True)
class PrecisionConfig:
    """Number formats of training. Evaluation is always float32, so that arms stay comparable."""

    autocast: Autocast = Autocast.none
    matmul: Matmul = Matmul.highest


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
    """The newest states kept; older ones are deleted."""


@dataclass(kw_only=True, slots=True)
class HardwareConfig:
    """Changes the speed, never the mathematics beyond rounding."""

    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:1``."""
    micro_batch: int | None = None
    """Sequences per forward pass; None: the whole batch. Must divide ``train.batch_size``."""
    threads: int = 1
    """CPU threads of one cell."""
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


@dataclass(kw_only=True, slots=True)
class ReferenceConfig:
    """What overlays refer to where an absolute number means nothing at another scale."""

    higher_lr: float = 1.4e-3
    grad_clip: float = 3.5
    low_weight_decay: float = 0.01
    high_weight_decay: float = 0.33724
    small_batch: int = 6
    half_batch: int = 48
    double_batch: int = 192
    """Sequences per step, as the two before it."""


@dataclass(kw_only=True, slots=True)
class CardConfig:
    """An intervention's card: what it is, where it comes from, and what it hooks into."""

    summary: str
    source: str
    published_delta: float | None = None
    """Test loss minus baseline in nats per token, negative is better, as published."""
    published_where: str | None = None
    """Where `published_delta` stands, and at which scale."""
    event: Event | None = None
    fn: Slot | None = None
    """Called at `event`."""
    declares: list[str] = field(default_factory=list)
    """Groups among data, eval, seeds and hardware that this intervention has to touch."""
    control: bool = False
    """An A/A control: changes nothing, on purpose."""


@dataclass(kw_only=True, slots=True)
class StudyConfig:
    """The plan of a saved study: fixed before its first run."""

    arms: list[str] = field(default_factory=list)
    """``baseline``, an intervention, or several joined with ``+``."""
    seeds: int = 3
    """Seeds 0 … seeds-1 for every arm."""
    baseline_seeds: int | None = None
    """Seeds of the baseline; None: as many as the others."""
    alpha: float = 0.05
    """Family-wise error of the study's verdicts."""
    rope: float | None = None
    """Practically relevant difference, nats per token; None: one sd of the runs, labelled so."""


@dataclass(kw_only=True, slots=True)
class Config:
    """Everything that one cell needs."""

    study_name: str = "adhoc"
    """Names the folder below ``runs_dir``."""
    seed: int = 0
    runs_dir: str = "runs"
    data_dir: str = "data"
    overwrite: bool = False
    """Train again what is already complete."""
    scale_name: str = "gpt2_small"
    """Set by the scale, for messages."""
    seeds: SeedsConfig = field(default_factory=SeedsConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: Slot = _slot("harness.schedule.constant")
    """Learning-rate factor as a function of (step, n_steps)."""
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    log: LogConfig = field(default_factory=LogConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    interventions: dict[str, CardConfig] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    """What the interventions change: dotted key -> [baseline's value, this arm's]. Filled in by
    the harness."""
    study: StudyConfig = field(default_factory=StudyConfig)

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimiser step."""
        return self.train.batch_size * self.model.block_size

    @property
    def n_steps(self) -> int:
        """Optimiser steps that the token budget pays for."""
        return self.train.tokens // self.tokens_per_step

    @property
    def arm(self) -> str:
        """Sorted intervention names joined with ``+``, or ``baseline``."""
        return "+".join(sorted(self.interventions)) or "baseline"


def scientific(config: Config, dataset_sha256: str) -> dict[str, Any]:
    """Return what can change a cell's numbers, as plain data: the cell id is its hash.

    Hardware, tracking, paths, logging and the wording of the cards are left out.
    """
    raw = asdict(config)
    hooks = {
        name: {"event": card["event"], "fn": card["fn"]}
        for name, card in raw["interventions"].items()
    }
    groups = ("seeds", "model", "train", "optim", "schedule", "precision")
    kept: dict[str, Any] = {name: raw[name] for name in groups}
    kept |= {
        "interventions": hooks,
        "dataset": dataset_sha256,
        "shuffle": config.data.shuffle,
        "test_sequences": config.eval.test_sequences,
    }
    result: dict[str, Any] = plain(kept)
    return result


def plain(value: Any) -> Any:
    """Return nested mappings and lists with enum members as their names."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def baseline_model(config: Config) -> ModelConfig:
    """Return the baseline's model config: this arm's, with its changes undone."""
    raw = asdict(config.model)
    for key, (value, _) in config.changes.items():
        group, _, name = key.partition(".")
        if group == "model":
            _set(raw, name.split("."), value)
    return ModelConfig(**raw)


def _set(tree: dict[str, Any], path: list[str], value: Any) -> None:
    *parents, last = path
    for name in parents:
        tree = tree[name]
    if value is None and parents:  # a slot's argument that the baseline does not have
        tree.pop(last, None)
    else:
        tree[last] = value
