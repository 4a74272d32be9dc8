"""What can change a cell's numbers: seeds, model, data, budget, optimiser, precision."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import II

from harness.config.metadata import Slot, later, number, slot


class Tokenizer(Enum):
    """Tokenizers whose ids fit in 16 bits."""

    bytes = "bytes"
    gpt2 = "gpt2"


VOCAB_SIZE = {"bytes": 257, "gpt2": 50257}
"""Both include one end-of-text token, the last id."""


class Source(Enum):
    """Where a corpus comes from."""

    stdlib_docs = "stdlib_docs"
    text = "text"
    hub = "hub"
    hub_tokens = "hub_tokens"


class Cut(Enum):
    """Whether text files are cut into documents where nothing in them says where."""

    auto = "auto"
    never = "never"


class Autocast(Enum):
    """Number format of the forward and backward pass; the weights stay float32."""

    none = "none"
    fp16 = "fp16"
    bf16 = "bf16"


class Matmul(Enum):
    """PyTorch's float32 matrix-product precision: ``high`` allows TF32."""

    highest = "highest"
    high = "high"


@dataclass(kw_only=True, slots=True)
class SeedsConfig:
    """The three seeds; ``seed=N`` sets all of them."""

    init: int = number(II("seed"), at_least=0, at_most=2**63 - 1)
    """Initial weights."""
    data: int = number(II("seed"), at_least=0, at_most=2**63 - 1)
    """Order of the training sequences (no effect with ``data.shuffle=false``)."""
    loop: int = number(II("seed"), at_least=0, at_most=2**63 - 1)
    """Dropout."""


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """A decoder-only transformer; defaults are the published GPT-2-small shape."""

    n_layer: int = number(12, above=0, at_most=10_000)
    """Blocks."""
    n_head: int = number(12, above=0, at_most=10_000)
    """Attention heads of a block; divides `n_embd`."""
    n_embd: int = number(768, above=0, at_most=10**6)
    """Width of the residual stream."""
    block_size: int = number(1024, unit="tokens", above=0, at_most=10**7)
    """Context length."""
    vocab_size: int = number(II("vocab_size:${data.tokenizer}"), above=0, at_most=10**6)
    """At least the tokenizer's size."""
    dropout: float = number(0.1, at_least=0, below=1)
    """Probability, on embeddings, attention weights and both residual branches."""
    qkv_bias: bool = False
    """Biases of the query, key and value projections."""
    tie_weights: bool = False
    """The output head shares the token embedding."""
    norm: Slot = slot("harness.model.LayerNorm")
    """Before attention, before the MLP, and before the head."""
    mlp: Slot = slot("harness.model.MLP")
    """Works on each position by itself."""
    attention: Slot = slot("harness.model.CausalSelfAttention")
    """Mixes positions."""
    position: Slot = slot("harness.model.LearnedPositions")
    """What is added to the embeddings to tell positions apart."""
    head: Slot = slot("harness.model.Head")
    """From the last hidden states to logits."""
    embedding: Slot = slot("harness.model.TokenEmbedding", later=True)
    """From token ids to vectors."""
    block: Slot = slot("harness.model.Block", later=True)
    """A layer, made of norm, attention and MLP."""
    architecture: Slot = slot("harness.model.GPT", later=True)
    """The whole model, made of the other slots or of parts of its own."""


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """A corpus, prepared once into token files by ``python -m harness.prepare``."""

    name: str = "stdlib_docs"
    """Names the prepared folder below ``data_dir``."""
    source: Source = Source.stdlib_docs
    """Where the corpus comes from; which of the keys below count depends on it."""
    tokenizer: Tokenizer = Tokenizer.bytes
    """What makes tokens of the text."""
    path: str | None = None
    """source=text: a file, a folder or a glob of UTF-8 text.
    source=hub_tokens: a folder with the safetensors files, instead of the hub."""
    document_separator: str | None = None
    r"""source=text: cuts files into documents here, e.g. ``<|endoftext|>`` or ``\n\n\n``."""
    cut: Cut = later(lambda: Cut.auto)
    """source=text: ``auto``: 200 files or more are a document each, fewer are cut at blank lines;
    ``never``: a file is a document, so that nothing of one file is in two splits."""
    repo: str | None = None
    """source=hub, hub_tokens: the dataset's id on the Hugging Face hub."""
    revision: str | None = None
    """source=hub, hub_tokens: a commit, tag or branch; None: the newest when it is prepared."""
    config: str | None = None
    """source=hub: the dataset's config name, e.g. ``sample-10BT``."""
    split: str = "train"
    """source=hub: the dataset's split to read."""
    text_column: str = "text"
    """source=hub: the column that holds the text; source=text: that field of .jsonl files, of which
    each line is a document."""
    max_tokens: int | None = number(None, unit="tokens", above=0, at_most=10**16)
    """At most this many tokens over all splits, in whole documents (source=hub_tokens: training
    tokens); None: the whole source."""
    val_frac: float = number(0.05, at_least=0, below=1)
    """Fraction of documents for validation, drawn by a hash of each document's text."""
    test_frac: float = number(0.05, at_least=0, below=1)
    """Fraction of documents for the test set, likewise."""
    shuffle: bool = True
    """Visit the training sequences in an order drawn from the data seed; false: as stored."""
    test_start_token: int | None = number(None, unit="tokens", at_least=0, at_most=10**16)
    """source=hub_tokens: the test set begins here in the published validation tokens."""
    pipeline: Slot = later(dict)
    """What cuts the training tokens into sequences; none: at every ``model.block_size`` tokens."""


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    """How much training; fixed by the study, whatever the hardware."""

    batch_size: int = number(96, unit="sequences", above=0, at_most=10**8)
    """Sequences per optimiser step, over all devices and accumulation steps."""
    tokens: int = number(3_260_190_720, unit="tokens", above=0, at_most=10**16)
    """Token budget; the number of steps is this over the tokens per step, rounded down."""
    equal_flops: bool = later(bool)
    """Train an arm for as many floating-point operations as the baseline's `tokens` cost, as
    PyTorch counts them, and not for as many tokens."""
    equal_seconds: bool = later(bool)
    """Likewise for as many seconds of training, as this machine takes: see `relative_seconds`."""
    relative_seconds: float | None = number(None, above=0, at_most=1e6, later=True)
    """With `equal_seconds`: a token's seconds over the baseline's. Measured when an arm's first
    cell is frozen, noted there, and taken over by its other cells; or give one of your own."""
    round_up: bool = later(bool)
    """Round the number of steps up instead."""
    batch_stages: list[Any] = later(list)
    """Pairs [fraction of the token budget, fraction of `batch_size`]: from the one on, steps have
    the other, e.g. [[0, 0.25], [0.1, 1]]; none: all steps are alike."""
    length_stages: list[Any] = later(list)
    """Likewise with fractions of ``model.block_size``: a step then holds more sequences that are
    shorter, and as many tokens."""
    max_skipped_steps: int = number(50, unit="steps", above=0)
    """This many non-finite steps in a row: the run is recorded as diverged."""
    init_from: str | None = later(lambda: None)
    """Begin with these trained weights: a cell's folder, an arm's (its cell with the same seeds),
    either ``@STEP``, or ``hf:NAME``; what they do not hold starts as always."""
    init_sha256: str | None = later(lambda: None)
    """Hash of their file, noted when the cell is frozen: it, not their place, is in the cell's
    identity."""

    @property
    def equal_budget(self) -> str | None:
        """What the arms spend equally much of; None: tokens."""
        return "FLOPs" if self.equal_flops else "seconds" if self.equal_seconds else None


@dataclass(kw_only=True, slots=True)
class OptimConfig:
    """The optimiser."""

    optimizer: Slot = slot("harness.optim.adamw")
    """A class of PyTorch's kind, or a function of the model and this group."""
    lr: float = number(4e-4, above=0, at_most=1e31)
    """Peak learning rate; the schedule multiplies it."""
    weight_decay: float = number(0.1, at_least=0)
    """On every parameter, as published."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    """Adam's decay rates of the first and second moment."""
    eps: float = number(1e-8, above=0)
    """Added to the root of Adam's second moment."""
    grad_clip: float | None = number(None, above=0)
    """Maximum norm of all gradients together; None: no clipping."""
    schedules: dict[str, Slot] = later(dict)
    """Setting of the optimiser's parameter groups -> schedule of the factor on it:
    ``weight_decay``, ``momentum`` (of groups with betas: beta1), ``beta2`` or another number."""


@dataclass(kw_only=True, slots=True)
class PrecisionConfig:
    """Number formats of training. Evaluation is always float32, so that arms stay comparable."""

    autocast: Autocast = Autocast.none
    """Number format of the forward and backward pass; the weights stay float32."""
    matmul: Matmul = Matmul.highest
    """Precision of float32 matrix products: ``high`` allows TF32."""
    convert: Slot = later(dict)
    """A function of the model that changes its number formats, before the optimiser is built."""
